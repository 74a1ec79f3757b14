"""Saved cells: what is read back is what was recorded; what is large is left out, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from raysweep.analysis.cells.saved import ARRAYS_FILE, from_file, to_file
from raysweep.analysis.cells.source import ARRAYS_SCHEMA, Source, joined
from raysweep.orchestrator.errors import InputError

READS = [("spectra", "condition"), ("spectra", "rank"), ("sine", "loss")]


def source(arrays: Mapping[tuple[str, str], Sequence[float]], seed: int = 1, pending: Sequence[str] = ()) -> Source:
    """Cells named by their experiment, such as `sine0`, and their arrays: (cell, name) -> values."""
    ids = sorted({cell for cell, _ in arrays})
    cells = pl.DataFrame(
        {
            "cell_id": ids,
            "experiment": [name.rstrip("0123456789") for name in ids],
            "seed": [seed] * len(ids),
            "config": ["{}"] * len(ids),
            "status": ["pending" if name in pending else "done" for name in ids],
            "host": ["machine"] * len(ids),
        }
    )
    rows = [(cell, name, 9, 10, list(values)) for (cell, name), values in arrays.items()]
    recorded = pl.DataFrame(rows, schema=ARRAYS_SCHEMA, orient="row")
    return Source(cells, lambda names: recorded.filter(pl.col("name").is_in(list(names))))


SINGLE = [float(value) for value in np.float32([0.1, 1e-9, np.nan, np.inf])]
DOUBLE = [0.1, 1 / 3, 5e-324]


def read(given: Source) -> dict[tuple[str, str], list[float]]:
    frame = given.arrays(["condition", "loss", "other", "rank"])
    assert frame.schema == ARRAYS_SCHEMA
    assert set(frame.select("step", "stride").rows()) <= {(9, 10)}
    return {(cell, name): values for cell, name, values in frame.select("cell_id", "name", "values").iter_rows()}


def test_arrays_are_read_back_bit_by_bit_and_only_the_wanted_ones_of_done_cells(tmp_path: Path) -> None:
    given = {
        ("spectra0", "condition"): SINGLE,
        ("spectra0", "rank"): DOUBLE,
        ("spectra0", "other"): [1.0],
        ("sine0", "condition"): [2.0],
        ("spectra1", "condition"): [3.0],
    }
    assert to_file(source(given, pending=["spectra1"]), tmp_path / "cells.parquet", READS) == []
    kept = read(from_file(tmp_path / "cells.parquet"))
    assert kept.keys() == {("spectra0", "condition"), ("spectra0", "rank")}
    for (cell, name), values in kept.items():
        assert np.array_equal(values, given[cell, name], equal_nan=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [ARRAYS_FILE, "cells.parquet"]


def test_the_same_cells_give_the_same_bytes_also_onto_the_file_they_come_from(tmp_path: Path) -> None:
    given = source({("spectra1", "rank"): [2.0], ("spectra0", "rank"): [1.0], ("spectra0", "condition"): SINGLE})
    to_file(given, tmp_path / "cells.parquet", READS)
    names = ("cells.parquet", ARRAYS_FILE)
    first = [(tmp_path / name).read_bytes() for name in names]
    turned = Source(given.cells.reverse(), lambda names: given.arrays(names).reverse())
    for again in (turned, from_file(tmp_path / "cells.parquet")):
        to_file(again, tmp_path / "cells.parquet", READS)
        assert [(tmp_path / name).read_bytes() for name in names] == first


def test_the_experiment_with_the_most_values_is_left_out_and_named(tmp_path: Path) -> None:
    given = {("sine0", "loss"): [0.5] * 8, ("spectra0", "condition"): [1.0] * 3, ("spectra0", "rank"): [1.0] * 2}
    lines = to_file(source(given), tmp_path / "cells.parquet", READS, most=12)
    assert lines == ["arrays of experiment sine are not saved: loss, 8 values; the file holds 12"]
    assert read(from_file(tmp_path / "cells.parquet")).keys() == {("spectra0", "condition"), ("spectra0", "rank")}
    assert to_file(source(given), tmp_path / "cells.parquet", READS, most=13) == []


def test_float32_values_take_four_bytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random(50_000)
    sizes = []
    for values in (noise.astype(np.float32), noise):
        to_file(source({("sine0", "loss"): values.tolist()}), tmp_path / "cells.parquet", READS)
        sizes.append((tmp_path / ARRAYS_FILE).stat().st_size)
    assert sizes[0] < 4 * noise.size < 0.7 * sizes[1]


def test_a_file_and_a_store_are_joined_with_their_arrays(tmp_path: Path) -> None:
    to_file(source({("spectra0", "rank"): [1.0], ("spectra1", "rank"): [2.0]}), tmp_path / "cells.parquet", READS)
    new = source({("spectra1", "rank"): [9.0], ("spectra2", "rank"): [3.0]})
    file = from_file(tmp_path / "cells.parquet")
    assert read(joined([file, new])) == {(f"spectra{i}", "rank"): [1.0 + i] for i in range(3)}
    assert read(joined([new, file]))["spectra1", "rank"] == [9.0]


def test_cells_without_a_file_of_arrays_have_none(tmp_path: Path) -> None:
    to_file(source({("spectra0", "rank"): [1.0]}), tmp_path / "cells.parquet", READS)
    (tmp_path / ARRAYS_FILE).unlink()
    assert read(from_file(tmp_path / "cells.parquet")) == {}


def test_a_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "cells.parquet"
    to_file(source({("spectra0", "rank"): [1.0]}), path, READS)
    pl.DataFrame({"cell_id": ["a"]}).write_parquet(tmp_path / ARRAYS_FILE)
    with pytest.raises(InputError, match="no file of arrays: it has no column name, step, stride, values"):
        from_file(path)
    (tmp_path / ARRAYS_FILE).write_text("nothing")
    with pytest.raises(InputError, match="cannot read arrays"):
        from_file(path)
    with pytest.raises(InputError, match="this name is that of the arrays"):
        to_file(source({("spectra0", "rank"): [1.0]}), tmp_path / ARRAYS_FILE, READS)
