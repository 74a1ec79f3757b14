"""Selection and reading of the recorded arrays that the report draws as curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from raysweep.analysis.cells.source import among, read_arrays
from raysweep.analysis.report import cell_details
from raysweep.analysis.report.curves import Curve, series, summary
from raysweep.orchestrator.store.reader import Store

MAX_CURVES = 2
"""Maximum curves per experiment."""
MAX_VARIANTS = 10
MAX_CELLS = 20
"""Maximum cells per variant; those with the lowest seeds are drawn."""
MAX_VALUES = 4_000_000
"""Maximum entries that are read for one array, over all its cells."""
MAX_BATCH = 1_000_000
"""Maximum entries per read, unless a single array has more."""
_MAX_NAMES = 20
"""Maximum arrays of an experiment that are considered."""


class ExperimentCurves(NamedTuple):
    """The curves of an experiment: by variant, and of single cells."""

    curves: tuple[Curve, ...] = ()
    cells: tuple[cell_details.CellCurve, ...] = ()


class _Array(NamedTuple):
    """An array of an experiment, and the cells in which it is read (columns cell_id, attempt, variant)."""

    experiment: str
    name: str
    cells: pl.DataFrame
    values: int
    """Number of entries, estimated from the length in one cell."""
    others: int
    """Number of variants that are not read, beyond `MAX_VARIANTS`."""


def curves_of(
    store: Store, done: pl.DataFrame, experiments: Sequence[str], best: Mapping[str, Sequence[int]]
) -> dict[str, ExperimentCurves]:
    """Read the curves of each experiment from its arrays that have one number per step.

    Args:
        store: the store.
        done: done cells, with variant, workload_version and finished_at.
        experiments: names of the experiments to draw.
        best: experiment -> its variants that are drawn first.
    """
    drawn = dict.fromkeys(experiments, ExperimentCurves())
    done = done.filter(pl.col("experiment").is_in(list(experiments)))
    left: dict[str, list[tuple[str, int]]] = {}
    for experiment, name, length in _candidates(store, done).iter_rows():
        left.setdefault(experiment, []).append((name, length))
    variants = {
        experiment: _variants(done.filter(pl.col("experiment") == experiment), best.get(experiment, ()))
        for experiment in left
    }
    while any(left.values()):  # repeats only if an array had no finite number
        batchable = []
        for experiment, names in left.items():
            room = MAX_CURVES - len(drawn[experiment].curves)
            batchable += [_array(experiment, name, length, variants[experiment]) for name, length in names[:room]]
            left[experiment] = names[room:] if room else []
        for batch in _batches(batchable):
            wanted = pl.concat(a.cells.select("cell_id", "attempt", name=pl.lit(a.name)) for a in batch)
            arrays = read_arrays(store, wanted)
            for array in batch:
                drawn[array.experiment] = _with(drawn[array.experiment], array, arrays)
    return drawn


def _candidates(store: Store, done: pl.DataFrame) -> pl.DataFrame:
    """List the arrays that can be drawn. In an experiment, `loss` comes first, then the arrays that most cells have.

    Columns: experiment, name, length (entries in one cell).
    """
    recorded = store.collect(
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
    some = recorded.sort(
        pl.col("name") != "loss", pl.col("cells"), pl.col("name"), descending=[False, True, False]
    ).filter(pl.int_range(pl.len()).over("experiment") < _MAX_NAMES)
    lengths = store.collect(
        lambda: store.arrays.filter(among(some))
        .join(some.lazy(), on=key, how="semi")
        .select(*key, length=pl.coalesce(pl.col("values_f64").list.len(), pl.col("values").list.len()))
    ).unique(key)  # fmt: skip
    return (
        some.join(lengths, on=key, maintain_order="left")
        .filter(pl.col("length") >= 2)
        .select("experiment", "name", "length")
    )


def _variants(done: pl.DataFrame, best: Sequence[int]) -> list[pl.DataFrame]:
    """Split cells by variant. The best variants come first, then those of each workload's newest version."""
    versions = ["workload", "workload_version"]
    age = (
        done.group_by(versions)
        .agg(pl.col("finished_at").max())
        .select(*versions, age=pl.col("finished_at").rank("ordinal", descending=True).over("workload"))
    )
    order = pl.DataFrame({"variant": best}, {"variant": pl.UInt32}).with_row_index("place")
    return (
        done.join(age, on=versions, maintain_order="left")
        .join(order, on="variant", how="left", maintain_order="left")
        .sort("place", "age", maintain_order=True, nulls_last=True)
        .select("cell_id", "attempt", "variant", "seed")
        .partition_by("variant", maintain_order=True)
    )


def _array(experiment: str, name: str, length: int, variants: Sequence[pl.DataFrame]) -> _Array:
    """Choose the cells in which an array is read: of each of the first variants, those with the lowest seeds.

    The cells have at most `MAX_VALUES` entries together, but each of these variants has at least one cell.
    """
    some = variants[:MAX_VARIANTS]
    each = max(1, min(MAX_CELLS, MAX_VALUES // (length * len(some))))
    cells = pl.concat(part.sort("seed").head(each) for part in some)
    return _Array(experiment, name, cells, length * len(cells), len(variants) - len(some))


def _batches(arrays: Sequence[_Array]) -> Iterator[list[_Array]]:
    """Group arrays into batches, so that the store is read few times.

    A batch has at most `MAX_BATCH` entries, or a single array.
    """
    batch: list[_Array] = []
    for array in arrays:
        if batch and sum(a.values for a in batch) + array.values > MAX_BATCH:
            yield batch
            batch = []
        batch.append(array)
    if batch:
        yield batch


def _with(drawn: ExperimentCurves, array: _Array, arrays: pl.DataFrame) -> ExperimentCurves:
    """Add an array's curve to the curves drawn so far, if the array has a finite number."""
    own = (pl.col("name") == array.name) & pl.col("cell_id").is_in(array.cells["cell_id"].implode())
    binned, width = series(arrays.filter(own))
    if binned.is_empty():
        return drawn
    curve = Curve(array.name, summary(binned, array.cells.select("cell_id", "variant")), width, array.others)
    cells = drawn.cells or tuple(cell_details.cell_curves(array.name, binned))
    return ExperimentCurves((*drawn.curves, curve), cells)
