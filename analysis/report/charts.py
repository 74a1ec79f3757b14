"""Vega-Lite charts, built with Altair. Each is a specification without data, and its data by column.

Text and lines have the colour `currentColor`, so that charts follow the page's light, dark and print styles. Altair is
imported inside the functions.
"""

from __future__ import annotations

import copy
import functools
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from raysweep.orchestrator.text import printable

if TYPE_CHECKING:
    import altair as alt

COLOURS = ["#3a86d4", "#e07b2c", "#2a9d6f", "#c2558f", "#8f7ad1", "#b5a02c", "#2aa3b8", "#d05656", "#7d8b99", "#8c6b4f"]
"""Colours of the series, legible on white and on black; a chart has at most one series per colour."""
NO_K = "none"
_LETTERS = 44
"""Maximum characters in one line of a label, so that it fits a telephone's width."""
_LINE, _MARK, _GAP = 14, 7, 17
"""Heights in pixels: one label line, from the label to its interval, from the interval to the next label."""
_WIDE_RANGE = 30
"""An axis is logarithmic if the ratio of its largest to its smallest value is above this."""

Spec = dict[str, Any]
Columns = dict[str, list[Any]]
Scale = Literal["log", "linear"]


def metric(name: str, rows: pl.DataFrame, variants: pl.DataFrame) -> tuple[Spec, Columns]:
    """Build the chart of a metric's means and intervals: against k if it varies in few series, else by variant.

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
        spec = copy.deepcopy(_against_k(scale))
        spec["encoding"]["x"]["sort"] = order
        spec["encoding"]["color"]["sort"] = [_in_lines(n) for n in names]
        _title(spec, "y", printable(name))
    else:
        spec = copy.deepcopy(_row_a_setting(scale))
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
    """Build the chart of a recorded array by variant: medians over seeds as lines, ranges as bands.

    Args:
        name: the array's name.
        rows: columns as `curves.SCHEMA`.
        variants: columns variant and label.
    """
    frame = rows.join(variants.select("variant", "label"), on="variant", maintain_order="left")
    values = [*frame["low"], *frame["high"]]
    spec = copy.deepcopy(_curve(_scale(values)))
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


def single() -> Spec:
    """Build the chart of one cell's curve. The page adds the data, columns step and value."""
    import altair as alt

    chart = alt.Chart(_data()).mark_line(strokeWidth=1.5, color=COLOURS[0])
    chart = chart.encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(grid=False)),
        y=alt.Y("value:Q", scale=alt.Scale(zero=False)),
        tooltip=["step:Q", "value:Q"],
    )
    return _spec(chart, 160)


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
        "background": None,
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


# Templates without data and titles, cached because building a chart costs more than filling one in.


