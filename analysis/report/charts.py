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
from raysweep.analysis.report.results import Effect, Map
from raysweep.orchestrator.text import printable

COLOURS = ["#3a86d4", "#e07b2c", "#2a9d6f", "#c2558f", "#8f7ad1", "#b5a02c", "#2aa3b8", "#d05656", "#7d8b99", "#8c6b4f"]
"""Colours of the series, legible on white and on black; a chart has at most one series per colour."""
_LETTERS = 44
"""Maximum characters in one line of a label, so that it fits a telephone's width."""
_VALUE_LETTERS, _AXIS_LETTERS = 16, 18
"""Maximum characters of a value on an axis, and of all values of an axis that are written horizontally."""
_MAIN = 3
"""Number of variants whose curves have thick lines and bands."""
_WIDE_RANGE = 30
"""An axis is logarithmic if the ratio of its largest to its smallest value is above this."""

_MAX_POINTS = 200
"""Maximum number of points in the chart of a question."""

Spec = dict[str, Any]
Columns = dict[str, list[Any]]
Scale = Literal["log", "linear"]


def effect(effect: Effect, metric: str, scale: Scale) -> tuple[Spec, Columns]:
    """Build the chart of a setting's effect: a point for each variant's mean, a line through the means of each value.

    Args:
        effect: the effect.
        metric: the metric's name.
        scale: the scale of the metric's axis.
    """
    values = _axis_values(effect.values)
    points = effect.variants.rows()
    columns: Columns = {
        "value": [*values, *(values[at] for at, _ in points)],
        "mean": _numbers([*effect.means, *(mean for _, mean in points)]),
        "variants": [None if i < len(values) else 1 for i in range(len(values) + len(points))],
    }
    angle = 0 if max(map(len, values)) * len(values) <= _AXIS_LETTERS else -35
    x = {"field": "value", "type": "ordinal", "sort": values, "axis": {"labelAngle": angle, "grid": False}}
    tooltip = [{**_category("value"), "title": "value"}, {**_field("mean"), "format": ".4g"}]
    y = {**_number_axis("mean", scale), "axis": {"tickCount": 4, "format": "~g"}}
    line: Spec = {"type": "line", "strokeWidth": 2, "color": COLOURS[0], "point": {"size": 50, "color": COLOURS[0]}}
    spots: Spec = {"type": "point", "filled": True, "size": 16, "opacity": 0.35, "color": "currentColor"}
    of_values = {"filter": "datum.variants === null"}
    layers: list[Spec] = [
        {"mark": spots, "encoding": {"x": x, "y": y, "tooltip": tooltip}},
        {"transform": [of_values], "mark": line, "encoding": {"x": x, "y": y, "tooltip": tooltip}},
    ]
    spec = _chart(130, layer=layers)
    _title(spec, "x", printable(effect.key))
    _title(spec, "y", printable(metric))
    spec["description"] = printable(f"{metric} by {effect.key}: mean over the other settings, and each variant's mean")
    return spec, columns


def heat(shown: Map, metric: str, *, lower: bool) -> tuple[Spec, Columns]:
    """Build the map of a metric over two settings; the better a value, the brighter.

    Args:
        shown: the map.
        metric: the metric's name.
        lower: whether lower values are better.
    """
    frame = shown.cells
    names = [_axis_values(effect.values) for effect in (shown.x, shown.y)]
    means = frame["mean"].to_list()
    scale = scale_of(means)
    heights = [math.log(m) for m in means] if scale == "log" else means
    low, high = min(heights), max(heights)
    shares = [(h - low) / (high - low) if high > low else 0.5 for h in heights]
    bright = [1 - share if lower else share for share in shares]
    columns: Columns = {
        "x": [names[0][i] for i in frame["x"]], "y": [names[1][i] for i in frame["y"]], "mean": _numbers(means),
        "bright": _numbers(bright), "text": [f"{mean:.3g}" for mean in means], "variants": frame["variants"].to_list(),
    }  # fmt: skip
    angle = 0 if max(map(len, names[0])) * len(names[0]) <= 2 * _AXIS_LETTERS else -35
    axis = {"grid": False, "domain": False, "ticks": False}
    x = {"field": "x", "type": "ordinal", "sort": names[0], "axis": {**axis, "labelAngle": angle}}
    y = {"field": "y", "type": "ordinal", "sort": names[1], "axis": dict(axis)}
    colour = {**_field("bright"), "scale": {"scheme": "viridis", "domain": [0, 1]}, "legend": None}
    ink = {"condition": {"test": "datum.bright > 0.55", "value": "#000"}, "value": "#fff"}
    tooltip = [*({**_category(name), "title": name} for name in "xy"), *_tooltip("mean"), _field("variants")]
    layers: list[Spec] = [
        {"mark": {"type": "rect"}, "encoding": {"x": x, "y": y, "color": colour, "tooltip": tooltip}},
        {"mark": {"type": "text"}, "encoding": {"x": x, "y": y, "text": _category("text"), "fill": ink}},
    ]  # fmt: skip
    spec = _chart(30 + 30 * len(names[1]), layer=layers)
    _title(spec, "x", printable(shown.x.key))
    _title(spec, "y", printable(shown.y.key))
    spec["description"] = printable(f"mean of {metric} by {shown.x.key} and {shown.y.key}; the better, the brighter")
    return spec, columns


