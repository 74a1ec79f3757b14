"""Writes all tables, figures, claims and a page on rounding to `docs/results`. The same cells give the same bytes.

python -m raysweep.analysis.publish [--store results [OTHER ...]] [--to docs/results] [--save CELLS.parquet]
    [--without-figures]

A store may also be a file of cells that `--save` wrote. Beside it, `--save` writes `arrays.parquet`: the recorded
arrays that claims, tables and figures read, without those of experiments that would make it larger than about 4 MB.
What is left out is listed. If several stores have a cell, it is taken, with its arrays, from the first that is named.

If there are cells of fresh seeds (`FRESH`), the pages are of these, and the folder `paper-seeds` has the same pages of
the other cells, which are of the paper's seeds. An experiment, or a size of its network, without fresh seeds has its
other cells on both.

Tables and figures that cannot be made from the cells are listed instead; if they were published before, they are kept,
a figure with its caption. Exit code 2 means that a store does not exist
or that the folder cannot be written.
"""

from __future__ import annotations

import argparse
import re
from itertools import pairwise
from pathlib import Path

import polars as pl

from raysweep.analysis.cells.saved import from_file, to_file
from raysweep.analysis.cells.source import Source, from_store, joined
from raysweep.analysis.claims import ledger
from raysweep.analysis.claims import render as render_claims
from raysweep.analysis.claims.rounding import page as rounding_page
from raysweep.analysis.errors import NothingDone, ended_by_errors
from raysweep.analysis.figures import CAPTIONS, FIGURES, save
from raysweep.analysis.reads import arrays_read
from raysweep.analysis.tables import TABLES
from raysweep.analysis.tables.render import RENDERERS
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.reader import Store

FRESH = range(1000, 1200)
"""Seeds that nobody had looked at when the rules of the verdicts were written (`docs/verdicts.md`)."""
CAPTIONS_PAGE, CAPTIONS_TITLE = "figures.md", "# Figures"
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
        One line for each table, figure or page that cannot be made: the reason, and whether an earlier one is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lacking: list[str] = []
    for name, build in TABLES.items():
        path = folder / f"table{name}.md"
        try:
            table = build(source)
        except InputError as error:
            lacking.append(_lack(f"table {name}", error, path.exists()))
            continue
        if table.lack is not None:
            lacking.append(_lack(f"table {name}", table.lack, path.exists()))
            continue
        text = RENDERERS["markdown"](table)
        path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    if figures:
        lacking += _write_figures(source, folder)
    frame = ledger(source)
    claims = render_claims(frame, "markdown")
    (folder / "claims.md").write_text(claims.rstrip("\n") + "\n", encoding="utf-8")
    rounding = rounding_page(source, frame)
    path = folder / "rounding.md"
    if rounding is None:
        reason = "no row of paper/rounding is done under two roundings of three seeds"
        lacking.append(_lack("page rounding", reason, path.exists()))
    else:
        path.write_text(rounding, encoding="utf-8")
    return lacking


def _write_figures(source: Source, folder: Path) -> list[str]:
    """Write the figures and their captions. A figure that cannot be made keeps its file and caption, if it has both.

    Returns:
        One line for each figure that cannot be made, with the reason.
    """
    page = folder / CAPTIONS_PAGE
    published = _captions(page.read_text("utf-8")) if page.exists() else {}
    lacking: list[str] = []
    lines = [CAPTIONS_TITLE, ""]
    for name, draw in FIGURES.items():
        path = folder / f"{name}.svg"
        try:
            save(draw(source), path)
            caption = CAPTIONS[name](source)
        except (InputError, NothingDone) as error:
            kept = name in published and path.exists()
            lacking.append(_lack(f"figure {name}", error, kept))
            if not kept:
                continue
            caption = published[name]
        lines += [f"![{name}]({name}.svg)", "", caption, ""]
    page.write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")
    return lacking


def _captions(text: str) -> dict[str, str]:
    """Read the captions of a page that `_write_figures` wrote. Returns figure -> caption."""
    blocks = text.split("\n\n")
    pairs = ((re.fullmatch(r"!\[(.+)\]\(\1\.svg\)", image), caption) for image, caption in pairwise(blocks))
    return {image[1]: caption.strip() for image, caption in pairs if image}


def _lack(what: str, reason: object, kept: bool) -> str:
    return f"{what}{', kept as published' if kept else ''}: {reason}"


def _read(store: str) -> Source:
    return from_file(Path(store)) if store.endswith(".parquet") else from_store(Store(store).require())


def main() -> None:
    """Run the command that this module documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--store", nargs="+", default=["results"], help="stores or saved cells, several of which are combined"
    )
    parser.add_argument("--to", default="docs/results")
    parser.add_argument(
        "--save", metavar="CELLS.parquet", help="also write the done cells to this file, and small arrays beside it"
    )
    parser.add_argument("--without-figures", action="store_true")
    options = parser.parse_args()
    with ended_by_errors(options.to):
        source = joined([_read(store) for store in options.store])
        lacking = [
            f"{name}: {line}" if name else line
            for name, part in pages(source).items()
            for line in write(part, Path(options.to) / name, not options.without_figures)
        ]
        if options.save is not None:
            lacking += to_file(source, Path(options.save), arrays_read())
    for line in lacking:
        print(line)


if __name__ == "__main__":
    main()
