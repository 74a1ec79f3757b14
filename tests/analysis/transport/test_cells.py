"""The cells of Experiments A to D are read from stores and files, and saved without a loss."""

from pathlib import Path

import polars as pl
import pytest

from raysweep.analysis.transport.cells import SCHEMA, SETTINGS, read, save
from raysweep.analysis.transport.page import EXPERIMENTS
from raysweep.analysis.transport.question import rows_of
from raysweep.orchestrator.errors import InputError

CELLS = {
    "experiment": ["multiverse_sine", "multiverse_sine", "another"],
    "method": ["rtrl", "traces", "rtrl"],
    "seed": [1, 1, 1],
    "status": ["done", "failed", "done"],
    "mse_post_last_500": [0.5, None, 0.1],
    "peak_rss_mib": [1.0, 2.0, 3.0],
}


def written(path: Path, **changes: object) -> str:
    pl.DataFrame(CELLS | changes).write_parquet(path)
    return str(path)


def test_the_schema_has_every_column_that_a_question_or_a_table_reads() -> None:
    nothing = pl.DataFrame(schema=SCHEMA)
    for experiment in EXPERIMENTS:
        assert experiment.details(nothing) is not None
        assert experiment.appendix(nothing) == ""
        for query in {question.query for question in experiment.questions}:
            assert rows_of(query, nothing).is_empty()


def test_saved_cells_are_read_again_and_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    save(read([written(first)]), second)
    assert pl.read_parquet(second).columns == ["experiment", "method", "status", "seed", "mse_post_last_500"]
    again = read([str(second)])
    assert again.schema == SCHEMA
    assert again.select("method", "mse_post_last_500").rows() == [("rtrl", 0.5)]
    before = second.read_bytes()
    save(again, second)
    assert second.read_bytes() == before


def test_of_a_cell_with_two_results_the_first_is_taken(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / "a.parquet"),
        written(tmp_path / "b.parquet", mse_post_last_500=[0.6, None, None], seed=[1, 2, 3]),
    ]
    assert read(paths)["mse_post_last_500"].to_list() == [0.5]
    assert read(paths[::-1])["mse_post_last_500"].to_list() == [0.6]


def test_a_setting_that_no_cell_of_a_store_has_keeps_its_type(tmp_path: Path) -> None:
    nothing = pl.Series([None] * 3, dtype=pl.String)
    cells = read([written(tmp_path / "a.parquet", decay=nothing, seed=[2, 2, 2]), written(tmp_path / "b.parquet")])
    assert (cells.height, cells.schema["decay"]) == (2, pl.Float64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decay": ["a", "b", "c"]}, "column decay is String, not Float64"),
        ({"mse_post_last_500": [[1.0], [2.0], [3.0]]}, "column mse_post_last_500 is List"),
    ],
)
def test_what_is_no_table_of_cells_is_one_message(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read([written(tmp_path / "a.parquet", **changes)])


def test_a_file_without_the_columns_of_cells_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"seed": [1]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no column experiment, method, status"):
        read([str(tmp_path / "a.parquet")])
    for name in ("none.parquet", "*.parquet"):
        with pytest.raises(InputError, match="no file of saved cells"):
            read([str(tmp_path / name)])


def test_cells_that_are_saved_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "cells.parquet"
    both = read([written(tmp_path / "a.parquet"), written(tmp_path / "b.parquet", seed=[2, 2, 2])])
    save(both, path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"1 cells that would be lost \(multiverse_sine\)"):
        save(both.head(1), path)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="nothing to save"):
        save(both.clear(), path)
    save(both.with_columns(mse_post_last_500=1.0), path)  # the same cells, run again
    assert read([str(path)])["mse_post_last_500"].to_list() == [1.0, 1.0]


@pytest.mark.parametrize("target", ["folder", "text", "pipe"])
def test_what_is_no_file_of_cells_is_not_replaced(tmp_path: Path, target: str) -> None:
    path = tmp_path / target
    if target == "folder":
        path.mkdir()
    elif target == "text":
        path.write_text("mine")
    else:
        path.symlink_to("/dev/null")
    with pytest.raises(InputError):
        save(read([written(tmp_path / "a.parquet")]), path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a.parquet", target])
    assert path.is_symlink() or target != "pipe"


def test_settings_are_no_metrics() -> None:
    assert SETTINGS.keys() < SCHEMA.keys()
    assert not any(name.endswith(("_late", "_all", "_500")) for name in SETTINGS)
