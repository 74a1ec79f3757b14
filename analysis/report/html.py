"""Rendering of a `Report` as one HTML page. Charts, data, figures and scripts are embedded, so it needs no network."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from raysweep.analysis.rendering import ABSENT
from raysweep.analysis.report import charts, text_tables
from raysweep.analysis.report.board import board
from raysweep.analysis.report.data import Rows
from raysweep.analysis.report.formatting import number, resume, time, whole
from raysweep.analysis.report.metrics import BOOTSTRAP_UP_TO
from raysweep.analysis.report.queries import Queries
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.text import at_store, join_first, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2 import Environment

    from raysweep.analysis.questions.declared import Verdict
    from raysweep.analysis.report.build import Experiment, Report
    from raysweep.analysis.report.paper import Paper
    from raysweep.analysis.report.results import Result

NO_ROWS = Rows("")
MAX_NAMES = 12
"""Maximum number of names in a list."""
MAX_BYTES = 9 * 2**19
"""Maximum size of the page without its rows (`data.MAX_BYTES`); a larger page is shortened, see `LEVELS`."""


class Level(NamedTuple):
    """Limits on the content per experiment, and `text`, the words in which the page states these limits."""

    metrics: int
    curves: int
    rows: int
    text: str


LEVELS = (
    Level(5, 2, 40, ""),
    Level(3, 1, 40, "3 metrics and 1 curve of each experiment"),
    Level(1, 1, 20, "1 metric and 1 curve of each experiment, 20 variants at most"),
    Level(1, 0, 10, "1 metric of each experiment, 10 variants at most"),
)


def to_html(report: Report, rows: Rows = NO_ROWS, *, served: bool = False, version: str = "") -> str:
    """Render a report as HTML. If the page would exceed `MAX_BYTES`, experiments are rendered with less content.

    Args:
        report: the report.
        rows: the rows that the page carries for its readers' queries.
        served: whether `raysweep serve` sends the page; it then asks the server, and carries neither rows nor SQLite.
        version: the version of the store that the page shows, if served.
    """
    fixed = {**_fixed(report), "rows": rows, "served": served, "version": version}
    template = _environment().get_template("page.html")
    page = ""
    for level in LEVELS:
        page = template.render(**fixed, **_experiments(report, level))
        if len(page.encode()) - len(rows.text) <= MAX_BYTES:
            break
    return page


def as_json(value: Any) -> str:
    """Encode a value as JSON for a script element; escape the characters that HTML or JavaScript would interpret."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    def plain(value: Any) -> Any:
        return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, finalize=plain, trim_blocks=True
    )
    environment.filters.update(number=number, whole=whole, time=time, slug=_slug, printable=printable)
    return environment


def _fixed(report: Report) -> dict[str, Any]:
    """Return the template's variables that do not depend on the level: all except those on the experiments."""
    from markupsafe import Markup

    packages: dict[str, list[tuple[str, int]]] = {}
    for name, version, count in report.packages:
        packages.setdefault(name, []).append((version, count))
    claims = None if report.paper is None else _claims(report.paper.claims)
    paper = None if report.paper is None else _paper(report.paper)
    sections = [
        ("results", "Results"), *([("questions", "Questions")] if report.questions else []),
        *([("claims", "Claims")] if claims else []), *([("tables", "Tables"), ("figures", "Figures")] if paper else []),
        ("completeness", "Complete?"), ("ran", "What ran"), ("cells", "Cells"), ("ask", "Ask"),
    ]  # fmt: skip
    queries = Queries(report.store, report.where)
    return {
        "r": report,
        "at": at_store(report.store),
        "resume": resume(report.store, report.where),
        "sections": sections,
        "completeness": text_tables.completeness(report),
        "missing": text_tables.missing(report),
        "failures": report.failures.to_dicts(),
        "machines": text_tables.machines(report),
        "code": text_tables.code(report),
        "packages": packages,
        "queries": {
            "completeness": queries.completeness(),
            "missing": queries.missing(report.keys),
            "machines": queries.machines(),
            "versions": queries.versions(),
        },
        "mixed": ", ".join(name for name, versions in packages.items() if len(versions) > 1),
        "claims": claims,
        "paper": paper,
        "omitted": ", ".join(report.omitted),
        "bootstrap": BOOTSTRAP_UP_TO,
        "details": Markup(as_json(report.details.document)),  # noqa: S704 - as_json escapes
        "css": Markup(_asset("page.css")),  # noqa: S704 - ours
        "js": Markup(_asset("page.js")),  # noqa: S704 - ours
        "live_js": Markup(_asset("live.js")),  # noqa: S704 - ours
        "ask_js": Markup(_asset("ask.js")),  # noqa: S704 - ours
        "sqlite": Markup(_script(_asset("sqlite/sql-wasm.js"))),  # noqa: S704 - its own
        "wasm": _wasm(),
        "vega": Markup(_vega()),  # noqa: S704 - Vega's own
    }


