"""Lines whose sweeps were run at different seeds, and lines whose arrays are not at hand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
import pytest

from raysweep.analysis.cells.methods import FULL, TRACES
from raysweep.analysis.cells.source import ARRAYS_SCHEMA, Source
from raysweep.analysis.claims import criteria
from raysweep.analysis.claims.claim import Cells, Line
from raysweep.analysis.claims.load import LineData, Reader, load
from raysweep.analysis.claims.spectra import at
from raysweep.analysis.claims.verdict import judge, settle

SMALL = Cells("paper/e2-lorenz", "lorenz", (TRACES,), {"hidden": 64}, metric="mse_post_all")
OTHER = Cells("paper/spectra-lorenz", "spectra_lorenz", (FULL,), {"hidden": 64}, metric="mse_post_all")
CONDITION = Cells(
    "paper/spectra-lorenz", "spectra_lorenz", (FULL,), {"hidden": 64}, metric="condition", reduce=at(99), prefix="c_"
)


def cells(selected: Cells, seeds: Iterable[int], done: bool = True, **config: Any) -> list[dict[str, Any]]:
    """Cells of a selection's only row; their metric is a thousandth of the seed."""
    (row,) = selected.rows
    settings = {**selected.pinned, **row.config, **config}
    return [
        {
            "cell_id": f"{selected.experiment}-{settings['hidden']}-{seed}",
            "experiment": selected.experiment,
            "method": row.method,
            "k": row.k,
            "seed": seed,
            "config": json.dumps(settings),
            "status": "done" if done else "failed",
            "mse_post_all": seed / 1000,
            "diverged": 0.0,
        }
        for seed in seeds
    ]


def read(rows: Sequence[Mapping[str, Any]], *selected: Cells, arrays: Iterable[str] = ()) -> LineData:
    recorded = pl.DataFrame(
        [(name, "condition", 99, 100, [3.0, 4.0]) for name in arrays], schema=ARRAYS_SCHEMA, orient="row"
    )
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return load(Reader(Source(frame, lambda names: recorded.filter(pl.col("name").is_in(list(names))))), selected)


def test_sweeps_at_different_seeds_are_read_at_those_that_all_have() -> None:
    rows = cells(SMALL, range(1199, 999, -1)) + cells(OTHER, (42, 1001, 1003, 1002))
    data = read(rows, SMALL, OTHER)
    assert data.lacking is None
    assert data.seeds == (1001, 1002, 1003)
    assert {name: column.tolist() for name, column in data.columns.items()} == {
        TRACES.key: [1.001, 1.002, 1.003],
        FULL.key: [1.001, 1.002, 1.003],
    }
    assert data.expected == 6
    assert data.common == (
        "At the 3 seeds that all have: paper/e2-lorenz: 200 seeds (1000..1199); "
        "paper/spectra-lorenz: 4 seeds (42, 1001..1003)"
    )


def test_the_reason_says_how_many_seeds_each_sweep_has() -> None:
    line = Line("x", "x", "x", criteria.lower(TRACES.key, FULL.key), (SMALL, OTHER))
    for seeds, ends in ((range(1000, 1050), True), (range(1000, 1003), False)):
        data = read(cells(SMALL, seeds) + cells(OTHER, range(1000, 1003)), SMALL, OTHER)
        why = settle(judge(line, data), [1.0], 0).why
        assert why.endswith(
            ". At the 3 seeds that all have: paper/e2-lorenz: 50 seeds (1000..1049); "
            "paper/spectra-lorenz: 3 seeds (1000..1002)"
        ) == ends  # fmt: skip
        assert ("At the" in why) == ends


def test_scattered_seeds_are_counted_and_not_all_written_out() -> None:
    data = read(cells(SMALL, range(1000, 1400, 2)) + cells(OTHER, (1000, 1002)), SMALL, OTHER)
    assert "paper/e2-lorenz: 200 seeds (1000, 1002, 1004, 1006, 1008 and 195 more); " in data.common


@pytest.mark.parametrize("seeds", [(42, 7), (42, 1000)])
def test_fewer_than_two_common_seeds_are_not_run(seeds: Sequence[int]) -> None:
    data = read(cells(SMALL, range(1000, 1003)) + cells(OTHER, seeds), SMALL, OTHER)
    assert data.columns == {}
    assert data.lacking == (
        "the line's sweeps were run at different seeds: paper/e2-lorenz: 3 seeds (1000..1002); "
        f"paper/spectra-lorenz: 2 seeds ({seeds[0]}, {seeds[1]})"
    )
    assert data.command.startswith("raysweep resume paper/e2-lorenz --seeds 42,")


def test_sizes_of_one_sweep_are_told_apart() -> None:
    large = Cells(
        "paper/spectra-lorenz", "spectra_lorenz", (FULL,), {"hidden": 256}, metric="mse_post_all", prefix="large_"
    )
    rows = cells(OTHER, range(1000, 1020)) + cells(OTHER, range(1000, 1005), hidden=256)
    assert read(rows, OTHER, large).common == (
        "At the 5 seeds that all have: paper/spectra-lorenz, hidden = 64: 20 seeds (1000..1019); "
        "paper/spectra-lorenz, hidden = 256: 5 seeds (1000..1004)"
    )


def test_a_sweep_that_is_half_done_is_not_read_even_if_the_common_seeds_are() -> None:
    rows = cells(SMALL, range(1000, 1003)) + cells(SMALL, [1003], done=False) + cells(OTHER, range(1000, 1003))
    data = read(rows, SMALL, OTHER)
    assert data.columns == {}
    assert data.lacking is not None
    assert data.lacking.startswith("1 of 4 cells missing")


def test_an_array_that_is_not_at_hand_is_no_divergence() -> None:
    rows = cells(OTHER, range(1000, 1004))
    ids = [str(row["cell_id"]) for row in rows]
    assert read(rows, CONDITION, arrays=ids).columns["c_full"].tolist() == [3.0] * 4
    data = read(rows, CONDITION, arrays=ids[:1])
    assert data.columns == {}
    assert data.lacking == (
        "no verdict without arrays: 3 of 4 done cells of experiment 'spectra_lorenz' have no array condition "
        "(seeds 1001..1003); the sweep that records it: raysweep launch paper/spectra-lorenz"
    )
    rows[0]["diverged"] = 1.0
    values = read(rows, CONDITION, arrays=ids[1:]).columns["c_full"]
    assert math.isnan(values[0])
    assert values[1:].tolist() == [3.0] * 3


def test_arrays_are_needed_at_the_common_seeds_alone() -> None:
    rows = cells(SMALL, range(1000, 1003)) + cells(OTHER, range(1000, 1020))
    data = read(rows, SMALL, CONDITION, arrays=[f"spectra_lorenz-64-{seed}" for seed in range(1000, 1003)])
    assert data.columns["c_full"].tolist() == [3.0] * 3
