"""The commands `table`, `figure`, `claims` and `report`: the analysis of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.orchestrator.cli.options import Json, SkipDamaged, StoreOption, Where
from raysweep.orchestrator.cli.terminal.output import entry, fail, print_answer, say, warn, warn_of_missing
from raysweep.orchestrator.text import at_store

if TYPE_CHECKING:
    from raysweep.analysis.cells.source import Source
    from raysweep.orchestrator.store.reader import Store


def table(
    name: Annotated[str, typer.Argument(help="Number of a table of the paper: 3 to 14.")],
    store: StoreOption = "results", where: Where = None,
    format_: Annotated[str, typer.Option("--format", help="text, markdown, csv or json.")] = "text",
    skip_damaged: SkipDamaged = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Print a table of the paper, with its numbers beside the store's.

    raysweep table 3
    """
    from raysweep.analysis.errors import NothingDone
    from raysweep.analysis.tables import TABLES
    from raysweep.analysis.tables.render import RENDERERS

    kind = "json" if as_json else format_
    build, render = entry(TABLES, name), entry(RENDERERS, kind)
    opened = _open(store, skip_damaged)
    built = build(_source(opened, where, store))
    if built.lack is not None:
        raise NothingDone(built.lack)
    _print(render(built), kind, opened)


def figure(
    name: Annotated[
        str,
        typer.Argument(
            help="step, curves, spread, scale, condition, alignment, decay, decoding, gap, heads, tasks or importance."
        ),
    ],
    store: StoreOption = "results", where: Where = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="An .svg or .png file. Default: NAME.svg.")
    ] = None, skip_damaged: SkipDamaged = False,
) -> None:  # fmt: skip
    """Draw a figure into a file, and print its caption.

    raysweep figure curves -o curves.png
    """
    from raysweep.analysis.figures import CAPTIONS, FIGURES, destination, save

    draw, caption = entry(FIGURES, name), entry(CAPTIONS, name)
    path = destination(f"{name}.svg" if output is None else output)
    opened = _open(store, skip_damaged)
    source = _source(opened, where, store)
    save(draw(source), path)
    warn_of_missing(opened)
    say(caption(source))
    say(f"written: {path}")


def claims(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="CLAIM", help="Ids of claims or their first characters (E7). Default: all."),
    ] = None,
    store: StoreOption = "results", where: Where = None,
    format_: Annotated[str, typer.Option("--format", help="text, markdown or json.")] = "text",
    skip_damaged: SkipDamaged = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Test the claims of the paper on the store.

    raysweep claims E7 E8

    Each claim is printed with the paper's number, the store's number and its interval, and a verdict. The correction
    for multiple comparisons covers all lines of a claim.
    """
    from raysweep.analysis.claims import RENDERERS, ledger, named, render

    kind = "json" if as_json else format_
    entry(RENDERERS, kind)  # an unknown format is refused before the store is read
    ids = named(names or ())
    opened = _open(store, skip_damaged)
    lines = ledger(_source(opened, where, store))
    _print(render(lines.filter(lines["id"].is_in(ids)), kind), kind, opened)


def report(
    store: StoreOption = "results", where: Where = None,
    output: Annotated[str, typer.Option("--output", "-o", help="The HTML file.")] = "report.html",
    markdown: Annotated[str | None, typer.Option(help="Write the report into this Markdown file as well.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="A metric to show; may be repeated. Default: chosen by the report.")
    ] = None,
    minimize: Annotated[
        bool | None,
        typer.Option("--minimize/--maximize", help="Whether lower or higher values of the metric are better. Default: "
                     "as a declared question or the metric's name says."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
    skip_damaged: SkipDamaged = False,
) -> None:  # fmt: skip
    """Write a report of a store as one HTML file, which needs no network.

    It shows the best settings, what cannot be told apart from them, and what matters; then what is missing, failures,
    what ran and single cells. It carries its rows and SQLite: each table's query can be edited and run in the page.

    raysweep report -o report.html

    raysweep report --metric loss --where "k <= 8" --markdown report.md
    """
    from raysweep.analysis.report.build import build
    from raysweep.analysis.report.data import rows_of
    from raysweep.analysis.report.html import to_html
    from raysweep.analysis.report.markdown import to_markdown
    from raysweep.workloads.registry import unknown_name

    if Path(output).suffix.lower() in {".md", ".markdown"}:
        fail(f"{output}: the report is HTML; to write Markdown as well, add --markdown {output}")
    files = [Path(output), *([Path(markdown)] if markdown else [])]
    for path in files:
        if not path.parent.is_dir():
            fail(f"{path}: no such folder {str(path.parent)!r}; create it first")
        if path.is_dir():
            fail(f"{path} is a folder; name a file in it")
    opened = _open(store, skip_damaged)
    better = None if minimize is None else "lower" if minimize else "higher"
    page = build(opened, named=store, title=title, where=where, metric_names=metric or (), better=better)
    names = {name for experiment in page.experiments for name in (*experiment.column_of, *experiment.text_column_of)}
    unknown = [name for name in metric or () if name not in names]
    if unknown:
        fail("; ".join(unknown_name("metric", name, sorted(names)) for name in unknown))
    warn(page.skipped)
    texts = [to_html(page, rows_of(opened, page.selected, page.keys)), *([to_markdown(page)] if markdown else [])]
    for path, text in zip(files, texts, strict=True):
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            fail(f"{path}: {error.strerror or error}")
        say(f"{path}: {len(text.encode()) / 2**20:.1f} MiB")
    say(f"{page.done:,} of {page.requested:,} cells done; {page.details.included:,} with details in the report")


def _open(path: str, skip_damaged: bool) -> Store:
    from raysweep.orchestrator.store.reader import Store

    return Store(path, skip_damaged=skip_damaged).require()


def _print(text: str, kind: str, store: Store) -> None:
    """Print the rendered `text`. If damaged files were skipped, first warn of what the text lacks."""
    warn_of_missing(store)
    if kind == "json" and store.skip_damaged:
        print_answer(text, store)
    else:
        say(text.rstrip("\n"))


def _source(store: Store, where: str | None, path: str) -> Source:
    from raysweep.analysis.cells.source import from_store
    from raysweep.orchestrator.query.sql import matching

    if where is None:
        return from_store(store, at=at_store(path))
    cells, warning = matching(store.known(), store.summary(), where)
    warn((warning,) if warning else ())
    return from_store(store, cells, at_store(path))
