"""Vega-Lite charts: each is a specification without data, together with its data as columns.

Text and lines have the colour `currentColor`, so that charts follow the page's light, dark and print styles. The tests
validate the specifications against Vega-Lite's schema.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import polars as pl

from raysweep.analysis.questions.declared import Verdict
from raysweep.orchestrator.text import printable

COLOURS = ["#3a86d4", "#e07b2c", "#2a9d6f", "#c2558f", "#8f7ad1", "#b5a02c", "#2aa3b8", "#d05656", "#7d8b99", "#8c6b4f"]
"""Colours of the series, legible on white and on black; a chart has at most one series per colour."""
NO_K = "none"
_LETTERS = 44
"""Maximum characters in one line of a label, so that it fits a telephone's width."""
_LINE, _MARK, _GAP = 14, 7, 17
"""Heights in pixels: a line of a label, the space from a label to its interval, and from there to the next label."""
_WIDE_RANGE = 30
"""An axis is logarithmic if the ratio of its largest to its smallest value is above this."""

_MAX_POINTS = 200
"""Maximum number of points in the chart of a question."""

Spec = dict[str, Any]
Columns = dict[str, list[Any]]
Scale = Literal["log", "linear"]


def metric(name: str, rows: pl.DataFrame, variants: pl.DataFrame) -> tuple[Spec, Columns]:
    """Build the chart of a metric's means and intervals.

    The x axis is k if k varies and there are at most as many series as colours. Otherwise each variant has its own
    row.

    Args:
        name: the metric's name.
        rows: columns as `metrics.SCHEMA`.
        variants: columns variant, label, series, k.
    """
    frame = rows.join(variants.select("variant", "label", "series", "k"), on="variant", maintain_order="left")
    scale = _scale([*frame["least"], *frame["most"]])
    floor = float(frame["least"].min() or 0.0)  # type: ignore[arg-type]
    ends = [frame[end].fill_null(frame["mean"]).to_list() for end in ("low", "high")]
    low, high = ([max(v, floor / 3) for v in end] if scale == "log" else end for end in ends)
    names = list(dict.fromkeys(frame["series"].to_list()))
    columns: Columns = {
        "mean": _numbers(frame["mean"]), "low": _numbers(low), "high": _numbers(high),
        "seeds": frame["n"].to_list(), "label": [printable(label) for label in frame["label"]],
    }  # fmt: skip
    if frame["k"].drop_nulls().n_unique() > 1 and len(names) <= len(COLOURS):
        columns["k"] = [NO_K if k is None else str(k) for k in frame["k"]]
        columns["series"] = [_in_lines(series) for series in frame["series"]]
        order = [NO_K] * (frame["k"].null_count() > 0) + [str(k) for k in sorted(frame["k"].drop_nulls().unique())]
        spec = _against_k(scale)
        spec["encoding"]["x"]["sort"] = order
        spec["encoding"]["color"]["sort"] = [_in_lines(n) for n in names]
        _title(spec, "y", printable(name))
    else:
        spec = _row_a_setting(scale)
        lines = [_in_lines(label) for label in frame["label"]]
        most = max(text.count("\n") for text in lines)
        columns["lines"] = ["\n" * (most - text.count("\n")) + text for text in lines]  # align the labels' ends
        row = _LINE * (most + 1) + _MARK + _GAP
        spec["height"] = row * frame.height  # Vega-Lite warns if a fitted width meets step heights
        for layer in spec["layer"]:
            layer["encoding"]["y"]["bandPosition"] = 0 if "text" in layer["encoding"] else 1 - _GAP / row
        _title(spec, "x", printable(name))
    spec["description"] = printable(
        f"{name} by variant: mean over seeds and its 95 % interval; the table below has the same numbers"
    )
    return spec, columns


def curve(name: str, rows: pl.DataFrame, variants: pl.DataFrame) -> tuple[Spec, Columns]:
    """Build the chart of a recorded array, by variant: medians over seeds as lines, ranges as bands.

    Args:
        name: the array's name.
        rows: columns as `curves.SCHEMA`.
        variants: columns variant and label.
    """
    frame = rows.join(variants.select("variant", "label"), on="variant", maintain_order="left")
    values = [*frame["low"], *frame["high"]]
    spec = _curve(_scale(values))
    _title(spec, "y", printable(name))
    spec["encoding"]["color"]["sort"] = [_in_lines(label) for label in frame["label"].unique(maintain_order=True)]
    spec["description"] = printable(
        f"{name} over steps, by variant: median over seeds, band from the lowest to the highest"
    )
    columns: Columns = {
        "step": frame["step"].cast(pl.Int64).to_list(), "median": _numbers(frame["median"]),
        "low": _numbers(frame["low"]), "high": _numbers(frame["high"]), "seeds": frame["n"].to_list(),
        "label": [_in_lines(label) for label in frame["label"]],
    }  # fmt: skip
    return spec, columns


