"""The command `report`; `raysweep.orchestrator.cli.app` puts it beside its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raysweep.orchestrator.cli.options import StoreOption, Where
from raysweep.orchestrator.cli.output import fail, say


def report(
    store: StoreOption = "results", where: Where = None,
    output: Annotated[str, typer.Option("--output", "-o", help="The page.")] = "report.html",
    markdown: Annotated[str | None, typer.Option(help="And the same as Markdown, into this file.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="A metric to show; may be given several times.")] = None,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
) -> None:  # fmt: skip
    """Write one self-contained page about a store: what ran, what is missing, results, failures, cells.

    raysweep report -o report.html

    raysweep report --metric loss --where "k <= 8" --markdown report.md
    """
    from raysweep.analysis.report.build import build
    from raysweep.analysis.report.html import to_html
    from raysweep.analysis.report.markdown import to_markdown
    from raysweep.orchestrator.store.reader import Store

    if Path(output).suffix.lower() in {".md", ".markdown"}:
        fail(f"{output}: the page is HTML; for Markdown beside it add --markdown {output}")
    files = [Path(output), *([Path(markdown)] if markdown else [])]
    for path in files:
        if not path.parent.is_dir():
            fail(f"{path}: there is no folder {str(path.parent)!r}; make it first")
        if path.is_dir():
            fail(f"{path} is a folder; name a file in it")
    built = build(Store(store).require(), named=store, title=title, where=where, metric_names=metric or ())
    unknown = [m for m in metric or () if not any(m in e.column_of for e in built.experiments)]
    if unknown:
        from raysweep.workloads.registry import unknown_name

        names = sorted({name for e in built.experiments for name in e.column_of})
        fail("; ".join(unknown_name("metric", m, names) for m in unknown))
    texts = [to_html(built), *([to_markdown(built)] if markdown else [])]
    for path, text in zip(files, texts, strict=True):
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            fail(f"{path}: {error.strerror or error}")
        say(f"{path}: {len(text.encode()) / 2**20:.1f} MiB")
    say(f"{built.done:,} of {built.requested:,} cells done; {built.details.included:,} can be looked at singly")
