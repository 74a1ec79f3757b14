"""The commands `table`, `figure` and `claims`; `raysweep.orchestrator.cli.app` puts them beside its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.orchestrator.cli.options import Json, StoreOption, Where
from raysweep.orchestrator.cli.output import at_store, fail, say, warn

if TYPE_CHECKING:
    from raysweep.analysis.cells.source import Source

Format = Annotated[str, typer.Option("--format", help="text, markdown, csv or json.")]


def table(
    name: Annotated[str, typer.Argument(help="A table of the paper, by number: 3 to 14.")],
    store: StoreOption = "results", where: Where = None, format_: Format = "text", as_json: Json = False,
) -> None:  # fmt: skip
    """Print one table of the analysis, ours beside the paper's."""
    from raysweep.analysis.errors import NothingDone
    from raysweep.analysis.tables import TABLES
    from raysweep.analysis.tables.render import RENDERERS
    from raysweep.workloads.registry import UnknownName

    try:
        build, render = TABLES[name], RENDERERS["json" if as_json else format_]
    except UnknownName as error:
        fail(str(error))
    made = build(_source(store, where))
    if made.lack is not None:
        raise NothingDone(made.lack)
    say(render(made).rstrip("\n"))


def figure(
    name: Annotated[
        str,
        typer.Argument(
            help="step, curves, spread, scale, condition, alignment, decay, decoding, gap, heads, tasks or importance."
        ),
    ],
    store: StoreOption = "results", where: Where = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="An .svg or .png file; default NAME.svg.")
    ] = None,
) -> None:  # fmt: skip
    """Draw one figure of the analysis into a file, and print its caption."""
    from raysweep.analysis.figures import CAPTIONS, FIGURES, destination, save
    from raysweep.workloads.registry import UnknownName

    try:
        draw, caption = FIGURES[name], CAPTIONS[name]
    except UnknownName as error:
        fail(str(error))
    path = destination(f"{name}.svg" if output is None else output)
    source = _source(store, where)
    save(draw(source), path)
    say(caption(source))
    say(f"written to {path}")


def claims(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="CLAIM", help="Ids or their beginnings (E7); default: all.")
    ] = None,
    store: StoreOption = "results", where: Where = None,
    format_: Annotated[str, typer.Option("--format", help="text, markdown or json.")] = "text", as_json: Json = False,
) -> None:  # fmt: skip
    """Hold every claim of the paper against the store: the paper's number, ours, its interval, a verdict.

    raysweep claims E7 E8

    The correction for many comparisons is over all claims of a family, whichever are shown.
    """
    from raysweep.analysis.claims import RENDERERS, ledger, named, render
    from raysweep.workloads.registry import UnknownName

    try:
        RENDERERS["json" if as_json else format_]
    except UnknownName as error:
        fail(str(error))
    shown = named(names or ())
    lines = ledger(_source(store, where))
    say(render(lines.filter(lines["id"].is_in(shown)), "json" if as_json else format_).rstrip("\n"))


def _source(path: str, where: str | None) -> Source:
    from raysweep.analysis.cells.source import from_store
    from raysweep.orchestrator.query.sql import matching
    from raysweep.orchestrator.store.reader import Store

    opened = Store(path).require()
    if where is None:
        return from_store(opened, at=at_store(path))
    kept, warning = matching(opened.known(), opened.summary(), where)
    warn((warning,) if warning else ())
    return from_store(opened, kept, at_store(path))
