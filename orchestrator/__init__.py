"""Plans, schedules, runs, records and queries the cells of sweeps.

A folder a stage; each imports only what stands to its right:
cli > launch > schedule > executors > query, run > store > sweep > text, errors, process, status
"""
