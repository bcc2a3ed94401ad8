"""A search for somebody who was not there: the HTML report, the dashboard, the terminal's table.

In goes a study, with its experiment if that is at hand; out comes one HTML file, or a copy of the
study for optuna-dashboard. Start at `html`, which fills `templates/report.html.jinja`.
"""
