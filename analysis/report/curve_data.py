"""Which recorded arrays are drawn as curves, and of which cells; their entries, read for all experiments together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl

from raysweep.analysis.report import cell_details
from raysweep.analysis.report.curves import Curve, series, summary
from raysweep.orchestrator.store.reader import Store

MAX_CURVES = 2
"""Of an experiment."""
MAX_SETTINGS = 10
MAX_CELLS = 20
"""Of a setting; a curve is of its first seeds where it has more."""
MAX_VALUES = 4_000_000
"""Entries of one array that are read."""
TOGETHER = 1_000_000
"""Entries of several arrays that are read at once."""
_MAX_NAMES = 20
"""Arrays of an experiment that are looked at."""


class Drawn(NamedTuple):
    """An experiment's curves, and those of its single cells."""

    curves: tuple[Curve, ...] = ()
    singles: tuple[cell_details.Single, ...] = ()


class _Array(NamedTuple):
    """One array of an experiment, and the cells of which it is read: cell_id, attempt, setting."""

    experiment: str
    name: str
    cells: pl.DataFrame
    values: int
    """Entries, if all cells have as many as the one that was looked at."""
    others: int
    """Settings that are left out."""


def drawn_of(store: Store, done: pl.DataFrame, experiments: Sequence[str]) -> dict[str, Drawn]:
    """Curves by experiment: of arrays of which a cell has one row, so that they have a number a step.

    Args:
        store: where from.
        done: done cells, with setting, workload_version and finished_at.
        experiments: those to draw.
    """
    drawn = dict.fromkeys(experiments, Drawn())
    done = done.filter(pl.col("experiment").is_in(list(experiments)))
    left: dict[str, list[tuple[str, int]]] = {}
    for experiment, name, length in _candidates(store, done).iter_rows():
        left.setdefault(experiment, []).append((name, length))
    settings = {experiment: _settings(done.filter(pl.col("experiment") == experiment)) for experiment in left}
    while any(left.values()):  # a second time only where an array had no finite number
        asked = []
        for experiment, names in left.items():
            room = MAX_CURVES - len(drawn[experiment].curves)
            asked += [_array(experiment, name, length, settings[experiment]) for name, length in names[:room]]
            left[experiment] = names[room:] if room else []
        for batch in _batches(asked):
            entries = _entries(store, batch)
            for array in batch:
                drawn[array.experiment] = _with(drawn[array.experiment], array, entries)
    return drawn


def _candidates(store: Store, done: pl.DataFrame) -> pl.DataFrame:
    """Arrays to draw, the likeliest first: experiment, name, length (entries of one cell)."""
    found = store.collect(
        lambda: store.arrays.select("cell_id", "attempt", "name").join(
            done.lazy().select("cell_id", "attempt", "experiment"), on=["cell_id", "attempt"]
        )
        .group_by("experiment", "name")
        .agg(
            cells=pl.col("cell_id").n_unique(),
            rows=pl.len(),
            cell_id=pl.col("cell_id").min(),
            attempt=pl.col("attempt").sort_by("cell_id").first(),
        )
        .filter(pl.col("rows") == pl.col("cells"))
    )  # fmt: skip
    key = ["cell_id", "attempt", "name"]
    some = found.sort(
        pl.col("name") != "loss", pl.col("cells"), pl.col("name"), descending=[False, True, False]
    ).filter(pl.int_range(pl.len()).over("experiment") < _MAX_NAMES)
    lengths = store.collect(
        lambda: store.arrays.filter(_among(some))
        .join(some.lazy(), on=key, how="semi")
        .select(*key, length=pl.coalesce(pl.col("values_f64").list.len(), pl.col("values").list.len()))
    ).unique(key)  # fmt: skip
    return (
        some.join(lengths, on=key, maintain_order="left")
        .filter(pl.col("length") >= 2)
        .select("experiment", "name", "length")
    )


def _settings(done: pl.DataFrame) -> list[pl.DataFrame]:
    """Cells by setting: those of each workload's newest version first, as what an older one gave is history."""
    versions = ["workload", "workload_version"]
    age = (
        done.group_by(versions)
        .agg(pl.col("finished_at").max())
        .select(*versions, age=pl.col("finished_at").rank("ordinal", descending=True).over("workload"))
    )
    return (
        done.join(age, on=versions, maintain_order="left")
        .sort("age", maintain_order=True)
        .select("cell_id", "attempt", "setting", "seed")
        .partition_by("setting", maintain_order=True)
    )


def _array(experiment: str, name: str, length: int, settings: Sequence[pl.DataFrame]) -> _Array:
    """What to read of an array: first seeds of the first settings, no more than fit into memory."""
    some = settings[:MAX_SETTINGS]
    each = max(1, min(MAX_CELLS, MAX_VALUES // (length * len(some))))
    cells = pl.concat(part.sort("seed").head(each) for part in some)
    return _Array(experiment, name, cells, length * len(cells), len(settings) - len(some))


def _batches(arrays: Sequence[_Array]) -> Iterator[list[_Array]]:
    """Arrays that are read together: few times through the store, and little at once."""
    batch: list[_Array] = []
    for array in arrays:
        if batch and sum(a.values for a in batch) + array.values > TOGETHER:
            yield batch
            batch = []
        batch.append(array)
    if batch:
        yield batch


def _entries(store: Store, arrays: Sequence[_Array]) -> pl.DataFrame:
    """Arrays of some done cells: columns as `raysweep.analysis.cells.source.ARRAYS_SCHEMA`."""
    key = ["cell_id", "attempt", "name"]
    wanted = pl.concat(a.cells.select("cell_id", "attempt", name=pl.lit(a.name)) for a in arrays)
    return store.collect(
        lambda: store.arrays.filter(_among(wanted))
        .join(wanted.lazy(), on=key, how="semi")
        .select(
            "cell_id",
            "name",
            "step",
            "stride",
            pl.coalesce(pl.col("values_f64"), pl.col("values").cast(pl.List(pl.Float64))).alias("values"),
        )
        .unique(["cell_id", "name", "step"], keep="first")
    )  # fmt: skip


def _among(keys: pl.DataFrame) -> pl.Expr:
    """Rows that may have one of these keys: what a scan can leave unread."""
    return pl.col("name").is_in(keys["name"].unique().implode()) & pl.col("cell_id").is_in(
        keys["cell_id"].unique().implode()
    )


def _with(drawn: Drawn, array: _Array, entries: pl.DataFrame) -> Drawn:
    """The same with one curve more, if there is a number in it."""
    mine = (pl.col("name") == array.name) & pl.col("cell_id").is_in(array.cells["cell_id"].implode())
    found, width = series(entries.filter(mine))
    if found.is_empty():
        return drawn
    curve = Curve(array.name, summary(found, array.cells.select("cell_id", "setting")), width, array.others)
    return Drawn((*drawn.curves, curve), drawn.singles or tuple(cell_details.singles(array.name, found)))
