"""Rendering of a `Report` as Markdown for a README: the page's numbers, and commands in place of charts and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from raysweep.analysis.rendering import markdown_table
from raysweep.analysis.report import text_tables
from raysweep.analysis.report.board import board
from raysweep.analysis.report.formatting import number, resume, time, whole
from raysweep.analysis.report.queries import Queries
from raysweep.orchestrator.text import at_store, printable

if TYPE_CHECKING:
    from raysweep.analysis.report.build import Experiment, Report
    from raysweep.analysis.report.paper import Paper

MAX_METRICS = 3
"""Maximum metrics per experiment."""


def to_markdown(report: Report) -> str:
    """Render a report as headings, tables and commands."""
    at = at_store(report.store)
    parts = [f"# {_line(report.title)}", _origin(report), *_skipped(report), "## Results"]
    for experiment in report.experiments:
        parts += _experiment(experiment, report)
    if report.omitted:
        parts.append(f"Not shown: {_line(', '.join(report.omitted))}.")
    parts += _questions(report)
    if report.paper is not None:
        parts += _paper(report.paper, at)
    parts += [*_completeness(report, at), *_ran(report)]
    return "\n\n".join(parts) + "\n"


def pipe_table(table: text_tables.TextTable) -> str:
    """Format a Markdown table, with text from cells escaped."""
    return markdown_table([h.text for h in table.head], table.rows, [h.number for h in table.head], _line)


def _origin(report: Report) -> str:
    only = f", only cells with {_code(report.where)}" if report.where else ""
    return f"Made {time(report.made_at)} by raysweep {report.version} from store {_code(report.store)}{only}."


def _skipped(report: Report) -> list[str]:
    if not report.skipped:
        return []
    lines = "\n".join(f"- {_line(line)}" for line in report.skipped)
    return ["**Damaged files were skipped: this page does not cover all of the store.**", lines]


def _questions(report: Report) -> list[str]:
    """Return the lines about the verdicts on the questions that sweeps declare."""
    if not report.questions:
        return []
    items = ["; ".join(line.strip() for line in repr(verdict).splitlines()) for verdict in report.questions]
    return ["## Questions", "\n".join(f"- {_line(item)}" for item in items)]


def _completeness(report: Report, at: str) -> list[str]:
    missing = report.requested - report.done
    if not missing:
        text = f"**All {whole(report.requested)} cells are done.**"
    else:
        text = (
            f"**{whole(missing)} of {whole(report.requested)} cells are missing**; all numbers cover only done cells."
        )
        if report.missing_old:
            text += f" {whole(report.missing_old)} belong to an older version of their workload and are not run again."
        if missing > report.missing_old:
            text += f" To run the missing cells: {_code(resume(report.store, report.where))}"
    parts = ["## Is it complete?", text, pipe_table(text_tables.completeness(report))]
    if missing:
        parts.append(pipe_table(text_tables.missing(report)))
    if report.missing_more:
        parts.append(f"And {whole(report.missing_more)} more rows.")
    parts += [
        f"- {row['status']}, {whole(row['cells'])} cells, {_line(row['shared'] + ', ' * bool(row['shared']))}"
        f"seeds {row['seeds']}: "
        f"{_line(row['failure'])} "
        f"({_code('raysweep show ' + row['example'][:12] + at)})"
        for row in report.failures.to_dicts()
    ]
    return parts


def _ran(report: Report) -> list[str]:
    cost = report.cost
    text = (
        f"{whole(cost.attempts)} attempts, {number(cost.cpu)} cpu-hours reserved ({number(cost.busy)} used), "
        f"{number(cost.gpu)} gpu-hours reserved"
    )
    if cost.lost_attempts:
        text += f"; {whole(cost.lost_attempts)} attempts were unsuccessful ({number(cost.lost_cpu)} cpu-hours)"
    if report.began and report.ended:
        text += f"; {time(report.began)} to {time(report.ended)}"
    tables = [pipe_table(make(report)) for make in (text_tables.machines, text_tables.code, text_tables.packages)]
    return ["## What ran, where, at what cost", f"{text}.", *tables]


def _paper(paper: Paper, at: str) -> list[str]:
    from raysweep.analysis.claims.render import render
    from raysweep.analysis.tables.render import RENDERERS

    claims = render(paper.claims, "markdown").replace("\n## ", "\n### ").strip()
    tables = [RENDERERS["markdown"](table).strip() for table in paper.tables]
    figures = [f"- {figure.caption} {_code(f'raysweep figure {figure.name}{at}')}" for figure in paper.figures]
    return ["## Claims", claims, "## Tables of the analysis", *tables, "## Figures of the analysis", "\n".join(figures)]


def _experiment(experiment: Experiment, report: Report) -> list[str]:
    queries = Queries(report.store, report.where)
    titles = "".join(f": {_line(title)}" for title in experiment.titles)
    parts = [f"### {_line(experiment.name)}{titles}"]
    if experiment.result is not None:
        shown = board(experiment.result, experiment.variants)
        parts.append(f"**{_line(shown.headline)}** {_line(shown.verdict)}")
    if experiment.done < experiment.cells:
        parts.append(f"{whole(experiment.done)} of {whole(experiment.cells)} cells are done.")
    mixed = report.mixed_code.filter(pl.col("experiment") == experiment.name)["label"].to_list()
    if mixed:
        parts.append(
            "Cells of these variants ran different code of one workload version, and the means are over all of them: "
            f"{_line('; '.join(mixed))}. {_code(queries.code(experiment.name, experiment.keys).command)}"
        )
    for metric in experiment.metrics.tables[:MAX_METRICS]:
        parts += [
            f"**{_line(metric.name)}**",
            pipe_table(text_tables.metric(metric, experiment.variants, metric.rows.height)),
            _code(queries.metric(experiment.column_of[metric.name], experiment.name, experiment.keys).command),
        ]
    for text in experiment.texts.tables[:MAX_METRICS]:
        parts += [
            f"**{_line(text.name)}**",
            pipe_table(text_tables.text_metric(text, experiment.variants, text.rows.height)),
            _code(queries.text(experiment.text_column_of[text.name], experiment.name, experiment.keys).command),
        ]
    return parts


def _line(text: str) -> str:
    """Put text on one line, with Markdown and HTML markup escaped."""
    line = " ".join(printable(text).split())
    line = "".join(f"\\{c}" if c in "\\`*_{}[]#|~" else c for c in line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    """Format inline code. Its fence has more backticks than the longest run of backticks in the text."""
    line = " ".join(printable(text).split())
    fence = "`"
    while fence in line:
        fence += "`"
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"`{line}`"
