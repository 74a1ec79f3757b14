"""Analysis of a store's cells: recovery, spread over seeds, tables, figures, claims and the report.

Folders import in one direction: `claims, figures, tables, report > cells, statistics, paper > errors, rendering`.
Figures and claims import tables, never the reverse. Importing this package imports no submodule.
"""
