"""What a line of the ledger reads: its columns over common seeds, and what stands beside them; or what lacks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from raysweep.analysis.cells.cell_notes import say_missing
from raysweep.analysis.cells.launch_options import commands
from raysweep.analysis.cells.selection import Chosen, Row, choose
from raysweep.analysis.cells.source import Source
from raysweep.analysis.claims.claim import PAPER_SEEDS, Cells
from raysweep.analysis.errors import AmbiguousCells
from raysweep.analysis.statistics.inference import Array

TRIVIAL = ("persistence", "constant", "chance_accuracy")
"""Predictors that learn nothing, as streams record them: what their metrics' names begin with."""


@dataclass(frozen=True)
class Loaded:
    """A line's columns over common seeds, or why there are none."""

    columns: dict[str, Array]
    seeds: tuple[int, ...]
    asked: int
    lacking: str | None
    decay_0: float | None = None
    naive: float | None = None
    trivial: Mapping[str, float] = field(default_factory=dict)
    """What the stream's trivial predictors come to, by name."""
    narrowing: Mapping[str, str] = field(default_factory=dict)
    """Where cells of several settings fit: experiment -> predicate over its cells that leaves one."""
    command: str = ""
    """What makes the line complete, where one setting is chosen."""
    parts: tuple[tuple[str, Chosen], ...] = ()
    """Sweeps, and the cells chosen of each."""


class Reader:
    """A source read once: lines ask for the same cells and arrays again and again."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.at = source.at
        self._frames = {str(name): part for (name,), part in source.cells.group_by("experiment", maintain_order=True)}
        self._chosen: dict[str, Chosen] = {}
        self._arrays: dict[str, pl.DataFrame] = {}

    def chosen(self, cells: Cells, rows: tuple[Row, ...]) -> Chosen:
        """The cells of these rows, or the refusal of `choose`."""
        key = repr((cells.experiment, cells.pinned, cells.seeds, rows))
        if key not in self._chosen:
            frame = self._frames.get(cells.experiment, self._source.cells.clear())
            self._chosen[key] = choose(
                frame, rows, experiment=cells.experiment, pinned=cells.pinned, default_seeds=cells.seeds
            )
        return self._chosen[key]

    def recorded(self, name: str) -> pl.DataFrame:
        """All arrays of one name."""
        if name not in self._arrays:
            self._arrays[name] = self._source.arrays([name])
        return self._arrays[name]


def load(reader: Reader, parts: Sequence[Cells]) -> Loaded:
    """The columns of a line's cells, complete and balanced, else what lacks."""
    if not parts:
        return Loaded({}, (), 0, "")
    columns: dict[str, Array] = {}
    lacking: list[str] = []
    seeds: list[tuple[int, ...]] = []
    asked = 0
    found: list[tuple[str, Chosen]] = []
    several: dict[str, AmbiguousCells] = {}
    for cells in parts:
        try:
            chosen = reader.chosen(cells, cells.rows)
        except AmbiguousCells as error:
            several.setdefault(cells.experiment, error)
            continue
        asked += chosen.asked
        seeds.append(chosen.seeds)
        found.append((cells.sweep, chosen))
        if not chosen.missing.is_empty():
            lacking.append(say_missing(chosen, cells.rows, cells.sweep, reader.at) or "")
            continue
        table = _values(reader, cells, chosen.done)
        for row in cells.rows:
            part = dict(table.filter(pl.col("row") == row.key).select("seed", "value").iter_rows())
            values = [part.get(seed) for seed in chosen.seeds]
            columns[cells.prefix + row.key] = np.array([math.nan if v is None else v for v in values], np.float64)
    known = [(sweep, chosen.cells) for sweep, chosen in found]
    if several:
        why = "no verdict over several settings: " + "; ".join(error.differing for error in several.values())
        narrowing = {experiment: error.choice for experiment, error in several.items()}
        return Loaded({}, (), asked, why, narrowing=narrowing, parts=tuple(found))
    if not lacking and any(one != seeds[0] for one in seeds):
        why = "its sweeps were run at different seeds: " + " against ".join(map(str, dict.fromkeys(seeds)))
        return Loaded({}, (), asked, why, command=_same_seeds(known, seeds, reader.at), parts=tuple(found))
    if lacking:
        return Loaded(
            {},
            (),
            asked,
            " ".join(dict.fromkeys(lacking)),
            command=" && ".join(commands(known, reader.at)),
            parts=tuple(found),
        )
    first = parts[0]
    return Loaded(
        columns,
        seeds[0],
        asked,
        None,
        _decay_0(reader, first, seeds[0]),
        _stream(reader, first, first.naive),
        _trivial(reader, first),
        command=" && ".join(commands(known, reader.at)),
        parts=tuple(found),
    )


