"""What is wrong with a network, beside the objects that it must see.

In go an architecture or a module, and a target; out come findings, each with its numbers and a
remedy. Start at `diagnosis`, which gathers the facts; `_rules` judges them.

Public names: `diagnose`, `Finding`.
"""
