"""Analysis of a store's cells: recovery, spread over seeds, tables, figures, claims, questions and the report.

A folder imports only folders of its own group and of groups further right:
`report > claims, figures, questions, tables > cells, statistics, paper > errors, rendering`. Figures and claims
import tables, never the reverse. Importing this package imports no submodule.
"""