def curve(name: str, rows: pl.DataFrame, variants: pl.DataFrame, best: Sequence[int] = ()) -> tuple[Spec, Columns]:
    """Build the chart of a recorded array, by variant: medians over seeds as lines, ranges as bands.

    Args:
        name: the array's name.
        rows: columns as `curves.SCHEMA`.
        variants: columns variant and label.
        best: the variants in order, best first. The first `_MAIN` have thick lines, and only they have bands.
    """
    order = {variant: i for i, variant in enumerate(best)}
    places = [order.get(variant, len(order)) for variant in rows["variant"]]
    frame = rows.with_columns(place=pl.Series(places, dtype=pl.Int64)).sort(
        "place", "variant", "step", descending=[True, True, False]
    )  # what comes last is drawn above
    frame = frame.join(variants.select("variant", "label"), on="variant", maintain_order="left")
    if best:
        main = pl.col("place") < _MAIN
        frame = frame.with_columns(pl.when(main).then(pl.col(end)).alias(end) for end in ("low", "high"))
    values = [*frame["low"], *frame["median"], *frame["high"]]
    spec = _curve(scale_of(values))
    _title(spec, "y", printable(name))
    names = frame["label"].unique(maintain_order=True).reverse()
    spec["encoding"]["color"]["sort"] = [_in_lines(label) for label in names]
    spec["description"] = printable(
        f"{name} over steps, by variant: median over seeds, band from the lowest to the highest"
    )
    columns: Columns = {
        "step": frame["step"].cast(pl.Int64).to_list(), "median": _numbers(frame["median"]),
        "low": _numbers(frame["low"]), "high": _numbers(frame["high"]), "seeds": frame["n"].to_list(),
        "label": [_in_lines(label) for label in frame["label"]],
        "main": [place < _MAIN if best else None for place in frame["place"]],
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


def _curve(scale: Scale) -> Spec:
    """Specify an array's medians (lines) and ranges (bands), one colour per variant.

    Titles and sort orders are added later.
    """
    band = {"y": _number_axis("low", scale), "y2": {"field": "high"}, "opacity": _faded(0.02, shown=0.14)}
    line = {
        "y": _number_axis("median", scale),
        "opacity": _faded(0.1),
        "strokeWidth": {"condition": {"test": "datum.main === false", "value": 1}, "value": 2.2},
        "tooltip": _tooltip("label", "step", "median", "low", "high", "seeds"),
    }
    return _chart(
        260,
        params=[_hover("label")],
        encoding={"x": dict(_STEP), "color": {**_category("label"), "legend": _LEGEND}},
        layer=[
            {"name": _FIRST_LAYER, "mark": {"type": "area"}, "encoding": band},
            {"mark": {"type": "line"}, "encoding": line},
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
    kind: Spec = {"type": "log", "nice": False} if scale == "log" else {"type": "linear", "zero": False}
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


def _axis_values(values: Sequence[str]) -> list[str]:
    """Shorten a setting's values for an axis; they stay distinct."""
    texts = [printable(value) for value in values]
    short = [t if len(t) <= _VALUE_LETTERS else f"{t[: _VALUE_LETTERS - 7]}…{t[-6:]}" for t in texts]
    distinct = short if len(set(short)) == len(short) else [f"{i + 1}: {text}" for i, text in enumerate(short)]
    return [f"{text} " if text in _INHERITED else text for text in distinct]


def _in_lines(label: str) -> str:
    """Split a label into lines of at most `_LETTERS` characters, without control characters."""
    return textwrap.fill(printable(label), _LETTERS, break_on_hyphens=False)


def scale_of(values: Sequence[float | None]) -> Scale:
    """Choose an axis for these values: logarithmic if all are positive and their range exceeds `_WIDE_RANGE`."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    return "log" if known and min(known) > 0 and max(known) / min(known) > _WIDE_RANGE else "linear"


def _numbers(values: Sequence[float | None] | pl.Series) -> list[float | None]:
    return [None if v is None or not math.isfinite(v) else float(f"{v:.5g}") for v in values]
