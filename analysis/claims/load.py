"""Reading of the cells that a line of the ledger needs: one column per row, or the reason why cells are missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from raysweep.analysis.cells.launch_options import commands
from raysweep.analysis.cells.notes import command, counted_seeds, missing_note
from raysweep.analysis.cells.recorded import lack_of_arrays
from raysweep.analysis.cells.selection import Selected, in_order, select
from raysweep.analysis.cells.source import Source, entries
from raysweep.analysis.claims.claim import Cells
from raysweep.analysis.errors import AmbiguousCells
from raysweep.analysis.statistics.inference import Array

TRIVIAL = ("persistence", "constant", "chance_accuracy")
"""Metric prefixes of the stream's trivial predictors, which learn nothing."""

FEWEST = 2
"""Least number of seeds that all selections of a line must have, if they were run at different seeds."""

Recorded = tuple[NDArray[np.int64], Array]
"""Steps and values of a recorded array."""


@dataclass(frozen=True)
class LineData:
    """A line's columns, with the same seeds in each, or the reason why there are none."""

    columns: dict[str, Array]
    seeds: tuple[int, ...]
    expected: int
    """The number of cells that the line needs."""
    lacking: str | None
    """The reason why there are no columns; None if there are columns."""
    decay_0: float | None = None
    naive: float | None = None
    trivial: Mapping[str, float] = field(default_factory=dict)
    """Trivial predictor -> its mean score on the stream."""
    narrowing: Mapping[str, str] = field(default_factory=dict)
    """Experiment whose cells have several settings -> SQL predicate that selects one setting."""
    command: str = ""
    """The command that runs the line's missing cells; empty if cells of several settings match."""
    parts: tuple[Selected[Cells], ...] = ()
    common: str = ""
    """The seeds of each of the line's selections if these differ; the columns are at the seeds that all have."""


class Reader:
    """A source with a cache, since many lines need the same selections and arrays."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._frames = {str(name): part for (name,), part in source.cells.group_by("experiment", maintain_order=True)}
        self._selected: dict[str, Selected[Cells]] = {}
        self._arrays: dict[str, dict[str, Recorded]] = {}

    def select(self, cells: Cells) -> Selected[Cells]:
        """Select cells, or return the cached result of the same selection.

        Raises:
            AmbiguousCells: cells of several settings match.
        """
        key = repr((cells.experiment, cells.pinned, cells.seeds, cells.rows))
        if key not in self._selected:
            frame = self._frames.get(cells.experiment, self._source.cells.clear())
            self._selected[key] = select(self._source._replace(cells=frame), cells)
        return replace(self._selected[key], selection=cells)

    def arrays(self, name: str) -> dict[str, Recorded]:
        """Return the recorded array `name` of each cell: cell id -> steps and values."""
        if name not in self._arrays:
            by_cell = entries(self._source.arrays([name])).sort("step").group_by("cell_id", maintain_order=True)
            self._arrays[name] = {
                str(cell_id): (part["step"].to_numpy(), part["value"].to_numpy()) for (cell_id,), part in by_cell
            }
        return self._arrays[name]


def load(reader: Reader, cells_of_line: Sequence[Cells]) -> LineData:
    """Read the columns of a line if all its cells are done; otherwise tell why there are none.

    Selections that were run at different seeds are read at the seeds that all of them have, if these are at least
    `FEWEST`. Each selection must be done at all seeds of its own, so that no seed is left out for its result.
    """
    parts: list[Selected[Cells]] = []
    ambiguous: dict[str, AmbiguousCells] = {}
    for cells in cells_of_line:
        try:
            parts.append(reader.select(cells))
        except AmbiguousCells as error:
            ambiguous.setdefault(cells.experiment, error)
    expected = sum(part.expected for part in parts)
    if not cells_of_line:
        return LineData({}, (), 0, "")
    if ambiguous:
        why = "no verdict, cells of several settings fit: " + "; ".join(error.differing for error in ambiguous.values())
        narrowing = {experiment: error.choice for experiment, error in ambiguous.items()}
        return LineData({}, (), expected, why, narrowing=narrowing, parts=tuple(parts))
    missing = dict.fromkeys(note for part in parts if (note := missing_note(part)))
    if missing:
        return LineData({}, (), expected, " ".join(missing), command=command(parts), parts=tuple(parts))
    seeds, every = _common(parts), tuple(parts)
    common = _each(parts) if any(set(part.seeds) != set(seeds) for part in parts) else ""
    if common and len(seeds) < FEWEST:
        why = f"the line's sweeps were run at different seeds: {common}"
        return LineData({}, (), expected, why, command=_same_seeds(parts), parts=every)
    parts = [_at(part, seeds) for part in parts]
    if lack := "; ".join(dict.fromkeys(text for part in parts if (text := _without_arrays(reader, part)))):
        return LineData({}, (), expected, f"no verdict without arrays: {lack}", command=command(every), parts=every)
    first = parts[0].selection
    return LineData(
        {name: column for part in parts for name, column in _columns(reader, part).items()},
        seeds,
        sum(part.expected for part in parts),
        None,
        _decay_0(reader, first, seeds),
        _of_stream(parts[0], first.naive),
        _trivial(parts[0]),
        command=command(every),
        parts=every,
        common=common and f"At the {len(seeds)} seeds that all have: {common}",
    )


def _common(parts: Sequence[Selected[Cells]]) -> tuple[int, ...]:
    """Return the seeds that all parts have, in the order of the first part."""
    return tuple(seed for seed in parts[0].seeds if all(seed in part.seeds for part in parts))


def _each(parts: Sequence[Selected[Cells]]) -> str:
    """Describe each part's seeds, such as `paper/spectra-sine, hidden = 64: 20 seeds (1000..1019)`; equal ones once."""
    pinned = [part.selection.pinned for part in parts]
    differing = [name for name in dict.fromkeys(key for own in pinned for key in own) if _several(pinned, name)]
    texts = []
    for part in parts:
        own = part.selection.pinned
        words = [part.selection.sweep, *(f"{name} = {own[name]}" for name in differing if name in own)]
        texts.append(f"{', '.join(words)}: {counted_seeds(part.seeds)}")
    return "; ".join(dict.fromkeys(texts))


