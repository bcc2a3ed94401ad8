"""Databases of studies: opening and closing them, waiting while they are away, lost trials.

In goes an address; out comes an Optuna storage that tries again. Start at `storage`, then
`recovery`, which finds the trials of workers that have died.
"""
