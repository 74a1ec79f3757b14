"""Writes `docs/results`: every table, figure and the claims, from one store; the same bytes from the same cells.

python -m analysis.results [--store results] [--to docs/results]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.claims import ledger
from analysis.claims import render as render_claims
from analysis.figures import CAPTIONS, FIGURES, save
from analysis.source import Source, from_store
from analysis.tables import TABLES
from analysis.tables.render import RENDERERS
from orchestrator.errors import InputError
from orchestrator.store import Store


def write(source: Source, folder: Path, figures: bool = True) -> list[str]:
    """Write what can be made of the cells; the names of what can't, with the reason, are returned."""
    folder.mkdir(parents=True, exist_ok=True)
    lacking: list[str] = []
    for name, build in TABLES.items():
        try:
            text = RENDERERS["markdown"](build(source))
        except InputError as error:
            lacking.append(f"table {name}: {error}")
            continue
        (folder / f"table{name}.md").write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    captions = ["# Figures", ""]
    for name, draw in FIGURES.items() if figures else ():
        try:
            save(draw(source), folder / f"{name}.svg")
            captions += [f"![{name}]({name}.svg)", "", CAPTIONS[name](source), ""]
        except InputError as error:
            lacking.append(f"figure {name}: {error}")
    if figures:
        (folder / "figures.md").write_text("\n".join(captions).rstrip("\n") + "\n", encoding="utf-8")
    claims = render_claims(ledger(source), "markdown")
    (folder / "claims.md").write_text(claims.rstrip("\n") + "\n", encoding="utf-8")
    return lacking


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="results")
    parser.add_argument("--to", default="docs/results")
    parser.add_argument("--without-figures", action="store_true")
    asked = parser.parse_args()
    for line in write(from_store(Store(asked.store).require()), Path(asked.to), not asked.without_figures):
        print(line)


if __name__ == "__main__":
    main()
