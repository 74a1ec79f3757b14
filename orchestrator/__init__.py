"""The orchestrator: it plans, schedules, runs, records and queries the cells of sweeps.

One folder per stage; a folder imports only from those to its right:
cli > launch > schedule > executors > query, run > store > sweep > text, errors, process, status, waits
"""
