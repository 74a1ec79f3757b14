"""The report on a store: runs, machines, missing cells, claims, tables, figures, curves, failures, single cells.

`to_html(build(store))` gives a page that needs no network. `to_markdown(build(store))` gives a version for a README.
The paper's claims, tables and figures are included only if the store has the paper's cells. The rest works for any
sweep.

The module `build` reads the store. The modules `completeness`, `provenance`, `variants`, `metrics` and `curves` have
pure functions of frames. `paper` computes the claims, tables and figures, `charts` specifies the charts, and `html`
and `markdown` render the report. Importing this package imports no submodule.
"""
