"""Numbers from a store's cells: recovery, spread, tables, figures, claims, the report.

Folders import in one direction: `claims, figures, tables, report > cells, statistics, paper > errors, rendering`;
figures and claims use tables, never the reverse. Importing this package loads nothing.
"""