def _values(reader: Reader, cells: Cells, done: pl.DataFrame) -> pl.DataFrame:
    """Columns row, seed, value: the metric, or an array put into one number."""
    if cells.reduce is None:
        value = pl.col(cells.metric) if cells.metric in done.columns else pl.lit(None)
        return done.select("row", "seed", value.cast(pl.Float64).alias("value"))
    recorded = reader.recorded(cells.metric).filter(pl.col("cell_id").is_in(done["cell_id"].implode()))
    series: dict[str, list[tuple[int, float]]] = {}
    for cell_id, step, stride, values in recorded.select("cell_id", "step", "stride", "values").iter_rows():
        series.setdefault(cell_id, []).extend((step + i * stride, value) for i, value in enumerate(values))
    rows = []
    for row, seed, cell_id in done.select("row", "seed", "cell_id").iter_rows():
        pairs = sorted(series.get(cell_id, []))
        steps = np.array([step for step, _ in pairs], np.int64)
        number = cells.reduce(steps, np.array([v for _, v in pairs], np.float64)) if pairs else None
        rows.append((row, seed, number))
    return pl.DataFrame(rows, schema={"row": pl.String, "seed": pl.Int64, "value": pl.Float64}, orient="row")


def _decay_0(reader: Reader, cells: Cells, seeds: tuple[int, ...]) -> float | None:
    """Mean of the line's number over the same seeds, in the row that propagates nothing; None where not all there."""
    row = cells.decay_0
    if row is None:
        return None
    try:
        chosen = reader.chosen(cells, (row,))
    except AmbiguousCells:
        return None
    if not set(seeds) <= set(chosen.done["seed"].to_list()):
        return None
    own = replace(cells, metric=cells.decay_0_metric or cells.metric)
    values = _values(reader, own, chosen.done).filter(pl.col("seed").is_in(list(seeds)))["value"]
    return None if values.null_count() else float(values.to_numpy().mean())


def _stream(reader: Reader, cells: Cells, metric: str | None) -> float | None:
    """Mean of a number that is the stream's own, which no method changes."""
    done = reader.chosen(cells, cells.rows).done
    if metric is None or metric not in done.columns:
        return None
    values = done[metric].drop_nulls().to_numpy()
    return float(values.mean()) if values.size else None


def _trivial(reader: Reader, cells: Cells) -> dict[str, float]:
    """The stream's predictors that learn nothing, over the steps of the line's metric."""
    if cells.reduce is not None:
        return {}
    steps = cells.metric.split("_", 1)[-1]
    found = {name: _stream(reader, cells, f"{name}_{steps}") for name in TRIVIAL}
    return {name.replace("_accuracy", ""): value for name, value in found.items() if value is not None}


def _same_seeds(known: Sequence[tuple[str, pl.DataFrame]], seeds: Sequence[tuple[int, ...]], at: str) -> str:
    """Runs what each sweep, whose cells are given, lacks of the seeds that the others have."""
    every = set().union(*seeds)
    listed = ",".join(map(str, [s for s in PAPER_SEEDS if s in every] + sorted(every - set(PAPER_SEEDS))))
    short = [sweep for sweep, own in zip(known, seeds, strict=True) if set(own) < every]
    return " && ".join(f"{command} --seeds {listed}{at}" for command in commands(short))
