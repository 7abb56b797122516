"""What exists: the assets, one room a noun. Each reads its config, calls one step of the workflow, shows what came out.

Not here: how anything is done (domain/), whether it is good (checks/), when it is done (jobs.py, sensors/).
"""