def _experiments(report: Report, level: Level) -> dict[str, Any]:
    from markupsafe import Markup

    drawn: list[dict[str, Any]] = []
    answered = [_question(verdict, drawn) for verdict in report.questions]
    experiments = [_experiment(report, e, level, drawn) for e in report.experiments]
    document = {"config": charts.config(), "single": charts.single(), "charts": drawn}
    return {
        "asked": answered,
        "experiments": experiments,
        "level": level.text,
        "shortened": f"{MAX_BYTES / 2**20:.1f} MiB" if level.text else "",
        "charts": Markup(as_json(document)),  # noqa: S704 - as_json escapes
    }


def _experiment(report: Report, experiment: Experiment, level: Level, drawn: list[dict[str, Any]]) -> dict[str, Any]:
    def chart(spec_and_columns: tuple[charts.Spec, charts.Columns]) -> int:
        spec, columns = spec_and_columns
        drawn.append({"spec": spec, "columns": columns})
        return len(drawn) - 1

    queries, keys = Queries(report.store, report.where), experiment.keys
    metrics = []
    for metric in experiment.metrics.tables[: level.metrics]:
        rows = metric.rows.head(level.rows)
        table = text_tables.metric(metric, experiment.variants, level.rows)
        metrics.append(
            {
                "name": metric.name,
                "head": table.head,
                "rows": table.rows,
                "others": metric.others + metric.rows.height - rows.height,
                "query": queries.metric(experiment.column_of[metric.name], experiment.name, keys),
            }
        )
    texts = []
    for text in experiment.texts.tables[: level.metrics]:
        table = text_tables.text_metric(text, experiment.variants, level.rows)
        texts.append(
            {
                "name": text.name,
                "head": table.head,
                "rows": table.rows,
                "others": text.others + text.rows.height - len(table.rows),
                "query": queries.text(experiment.text_column_of[text.name], experiment.name, keys),
            }
        )
    result = experiment.result
    best = result.rows["variant"].to_list() if result is not None else []
    curves = [
        {
            "name": curve.name,
            "width": curve.width,
            "others": curve.others,
            "chart": chart(charts.curve(curve.name, curve.rows, experiment.variants, best)),
            "command": queries.array(curve.name, experiment.name),
        }
        for curve in experiment.curves[: level.curves]
    ]
    same = [f"{name} {number(value)}" for name, value in experiment.metrics.same.items()]
    same += [f"{name} {value}" for name, value in experiment.texts.same.items()]
    mixed = report.mixed_code.filter(pl.col("experiment") == experiment.name)
    omitted = [
        *(metric.name for metric in experiment.metrics.tables[level.metrics :]), *experiment.metrics.omitted,
        *(text.name for text in experiment.texts.tables[level.metrics :]), *experiment.texts.omitted,
    ]  # fmt: skip
    return {
        "name": experiment.name,
        "titles": experiment.titles,
        "cells": experiment.cells,
        "done": experiment.done,
        "mixed": join_first(mixed["label"], MAX_NAMES, "; "),
        "of_code": queries.code(experiment.name, keys).command,
        "result": None if result is None else _result(report, experiment, result, chart),
        "metrics": metrics,
        "texts": texts,
        "curves": curves,
        "same": join_first(same, MAX_NAMES),
        "omitted": join_first(omitted, MAX_NAMES),
    }