def question(verdict: Verdict) -> tuple[Spec, Columns]:
    """Build the chart of a question: the estimate of a - b and its band after each seed.

    A dashed line marks the number of seeds at which the question was decided.
    """
    points = verdict.path[:: -(1 + len(verdict.path) // _MAX_POINTS)][::-1]  # the last one is among them
    scale: Scale = "linear"
    line = {"y": _number_axis("estimate", scale), "tooltip": _tooltip("seeds", "estimate", "low", "high")}
    layers: list[Spec] = [
        {
            "mark": {"type": "area", "opacity": 0.2},
            "encoding": {"y": _number_axis("low", scale), "y2": {"field": "high"}},
        },
        {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": line},
        {"mark": {"type": "rule", "opacity": 0.5}, "encoding": {"y": {"datum": 0}}},
    ]
    if verdict.decided:
        stop = {"type": "rule", "strokeDash": [4, 3], "color": COLOURS[1]}
        layers.append({"mark": stop, "encoding": {"x": {"datum": verdict.seeds}}})
    seeds = {**_field("seeds"), "title": "seeds", "axis": {"grid": False, "tickMinStep": 1}}
    for layer in layers[:2]:
        layer["mark"]["color"] = COLOURS[0]
        layer["encoding"]["x"] = seeds
    spec = _chart(180, layer=layers)
    _title(spec, "y", "a - b")
    spec["description"] = printable(
        f"{verdict.question}: median of a - b and its band after each seed; dashed: the seed that decided"
    )
    columns: Columns = {
        "seeds": [point.seeds for point in points], "estimate": _numbers([point.estimate for point in points]),
        "low": _numbers([point.low for point in points]), "high": _numbers([point.high for point in points]),
    }  # fmt: skip
    return spec, columns


def single() -> Spec:
    """Build the chart of one cell's curve. The page adds the data, with the columns step and value."""
    encoding = {"x": _STEP, "y": {**_field("value"), "scale": {"zero": False}}}
    mark = {"type": "line", "strokeWidth": 1.5, "color": COLOURS[0]}
    return _chart(160, mark=mark, encoding={**encoding, "tooltip": [_field("step"), _field("value")]})


def config() -> Spec:
    """Return the Vega-Lite configuration of all charts."""
    ink = "currentColor"
    grid = {"gridColor": ink, "gridOpacity": 0.15, "domainColor": ink, "tickColor": ink, "domainOpacity": 0.5}
    words = {
        "labelColor": ink,
        "titleColor": ink,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    }
    return {
        "background": "transparent",
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {**grid, **words, "titleLimit": 260},
        "text": {
            "fill": ink,
            "fontSize": 12,
            "align": "left",
            "baseline": "top",
            "lineHeight": _LINE,
            "lineBreak": "\n",
        },
        "legend": {
            **words,
            "orient": "bottom",
            "direction": "vertical",
            "labelLimit": 0,
            "title": None,
            "columns": 1,
            "symbolOpacity": 1,
        },
        "range": {"category": COLOURS},
    }


def _against_k(scale: Scale) -> Spec:
    """Specify a metric's means and intervals against k, one colour per series.

    Titles and sort orders are added later.
    """
    shared: Spec = {
        "xOffset": _category("series"),
        "opacity": _faded(0.15),
        "tooltip": _tooltip("label", "mean", "low", "high", "seeds"),
    }
    interval = {**shared, "y": _number_axis("low", scale), "y2": {"field": "high"}}
    point = {**shared, "y": _number_axis("mean", scale), "shape": {**_category("series"), "legend": None}}
    return _chart(
        280,
        params=[_hover("series")],
        encoding={
            "x": {"field": "k", "type": "ordinal", "title": "k", "axis": {"labelAngle": 0}},
            "color": {**_category("series"), "legend": _LEGEND},
        },
        layer=[
            {"name": _FIRST_LAYER, "mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": interval},
            {"mark": {"type": "point", "filled": True, "size": 55}, "encoding": point},
        ],
    )


def _row_a_setting(scale: Scale) -> Spec:
    """Specify a metric's means and intervals, one row per variant.

    Titles and sizes are added later.
    """
    band: Spec = {"type": "band", "padding": 0}

    def encoding() -> Spec:
        row = {**_category("label"), "sort": None, "axis": None, "scale": band}
        return {"y": row, "tooltip": _tooltip("label", "mean", "low", "high", "seeds")}

    interval = {**encoding(), "x": _number_axis("low", scale), "x2": {"field": "high"}}
    point = {**encoding(), "x": _number_axis("mean", scale)}
    text = {**encoding(), "x": {"value": 0}, "text": _category("lines")}
    return _chart(
        _LINE + _MARK + _GAP,
        layer=[
            {"mark": {"type": "rule", "strokeWidth": 1.5, "color": COLOURS[0]}, "encoding": interval},
            {"mark": {"type": "point", "filled": True, "size": 55, "color": COLOURS[0]}, "encoding": point},
            {"mark": {"type": "text"}, "encoding": text},
        ],
    )


def _curve(scale: Scale) -> Spec:
    """Specify an array's medians (lines) and ranges (bands), one colour per variant.

    Titles and sort orders are added later.
    """
    band = {"y": _number_axis("low", scale), "y2": {"field": "high"}, "opacity": _faded(0.02, shown=0.14)}
    line = {
        "y": _number_axis("median", scale),
        "opacity": _faded(0.1),
        "tooltip": _tooltip("label", "step", "median", "low", "high", "seeds"),
    }
    return _chart(
        260,
        params=[_hover("label")],
        encoding={"x": dict(_STEP), "color": {**_category("label"), "legend": _LEGEND}},
        layer=[
            {"name": _FIRST_LAYER, "mark": {"type": "area"}, "encoding": band},
            {"mark": {"type": "line", "strokeWidth": 1.5}, "encoding": line},
        ],
    )


_STEP: Spec = {"field": "step", "type": "quantitative", "title": "step", "axis": {"grid": False}}
_LEGEND: Spec = {"labelExpr": "split(datum.label, '\\n')"}
"""Specification of a legend whose labels keep their line breaks."""
_HOVER, _FIRST_LAYER = "hover", "first"


def _field(name: str) -> Spec:
    return {"field": name, "type": "quantitative"}


def _category(name: str) -> Spec:
    return {"field": name, "type": "nominal"}


def _tooltip(*names: str) -> list[Spec]:
    """Specify tooltip lines: the label as text, steps and counts of seeds in full, other numbers with four digits."""
    whole = ("step", "seeds")
    return [
        _category(name) if name == "label" else _field(name) if name in whole else {**_field(name), "format": ".4g"}
        for name in names
    ]


def _hover(field: str) -> Spec:
    """Specify that a click on a legend entry selects its series. Vega-Lite requires one layer to own the selection."""
    return {"name": _HOVER, "select": {"type": "point", "fields": [field]}, "bind": "legend", "views": [_FIRST_LAYER]}


def _faded(faded: float, shown: float = 1) -> Spec:
    """Specify an opacity: `shown` for the selected series, or for all if none is selected; `faded` for the others."""
    return {"condition": {"param": _HOVER, "value": shown}, "value": faded}


def _number_axis(field: str, scale: Scale) -> Spec:
    """Specify a channel whose axis has few grid lines. By default, a logarithmic axis has nine per decade."""
    kind: Spec = {"type": "log"} if scale == "log" else {"type": "linear", "zero": False}
    return {**_field(field), "scale": kind, "axis": {"tickCount": 6, "format": "~g"}}


def _chart(height: int, **parts: Any) -> Spec:
    """Specify a chart of the data set `rows`, as wide as the page and of fixed height."""
    autosize = {"type": "fit-x", "contains": "padding"}
    return {"data": {"name": "rows"}, "width": "container", "height": height, "autosize": autosize, **parts}


def _title(spec: Spec, channel: str, text: str) -> None:
    """Set the title of an axis, not of its channel.

    A channel's title would be pasted into Vega's expressions, where a metric's name could be executed as code.
    """
    for layer in spec["layer"]:
        if "field" in layer["encoding"].get(channel, {}):
            layer["encoding"][channel]["axis"]["title"] = f"{text} " if text in _INHERITED else text


_INHERITED = frozenset(
    {"constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf"}
)
"""Names that every JavaScript object has. Vega draws no chart if one of them is a title."""


def _in_lines(label: str) -> str:
    """Split a label into lines of at most `_LETTERS` characters, without control characters."""
    return textwrap.fill(printable(label), _LETTERS, break_on_hyphens=False)


def _scale(values: Sequence[float | None]) -> Scale:
    """Choose an axis for these values: logarithmic if all are positive and their range exceeds `_WIDE_RANGE`."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    return "log" if known and min(known) > 0 and max(known) / min(known) > _WIDE_RANGE else "linear"


def _numbers(values: Sequence[float | None] | pl.Series) -> list[float | None]:
    return [None if v is None or not math.isfinite(v) else float(f"{v:.5g}") for v in values]
