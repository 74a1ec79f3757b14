"""One page about a store: what ran and where, what is missing, claims, tables, figures, curves, failures, cells.

`to_html(gather(store))` is a page that needs no network; `to_markdown(gather(store))` is the same for a README.
What is the paper's is there only where the store holds the paper's cells; the rest serves any sweep. A file does one
thing: `gather` reads the store, `completeness`, `whereabouts`, `settings`, `metrics`, `curves`, `failures` and `drill`
are pure functions of frames, `paper` asks the analysis, `charts` draws, `page` and `markdown` write.
Importing this package loads nothing heavy.
"""
