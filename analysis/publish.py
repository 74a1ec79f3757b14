"""Writes all tables, figures, claims and a page on rounding to `docs/results`. The same cells give the same bytes.

python -m raysweep.analysis.publish [--store results [OTHER ...]] [--to docs/results] [--save CELLS.parquet]
    [--without-figures]

A store may also be a file of cells that `--save` wrote; such cells have no arrays.

If there are cells of fresh seeds (`FRESH`), the pages are of these, and the folder `paper-seeds` has the same pages of
the other cells, which are of the paper's seeds. An experiment, or a size of its network, without fresh seeds has its
other cells on both.

Tables and figures that cannot be made from the cells are listed instead. Exit code 2 means that a store does not exist
or that the folder cannot be written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import polars as pl

from raysweep.analysis.cells.source import Source, from_file, from_store, joined, to_file
from raysweep.analysis.claims import ledger
from raysweep.analysis.claims import render as render_claims
from raysweep.analysis.claims.rounding import page as rounding_page
from raysweep.analysis.errors import NothingDone
from raysweep.analysis.figures import CAPTIONS, FIGURES, save
from raysweep.analysis.tables import TABLES
from raysweep.analysis.tables.render import RENDERERS
from raysweep.orchestrator.errors import InputError, RaysweepError
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.text import printable

FRESH = range(1000, 1200)
"""Seeds that nobody had looked at when the rules of the verdicts were written (`docs/verdicts.md`)."""
OF_THE_PAPER = "paper-seeds"
"""Folder of the pages of the paper's seeds, if there are fresh ones."""


def pages(source: Source) -> dict[str, Source]:
    """Divide cells by seeds. Returns subfolder -> the cells of its pages; one entry if no fresh seed is done."""
    cells = source.cells
    fresh = pl.col("seed").is_in(FRESH)
    network = [name for name in ("experiment", "hidden") if name in cells.columns]
    renewed = cells.filter(fresh & (pl.col("status") == "done")).select(network).unique()
    if renewed.is_empty():
        return {"": source}
    others = cells.filter(~fresh)
    without = others.join(renewed, on=network, how="anti", nulls_equal=True, maintain_order="left")
    return {
        "": source._replace(cells=pl.concat([cells.filter(fresh), without])),
        OF_THE_PAPER: source._replace(cells=others),
    }


def write(source: Source, folder: Path, figures: bool = True) -> list[str]:
    """Write the tables, figures, claims and the page on rounding into a folder.

    Returns:
        One line for each table, figure or page that cannot be made, with the reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lacking: list[str] = []
    for name, build in TABLES.items():
        try:
            table = build(source)
        except InputError as error:
            lacking.append(f"table {name}: {error}")
            continue
        if table.lack is not None:
            lacking.append(f"table {name}: {table.lack}")
            continue
        text = RENDERERS["markdown"](table)
        (folder / f"table{name}.md").write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    captions = ["# Figures", ""]
    for name, draw in FIGURES.items() if figures else ():
        try:
            save(draw(source), folder / f"{name}.svg")
            captions += [f"![{name}]({name}.svg)", "", CAPTIONS[name](source), ""]
        except (InputError, NothingDone) as error:
            lacking.append(f"figure {name}: {error}")
    if figures:
        (folder / "figures.md").write_text("\n".join(captions).rstrip("\n") + "\n", encoding="utf-8")
    frame = ledger(source)
    claims = render_claims(frame, "markdown")
    (folder / "claims.md").write_text(claims.rstrip("\n") + "\n", encoding="utf-8")
    rounding = rounding_page(source, frame)
    if rounding is None:
        lacking.append("page rounding: no row of paper/rounding is done under two roundings of three seeds")
    else:
        (folder / "rounding.md").write_text(rounding, encoding="utf-8")
    return lacking


def _read(store: str) -> Source:
    return from_file(Path(store)) if store.endswith(".parquet") else from_store(Store(store).require())


def main() -> None:
    """Run the command that this module documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--store", nargs="+", default=["results"], help="stores or saved cells, several of which are combined"
    )
    parser.add_argument("--to", default="docs/results")
    parser.add_argument("--save", metavar="CELLS.parquet", help="also write the done cells to this file")
    parser.add_argument("--without-figures", action="store_true")
    options = parser.parse_args()
    try:
        source = joined([_read(store) for store in options.store])
        lacking = [
            f"{name}: {line}" if name else line
            for name, part in pages(source).items()
            for line in write(part, Path(options.to) / name, not options.without_figures)
        ]
        if options.save is not None:
            to_file(source, Path(options.save))
    except (RaysweepError, OSError) as error:
        if isinstance(error, OSError):
            error = InputError(f"--to {options.to}: {error.filename or options.to}: {error.strerror or error}")
        for problem in error.problems:
            print(f"error: {printable(problem)}", file=sys.stderr)
        sys.exit(error.exit_code)
    for line in lacking:
        print(line)


if __name__ == "__main__":
    main()
