"""Shared functions of the figures: rows, selection of cells, series, means, captions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import polars as pl

from raysweep.analysis.cells import methods
from raysweep.analysis.cells.notes import command, named_seeds, origin_notes, seeds_of
from raysweep.analysis.cells.recorded import require_arrays
from raysweep.analysis.cells.selection import Selected, Selection, select
from raysweep.analysis.cells.source import Source, entries
from raysweep.analysis.errors import NothingDone

TRACES = replace(methods.TRACES, label="decay 0.95")
DECAY_0 = replace(methods.DECAY_0, label="decay 0")
FULL = methods.FULL

Part = Selected[Selection]
"""The cells of a figure that come from one sweep at one setting."""


def ring(k: int) -> methods.Row:
    """Build the row of sparse RTRL with k sources and the paper's default selection, the ring."""
    return methods.sparse(k, "ring")


def parts_of(figure: str, selections: Iterable[Selection]) -> Callable[[Source], list[Part]]:
    """Return a function that selects the cells of each part of a figure from a source.

    It raises `NothingDone` if no cell of any part is done; the message gives the commands to run. It raises
    `AmbiguousCells` if cells of several settings match a part.
    """

    def select_parts(source: Source) -> list[Part]:
        parts = [select(source, selection) for selection in selections]
        if all(part.done.is_empty() for part in parts):
            expected = sum(part.expected for part in parts)
            raise NothingDone(
                f"figure {figure!r} has nothing to draw, as none of its {expected} cells is done; "
                f"run: {command(parts, '; ')}"
            )
        return parts

    return select_parts


def one_part(figure: str, selection: Selection) -> Callable[[Source], Part]:
    """Return a function that selects the cells of a figure with one part. It raises the errors of `parts_of`."""
    select_parts = parts_of(figure, [selection])
    return lambda source: select_parts(source)[0]


def mse(part: Part) -> pl.DataFrame:
    """Return the part's metric in its done cells.

    Columns: row (the method's key), experiment, seed, mse (the metric's value; null if a cell lacks it).
    """
    return part.values().rename({"value": "mse"})


def per_seed(part: Part, metric: str) -> pl.DataFrame:
    """Return a metric that depends on the stream but not on the method.

    There is one row per seed. Columns: seed, mse (the metric's value).
    """
    mean = pl.col("value").drop_nulls().mean().alias("mse")
    return part.values(metric).group_by("seed", maintain_order=True).agg(mean)


def series(part: Part) -> pl.DataFrame:
    """Read the entries of the part's arrays, in one frame.

    Columns: row (the method's key), seed, name (of the array), step, value (null if not finite).

    Raises:
        NoArrays: a done cell has none of the arrays, although it did not diverge.
    """
    selection, source, value = part.selection, part.source, pl.col("value")
    every = entries(source.arrays(selection.arrays))
    require_arrays(part, selection.arrays, every["cell_id"].unique())
    return (
        every.join(part.done.select("cell_id", "row", "seed"), on="cell_id")
        .select("row", "seed", "name", "step", pl.when(value.is_finite()).then(value).alias("value"))
        .sort("row", "seed", "name", "step")
    )


def running(frame: pl.DataFrame, window: int, by: Sequence[str]) -> pl.DataFrame:
    """Compute each seed's running mean of `window` entries, and summarize it over seeds.

    Columns: those of `by`, then step, median, low, high (the range over seeds), n (the number of seeds).
    """
    mean = pl.col("mean")
    return (
        frame.with_columns(mean=pl.col("value").rolling_mean(window).over(*by, "seed", order_by="step"))
        .filter(mean.is_not_null())
        .group_by(*by, "step")
        .agg(median=mean.median(), low=mean.min(), high=mean.max(), n=pl.len().cast(pl.Int64))
    )


def geometric(frame: pl.DataFrame, by: Sequence[str], value: str = "mse") -> pl.DataFrame:
    """Compute for each group the geometric mean (`level`) and the number (`n`) of its positive values.

    A group without positive values has no row.
    """
    positive = frame.filter(pl.col(value) > 0)
    return positive.group_by(list(by), maintain_order=True).agg(
        pl.col(value).log().mean().exp().alias("level"), n=pl.len().cast(pl.Int64)
    )


def caption_of(what: str, parts: Sequence[Part], metric: str) -> str:
    """Build a one-line caption: the description `what`, then metric, sweeps, number of seeds and missing cells."""
    sweeps = list(dict.fromkeys(part.selection.sweep for part in parts))
    counts = [group.height for part in parts for group in part.done.partition_by("row")]
    seeds = f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    sentences = [
        f"{what}.",
        f"Metric: {metric}; {'sweep' if len(sweeps) == 1 else 'sweeps'}: {', '.join(sweeps)}; "
        f"n = {seeds} {'seed' if seeds == '1' else 'seeds'}.",
        *origin_notes(parts),
        *(f"{text}." for part in parts if (text := _diverged(part))),
    ]
    incomplete = [part for part in parts if part.missing.height]
    if incomplete:
        sentences.append(f"Missing: {'; '.join(map(_missing, incomplete))}. To run them: {command(incomplete, '; ')}.")
    return " ".join(sentences)


def _diverged(part: Part) -> str | None:
    """Describe the diverged cells, which lack the metric or have shorter arrays; None if no cell diverged."""
    if part.selection.metric:
        early, drawing = mse(part).filter(~(pl.col("mse") > 0).fill_null(value=False)), "so not drawn"
    elif "diverged" in part.done.columns:
        early, drawing = part.done.filter(pl.col("diverged").cast(pl.Float64) > 0), "drawn up to there"
    else:
        return None
    if early.is_empty():
        return None
    groups = "; ".join(
        f"{part.selection.row_labels([key])}, {named_seeds(seeds)}"
        for key, seeds in part.selection.seeds_by_row(early).items()
    )
    return f"Diverged, {drawing}: {_labelled(part, groups)}"


def _missing(part: Part) -> str:
    """Count and list the missing cells. Rows with the same seeds and status are listed together."""
    missing = part.missing
    statuses = missing["status"].unique(maintain_order=True).to_list()
    if missing.height == part.expected and len(statuses) == 1:
        return _labelled(part, f"all {part.expected} cells, {statuses[0]}")
    rows: dict[tuple[tuple[int, ...], str], list[str]] = {}
    for (key, status), group in missing.group_by("row", "status", maintain_order=True):
        rows.setdefault((tuple(group["seed"].to_list()), str(status)), []).append(str(key))
    groups = "; ".join(
        f"{part.selection.row_labels(keys)}, {seeds_of(part, seeds)}, {status}"
        for (seeds, status), keys in rows.items()
    )
    return _labelled(part, f"{missing.height} of {part.expected} cells ({groups})")


def _labelled(part: Part, text: str) -> str:
    label = part.selection.label
    return f"{label}: {text}".replace("\n", " ") if label else text
