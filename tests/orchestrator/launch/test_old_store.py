"""A store of commit 2e45db3, from before the packages moved below `raysweep`: it is read, resumed and extended.

tests/data/store-2e45db3 has a user's sweep (measure; its seed 2 fails) and a bundled workload's (sine, launched for two
seeds and then for a third).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.launch.launch import Launch
from raysweep.orchestrator.launch.request import Options, from_sweeps
from tests.conftest import ROOT

OLD = ROOT / "tests" / "data" / "store-2e45db3"
MEASURE = {
    "01d9ea85c88f44927be41f87", "b5fe32a83f9ffd6202752cc1", "dd1536ef0e55478092f53198", "722c5e9a53fc61cdc7c1aa44",
    "c681a6e82584ae0bcf3a585f", "d80fa019b7ff0c0c5ce8d0f3", "ea4c164f75b5b0ba7b68c294", "ee4f12bc65b002e52d03721b",
    "ecf6995401418648a7fa897d", "9f62c1c436cb8d2cfbaf4ee2", "a6d56488a861d450890dde11", "d9fd4baa2deb88789fa0c870",
}  # fmt: skip
SINE = {
    ("traces", 0, 0): ("99327bb46f2c6ef7466b0ea6", 0.239967),
    ("traces", 0, 1): ("9b5d2389fde4e70a73cc19e8", 0.330938),
    ("sparse_rtrl", 2, 0): ("a963d6f23e41272e9a94ea07", 0.136163),
    ("sparse_rtrl", 2, 1): ("92e9e05c2fd2f0d14b119c45", 0.174154),
    ("sparse_rtrl", 4, 0): ("68ee28f975c4a62753f5903d", 0.131614),
    ("sparse_rtrl", 4, 1): ("ece492dc04fb5ff1f66b486b", 0.159997),
}
"""Of seeds 0 and 1: (method, k, seed) -> (cell id, recorded error after the shift)."""


@pytest.fixture
def old(folder: Path) -> Path:
    """A copy of the old project as the current folder."""
    shutil.copytree(OLD, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def states(sweep: str, **options: bool) -> dict[str, set[str]]:
    """Plan state -> cell ids, by the files as they are now."""
    store = Store()
    request = from_sweeps([Sweep.load(f"{sweep}.toml")], store)
    planned = Launch(request, store, Options(**options)).current_plan()  # type: ignore[arg-type]
    groups = planned.frame.group_by("state").agg("cell_id").iter_rows()
    return {state: set(ids) for state, ids in groups}


def test_queries_give_the_recorded_numbers(old: Path, cli) -> None:
    store = Store()
    assert store.check() == []
    rates = store.sql(
        "SELECT rate, count(*), avg(metric_loss) FROM cells WHERE experiment = 'measure' AND status = 'done' "
        "GROUP BY ALL ORDER BY ALL"
    )
    assert rates.rows() == [(0.1, 9, pytest.approx(1 / 3)), (0.2, 3, pytest.approx(0.2))]
    sine = store.sql(
        "SELECT method, k, seed, cell_id, mse_post_last_200 FROM cells WHERE experiment = 'sine' AND seed < 2"
    )
    recorded = {(method, k, seed): (cell_id, error) for method, k, seed, cell_id, error in sine.iter_rows()}
    assert recorded == {key: (cell_id, pytest.approx(error, abs=1e-6)) for key, (cell_id, error) in SINE.items()}
    curves = store.sql("SELECT count(*), sum(len(values)) FROM arrays").row(0)
    assert curves == (27, 3840)
    assert "seed 2 is unlucky" in cli("failures").stdout
    assert "cell_id: 01d9ea85c88f44927be41f87" in cli("show", "01d9ea85").stdout


def test_a_plan_keeps_ids_and_states_and_sees_that_the_bundled_workload_changed(old: Path) -> None:
    measure = states("measure")
    assert measure.keys() == {"done", "failed"}
    assert measure["done"] == MEASURE
    assert len(measure["failed"]) == 4
    assert states("sine") == {"changed": {cell_id for cell_id, _ in SINE.values()}}


def test_resume_runs_only_what_failed(old: Path, cli) -> None:
    rows = Store().cells.sort("cell_id").collect()
    failed = states("measure")["failed"]
    again = cli("resume", "measure.toml", "--inline")
    assert again.returncode == 1
    assert "12 of 16 cells done (0 now" in again.stdout
    store = Store()
    new = store.attempts.filter(pl.col("attempt") > 2).collect()
    assert set(new["cell_id"]) == failed
    assert store.cells.sort("cell_id").collect().equals(rows)
    code = (old / "measure.py").read_text()
    (old / "measure.py").write_text(code.replace("cell.seed == 2", "False"))
    mended = cli("resume", "measure.toml", "--inline")
    assert mended.returncode == 0, mended.stderr
    assert "16 of 16 cells done (4 now" in mended.stdout
    assert states("measure") == {"changed": MEASURE, "done": failed}
    assert store.check() == []


def test_more_seeds_add_cells(old: Path) -> None:
    store = Store()
    before = store.cells.collect().height
    result = launch(Sweep.load("measure.toml").with_seeds("0..5"), inline=True)
    assert (result.asked, result.done, result.ran, result.exhausted) == (24, 20, 8, 4)
    sine = from_sweeps([Sweep.load("sine.toml").with_seeds([0, 3])], store)
    assert Launch(sine, store, Options(executor="inline")).run().ran == 3
    assert store.cells.collect().height == before + 8 + 3
    assert set(store.cells.filter(pl.col("epoch") < 2).collect()["cell_id"]) >= MEASURE
