"""Writes all tables, figures, claims and a page on rounding to `docs/results`. The same cells give the same bytes.

python -m raysweep.analysis.publish [--store results [OTHER ...]] [--to docs/results] [--without-figures]

Tables and figures that cannot be made from the cells are listed instead. Exit code 2 means that a store does not exist
or that the folder cannot be written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from raysweep.analysis.cells.source import Source, from_store, joined
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


def main() -> None:
    """Run the command that this module documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--store", nargs="+", default=["results"], help="one store, or several whose cells are combined"
    )
    parser.add_argument("--to", default="docs/results")
    parser.add_argument("--without-figures", action="store_true")
    options = parser.parse_args()
    try:
        source = joined([from_store(Store(store).require()) for store in options.store])
        lacking = write(source, Path(options.to), not options.without_figures)
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
