"""Workers: any number of processes that take trials of one study, here or on other machines.

In goes a study with its experiment; its trials are run until the budget is used up. Start at
`worker`; `local_workers` and `ray_workers` start several, and `interrupts` brings them to a safe
place to stop.
"""