def _several(pinned: Sequence[Mapping[str, object]], name: str) -> bool:
    first = pinned[0].get(name)
    return any(own.get(name) != first for own in pinned)


def _at(part: Selected[Cells], seeds: tuple[int, ...]) -> Selected[Cells]:
    """Return the part at some of its seeds."""
    if part.seeds == seeds:
        return part
    done = part.done.filter(pl.col("seed").is_in(list(seeds)))
    return replace(part, done=done, seeds=seeds, expected=len(part.selection.rows) * len(seeds))


def _without_arrays(reader: Reader, part: Selected[Cells]) -> str | None:
    """Say which cells of the part lack the array that is reduced; None if none does, or if a metric is read."""
    if part.selection.reduce is None:
        return None
    return lack_of_arrays(part, [part.selection.metric], reader.arrays(part.selection.metric))


def _columns(reader: Reader, part: Selected[Cells]) -> dict[str, Array]:
    """Return one column per row: its values in the order of the seeds, and nan for a cell without a value."""
    columns = {}
    table = _values(reader, part)
    for row in part.selection.rows:
        by_seed = dict(table.filter(pl.col("row") == row.key).select("seed", "value").iter_rows())
        values = [by_seed.get(seed) for seed in part.seeds]
        columns[part.selection.prefix + row.key] = np.array([math.nan if v is None else v for v in values], np.float64)
    return columns


def _values(reader: Reader, part: Selected[Cells]) -> pl.DataFrame:
    """Return one number for each done cell: the metric, or the reduced array. Columns: row, seed, value."""
    cells, done = part.selection, part.done
    if cells.reduce is None:
        value = pl.col(cells.metric) if cells.metric in done.columns else pl.lit(None)
        return done.select("row", "seed", value.cast(pl.Float64).alias("value"))
    recorded = reader.arrays(cells.metric)
    rows = [
        (row, seed, cells.reduce(*recorded[cell_id]) if cell_id in recorded else None)
        for row, seed, cell_id in done.select("row", "seed", "cell_id").iter_rows()
    ]
    return pl.DataFrame(rows, schema={"row": pl.String, "seed": pl.Int64, "value": pl.Float64}, orient="row")


def _decay_0(reader: Reader, cells: Cells, seeds: tuple[int, ...]) -> float | None:
    """Compute the mean over `seeds` of the metric in the selection's `decay_0` row; None if a seed lacks it."""
    if cells.decay_0 is None:
        return None
    metric = cells.decay_0_metric or cells.metric
    try:
        part = reader.select(replace(cells, rows=(cells.decay_0,), metric=metric))
    except AmbiguousCells:
        return None
    if not set(seeds) <= set(part.done["seed"].to_list()):
        return None
    values = _values(reader, part).filter(pl.col("seed").is_in(list(seeds)))["value"]
    return None if values.null_count() else _mean(values.to_numpy(), metric)


def _mean(values: Array, metric: str) -> float:
    """Compute the geometric mean of errors, or the arithmetic mean of other metrics."""
    if metric.startswith("mse") and values.min() > 0:
        return float(np.exp(np.log(values).mean()))
    return float(values.mean())


def _of_stream(part: Selected[Cells], metric: str | None) -> float | None:
    """Compute the mean over the done cells of a metric that depends only on the stream; None if no cell has it."""
    if metric is None or metric not in part.done.columns:
        return None
    values = part.done[metric].drop_nulls().to_numpy()
    return float(values.mean()) if values.size else None


def _trivial(part: Selected[Cells]) -> dict[str, float]:
    """Return the mean score of each trivial predictor over the steps of the line's metric."""
    if part.selection.reduce is not None:
        return {}
    steps = part.selection.metric.split("_", 1)[-1]
    values = {name: _of_stream(part, f"{name}_{steps}") for name in TRIVIAL}
    return {name.replace("_accuracy", ""): value for name, value in values.items() if value is not None}


def _same_seeds(parts: Sequence[Selected[Cells]]) -> str:
    """Build the command that runs all seeds of the line in each sweep that lacks some of them."""
    every = in_order(seed for part in parts for seed in part.seeds)
    short = [(part.selection.sweep, part.cells) for part in parts if set(part.seeds) < set(every)]
    seeds, at = ",".join(map(str, every)), parts[0].source.at
    return " && ".join(f"{command} --seeds {seeds}{at}" for command in commands(short))
