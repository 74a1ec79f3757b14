"""One page about a store: what ran and where, missing cells, claims, tables, figures, curves, failures, single cells.

`to_html(build(store))` is a page that needs no network; `to_markdown(build(store))` is the same for a README.
The paper's claims, tables and figures are there only where the store holds the paper's cells; all else works for any
sweep. `build` reads the store; `completeness`, `provenance`, `variants`, `metrics` and `curves` are pure functions of
frames; `paper` calls the analysis, `charts` draws, `html` and `markdown` write.
Importing this package loads nothing heavy.
"""
