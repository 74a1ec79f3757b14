"""Analysis of a store's cells: recovery, spread, tables, figures, claims and the report.

Folders import in one direction: `claims, figures, tables, report > cells, statistics, paper > errors, rendering`;
figures and claims use tables, never the reverse. Importing this package imports no submodule.
"""