def _result(
    report: Report, experiment: Experiment, result: Result, chart: Callable[[tuple[charts.Spec, charts.Columns]], int]
) -> dict[str, Any]:
    """Return the template's variables for the first screen of an experiment."""
    name, better = result.direction.metric, result.direction.better
    drawn = [mean for effect in result.effects for mean in (*effect.means, *effect.variants["mean"])]
    scale = charts.scale_of(drawn)
    query = Queries(report.store, report.where).best(
        experiment.column_of[name], experiment.name, experiment.keys, better, result.newest
    )
    heat = None if result.map is None else chart(charts.heat(result.map, name, lower=better == "lower"))
    return {
        **board(result, experiment.variants)._asdict(),
        "query": query,
        "map": heat,
        "effects": [chart(charts.effect(effect, name, scale)) for effect in result.effects],
    }


def _question(verdict: Verdict, drawn: list[dict[str, Any]]) -> dict[str, Any]:
    title, *lines = repr(verdict).splitlines()
    if verdict.path:
        spec, columns = charts.question(verdict)
        drawn.append({"spec": spec, "columns": columns})
    chart = len(drawn) - 1 if verdict.path else None
    return {"title": title, "decided": verdict.decided, "lines": [line.strip() for line in lines], "chart": chart}


def _claims(frame: pl.DataFrame) -> dict[str, Any]:
    from raysweep.analysis.claims.render import notes, source, summary

    rows = [
        {
            **row,
            "ours": ABSENT if row["ours"] is None else _ours(row),
            "decay_0": number(row["decay_0"]),
            "naive": number(row["naive"]),
            "source_text": source(row),
        }
        for row in frame.to_dicts()
    ]
    return {
        "rows": rows,
        "summary": [*summary(frame).split("\n\n"), *notes(frame)],
        "verdicts": frame["verdict"].unique(maintain_order=True).to_list(),
        "sources": frame["source"].unique(maintain_order=True).to_list(),
    }


def _ours(row: dict[str, Any]) -> str:
    if row["lower"] is None and row["upper"] is None:
        return f"{number(row['ours'])} {row['unit']}"
    return f"{number(row['ours'])} [{number(row['lower'])}, {number(row['upper'])}] {row['unit']}"


def _paper(paper: Paper) -> dict[str, Any]:
    tables = []
    for table in paper.tables:
        text = text_tables.of_table(table)
        lack = f"{table.missing.height} of {table.cells} cells are missing; run: {table.command}"
        tables.append(
            {
                "title": f"Table {table.name}. {table.title}",
                "head": text.head,
                "rows": text.rows,
                "notes": table.notes,
                "missing": "" if table.complete else lack,
                "command": f"raysweep table {table.name}",
            }
        )
    figures = [
        {
            "name": figure.name,
            "caption": figure.caption,
            "src": f"data:{figure.kind};base64,{base64.b64encode(figure.data).decode()}",
        }
        for figure in paper.figures
    ]
    return {"tables": tables, "figures": figures, "lacking": paper.lacking}


def _asset(name: str) -> str:
    return files("raysweep.analysis.report").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _vega() -> str:
    """Read the JavaScript of Vega, Vega-Lite and Vega-Embed (about 0.9 MiB) from the file that `setup.py` writes."""
    try:
        return _script(_asset("vega.js"))
    except FileNotFoundError:
        raise InputError(
            "report: the charts' JavaScript (vega.js) is missing from this checkout; build it: pip install --editable ."
        ) from None


@functools.cache
def _wasm() -> str:
    """Read SQLite's WebAssembly, compressed by gzip, as base64 (about 0.45 MB)."""
    content = files("raysweep.analysis.report").joinpath("sqlite/sql-wasm.wasm").read_bytes()
    return base64.b64encode(gzip.compress(content, 9)).decode()


def _script(text: str) -> str:
    """Escape JavaScript for a script element."""
    return re.sub(r"<(?=/script|!--)", r"\\x3c", text, flags=re.IGNORECASE)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z]+", "-", text.lower()).strip("-")
