"""The report on a store: runs, machines, missing cells, claims, tables, figures, curves, failures, single cells.

`to_html(build(store))` gives a page that needs no network. `to_markdown(build(store))` gives a version for a README.
The paper's claims, tables and figures are included only if the store has the paper's cells. The rest works for any
sweep. `build` reads the store. `completeness`, `provenance`, `variants`, `metrics` and `curves` are pure functions of
frames. `paper` calls the analysis, `charts` draws, `html` and `markdown` write. Importing this package imports no
submodule.
"""
