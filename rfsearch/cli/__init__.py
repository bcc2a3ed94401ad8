"""The command line: one module for each command, gathered in `app`.

Commands only read their options, call the other rooms, and print. What is wrong with the user's
input is one line and exit code 2 (`_errors`).
"""