@functools.cache
def _against_k(scale: Scale) -> Spec:
    import altair as alt

    hover = alt.selection_point(fields=["series"], bind="legend")
    base = alt.Chart(_data()).encode(
        x=alt.X("k:O", title="k", axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("series:N"),
        color=alt.Color("series:N", legend=_legend()),
        opacity=alt.condition(hover, alt.value(1), alt.value(0.15)),
        tooltip=_tooltip("label:N", "mean:Q", "low:Q", "high:Q", "seeds:Q"),
    )
    value = _number_axis(alt.Y, "mean:Q", scale)
    rule = base.mark_rule(strokeWidth=1.5).encode(y=_number_axis(alt.Y, "low:Q", scale), y2="high:Q")
    point = base.mark_point(filled=True, size=55).encode(y=value, shape=alt.Shape("series:N", legend=None))
    return _lift(_spec(alt.layer(rule, point).add_params(hover), 280), "x", "color")


@functools.cache
def _row_a_setting(scale: Scale) -> Spec:
    import altair as alt

    base = alt.Chart(_data()).encode(
        y=alt.Y("label:N", sort=None, axis=None, scale=alt.Scale(type="band", padding=0)),
        tooltip=_tooltip("label:N", "mean:Q", "low:Q", "high:Q", "seeds:Q"),
    )
    text = base.mark_text().encode(text="lines:N", x=alt.value(0))
    rule = base.mark_rule(strokeWidth=1.5, color=COLOURS[0]).encode(x=_number_axis(alt.X, "low:Q", scale), x2="high:Q")
    point = base.mark_point(filled=True, size=55, color=COLOURS[0]).encode(x=_number_axis(alt.X, "mean:Q", scale))
    return _spec(alt.layer(rule, point, text), _LINE + _MARK + _GAP)


@functools.cache
def _curve(scale: Scale) -> Spec:
    import altair as alt

    hover = alt.selection_point(fields=["label"], bind="legend")
    base = alt.Chart(_data()).encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(grid=False)), color=alt.Color("label:N", legend=_legend())
    )
    band = base.mark_area().encode(
        y=_number_axis(alt.Y, "low:Q", scale),
        y2="high:Q",
        opacity=alt.condition(hover, alt.value(0.14), alt.value(0.02)),
    )
    line = base.mark_line(strokeWidth=1.5).encode(
        y=_number_axis(alt.Y, "median:Q", scale),
        opacity=alt.condition(hover, alt.value(1), alt.value(0.1)),
        tooltip=_tooltip("label:N", "step:Q", "median:Q", "low:Q", "high:Q", "seeds:Q"),
    )
    return _lift(_spec(alt.layer(band, line).add_params(hover), 260), "x", "color")


def _tooltip(*fields: str) -> list[alt.Tooltip]:
    import altair as alt

    return [alt.Tooltip(f, format=".4g") if f.endswith(":Q") and f[0] != "s" else alt.Tooltip(f) for f in fields]


def _legend() -> alt.Legend:
    """Build a legend whose labels keep their line breaks."""
    import altair as alt

    return alt.Legend(labelExpr="split(datum.label, '\\n')")


def _number_axis(channel: Callable[..., Any], field: str, scale: Scale) -> Any:
    """Build a channel whose axis has few grid lines. By default a logarithmic axis has nine per decade."""
    import altair as alt

    range_of = alt.Scale(type="log") if scale == "log" else alt.Scale(type="linear", zero=False)
    return channel(field, scale=range_of, axis=alt.Axis(tickCount=6, format="~g"))


def _data() -> alt.NamedData:
    import altair as alt

    return alt.NamedData(name="rows")


def _spec(chart: Any, height: int) -> Spec:
    """Convert a chart to a dictionary, and validate it against Vega-Lite's schema."""
    spec: Spec = chart.properties(width="container", height=height).to_dict()
    spec.pop("config", None)  # the page sets one config for all charts
    spec.pop("$schema")
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}  # the height is not fitted to the page
    return spec


def _lift(spec: Spec, *channels: str) -> Spec:
    """Move encodings that all layers share to the top level of the specification."""
    spec["encoding"] = {channel: spec["layer"][0]["encoding"][channel] for channel in channels}
    for layer in spec["layer"]:
        for channel in channels:
            del layer["encoding"][channel]
    return spec


def _title(spec: Spec, channel: str, text: str) -> None:
    for layer in spec["layer"]:
        if "field" in layer["encoding"][channel]:
            layer["encoding"][channel]["title"] = text


def _in_lines(label: str) -> str:
    """Split a label into lines of at most `_LETTERS` characters, without control characters."""
    return textwrap.fill(printable(label), _LETTERS, break_on_hyphens=False)


def _scale(values: Sequence[float | None]) -> Scale:
    """Choose an axis for these values: logarithmic if all are positive and their range exceeds `_WIDE_RANGE`."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    return "log" if known and min(known) > 0 and max(known) / min(known) > _WIDE_RANGE else "linear"


def _numbers(values: Sequence[float | None] | pl.Series) -> list[float | None]:
    return [None if v is None or not math.isfinite(v) else float(f"{v:.5g}") for v in values]
