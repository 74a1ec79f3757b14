"""What the analysis reads: several stores are one, in which each cell is there once."""

from __future__ import annotations

import polars as pl
import pytest

from raysweep.analysis.cells.source import ARRAYS_SCHEMA, Source, joined
from raysweep.orchestrator.errors import InputError


def source(cells: dict[str, list[object]], value: float) -> Source:
    ids = [str(one) for one in cells["cell_id"]]
    rows = {"cell_id": ids, "name": "loss", "step": 0, "stride": 1, "values": [[value]] * len(ids)}
    return Source(
        pl.DataFrame(cells), lambda names: pl.DataFrame(rows, ARRAYS_SCHEMA).filter(pl.col("name").is_in(names))
    )


def test_a_cell_is_that_of_the_first_store_in_which_it_is_done() -> None:
    one = source({"cell_id": ["a", "b"], "status": ["done", "pending"], "loss": [1.0, None], "hidden": [64, 64]}, 1.0)
    other = source({"cell_id": ["a", "b", "c"], "status": ["done"] * 3, "loss": [9.0, 2.0, 3.0], "gap": [1, 2, 3]}, 2.0)
    both = joined([one, other])
    assert both.cells.columns == ["cell_id", "status", "loss", "hidden", "gap"]
    assert both.cells.sort("cell_id").rows() == [
        ("a", "done", 1.0, 64, None), ("b", "done", 2.0, None, 2), ("c", "done", 3.0, None, 3)
    ]  # fmt: skip
    arrays = both.arrays(["loss"]).sort("cell_id")
    assert arrays.select("cell_id", pl.col("values").list.first()).rows() == [("a", 1.0), ("b", 2.0), ("c", 2.0)]
    assert both.arrays(["none"]).schema == ARRAYS_SCHEMA


def test_types_that_differ_widen_and_names_that_differ_are_refused() -> None:
    number = source({"cell_id": ["a"], "status": ["done"], "rate": [1]}, 1.0)
    text = source({"cell_id": ["b"], "status": ["done"], "rate": ["auto"]}, 1.0)
    assert joined([number, text]).cells["rate"].to_list() == ["1", "auto"]
    clash = source({"cell_id": ["b"], "status": ["done"], "config_rate": [1], "metric_rate": [2.0]}, 1.0)
    with pytest.raises(InputError, match="'rate' in one is 'config_rate' in another"):
        joined([number, clash])
    with pytest.raises(InputError, match="'rate' in one is 'config_rate' in another"):
        joined([clash, number])
