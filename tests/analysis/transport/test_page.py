"""The page of Experiments A to D follows from its saved cells, and has every question with its query."""

import dataclasses
import hashlib
from pathlib import Path

import polars as pl
import pytest

from raysweep.analysis.transport.experiment import columns_read
from raysweep.analysis.transport.page import EXPERIMENTS, page, read, save, state
from raysweep.analysis.transport.question import answers

ROOT = Path(__file__).parents[3]
CELLS = ROOT / "docs" / "results" / "transport" / "cells.parquet"
pytestmark = pytest.mark.usefixtures("few_resamples")
EMPTY = pl.DataFrame(schema={"experiment": pl.String, "status": pl.String})


def test_without_cells_the_page_is_the_plan() -> None:
    text = page(EMPTY)
    for experiment in EXPERIMENTS:
        for question in experiment.questions:
            assert f"| {question.name} | {question.words} | not run |" in text
            assert f"```sql\n{question.query}\n```" in text
    assert "Not run yet: A, B, C, D." in text


def test_an_experiment_is_run_in_full_or_in_part() -> None:
    nothing = [answers(experiment.questions, experiment.own(EMPTY)) for experiment in EXPERIMENTS]
    whole = [dataclasses.replace(answer, units=30) for answer in nothing[2]]
    assert state([nothing[0], nothing[1], whole, nothing[3]]) == "Run: C. Not run yet: A, B, D."
    part = [*whole[:2], *nothing[2][2:]]
    assert state([nothing[0], nothing[1], part, nothing[3]]).startswith(f"Run in part: C (2 of {len(part)} questions).")


def test_names_of_questions_are_unique() -> None:
    names = [question.name for experiment in EXPERIMENTS for question in experiment.questions]
    assert len(set(names)) == len(names)


def test_columns_that_only_a_table_reads_are_kept() -> None:
    names = ["experiment", "status", "mse_b_late", "kalman_hindsight_b_late", "peak_rss_mib"]
    assert columns_read(EXPERIMENTS, pl.DataFrame(schema=names)) == names[:-1]


def test_saved_cells_are_read_again(tmp_path: Path) -> None:
    cells = pl.DataFrame(
        {
            "experiment": ["multiverse_sine", "multiverse_sine", "another"],
            "method": ["rtrl", "traces", "rtrl"],
            "seed": [1, 1, 1],
            "status": ["done", "failed", "done"],
            "mse_post_last_500": [0.5, None, 0.1],
            "peak_rss_mib": [1.0, 2.0, 3.0],
        }
    )
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    cells.write_parquet(first)
    save(read([str(first)]), second)
    again = read([str(second)])
    assert again.columns == ["experiment", "method", "seed", "status", "mse_post_last_500"]
    assert again.rows() == [("multiverse_sine", "rtrl", 1, "done", 0.5)]
    bytes_before = second.read_bytes()
    save(again, second)
    assert second.read_bytes() == bytes_before


def test_a_setting_that_no_cell_of_a_store_has_keeps_the_type_of_the_others(tmp_path: Path) -> None:
    cells = {"experiment": ["multiverse_sine"], "method": ["traces"], "seed": [1], "status": ["done"]}
    paths = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    pl.DataFrame(cells | {"mse_post_last_500": [0.5]}).write_parquet(paths[0])
    pl.DataFrame(cells | {"mse_post_last_500": pl.Series([None], dtype=pl.String)}).write_parquet(paths[1])
    assert read(paths).schema["mse_post_last_500"] == pl.Float64


def test_the_saved_cells_have_the_published_hashes() -> None:
    folder = ROOT / "docs" / "results"
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    hashes = {name: digest for digest, name in (line.split() for line in lines)}
    assert hashes == {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.parquet")
    }
