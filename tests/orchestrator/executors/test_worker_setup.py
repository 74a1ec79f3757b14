"""Cells in workers, processes and Ray's: their threads, memory and code, and the tracebacks of those that fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import polars as pl
import pytest

from raysweep.orchestrator.schedule.failure_groups import place
from raysweep.orchestrator.store.reader import Store
from tests.conftest import RAYSWEEP, environment
from tests.orchestrator.executors.failing_cells import PLACES

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a cell of two CPUs needs them")

CELLS = """
    import os
    import numpy as np
    import sys
    import threadpoolctl

    def run(cell, context):
        np.ones((64, 64)) @ np.ones((64, 64))
        pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
        assigned = {}
        if "ray" in sys.modules:
            assigned = sys.modules["ray"].get_runtime_context().get_assigned_resources()
        return {
            "environment": float(os.environ["OMP_NUM_THREADS"]),
            "pools": float(max(pools)),
            "memory_mib": assigned.get("memory", 0) / 2**20,
            "cpu": float(assigned.get("CPU", 0)),
            "around_the_driver": float(os.path.exists(os.path.join(os.path.dirname(__file__), "w.toml"))),
        }
"""
SWEEP = """
    name = "w"
    workload = "cells:run"
    seeds = "0..1"
    [[grid]]
    method = "half"
    resources.cpus = 0.5
    [[grid]]
    method = "two"
    resources = { cpus = 2, memory_gib = 0.25 }
"""
FAILING = """
    name = "f"
    workload = "failing_cells:run"
    seeds = [0]
    [resources]
    retries = 0
    timeout_s = 1
    [[grid]]
    method = ["library", "hangs", "deaf", "array", "nan"]
"""


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module", params=[(), ("--address", "local")], ids=["processes", "Ray"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder, with a space in its name, whose sweeps have been launched."""
    folder = tmp_path_factory.mktemp("a folder")
    for name, text in (("cells.py", CELLS), ("w.toml", SWEEP), ("f.toml", FAILING)):
        (folder / name).write_text(textwrap.dedent(text))
    git(folder, "init", "--quiet")
    git(folder, "add", "cells.py", "w.toml")
    git(folder, "commit", "--quiet", "--message", "cells")
    shutil.copy(Path(__file__).with_name("failing_cells.py"), folder)
    command = [*RAYSWEEP, "launch", "w.toml", "f.toml", "--store", "results", *request.param]
    ended = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1, ended.stderr  # cells failed
    return folder


def test_a_cell_gets_its_resources_and_records_its_code(folder: Path) -> None:
    store = Store(folder / "results")
    cells = store.sql(
        "SELECT method, environment, pools, memory_mib, cpu, around_the_driver FROM cells "
        "WHERE status = 'done' ORDER BY method, seed"
    ).rows()
    # The last number: the staged copy is imported, not the file beside the driver.
    on_ray = [(0.0, 0.5), (256.0, 2.0)] if any(cell[4] for cell in cells) else [(0.0, 0.0)] * 2
    half, two = (("half", 1.0, 1.0, *on_ray[0], 0.0), ("two", 2.0, 2.0, *on_ray[1], 0.0))
    assert cells == [half] * 2 + [two] * 2
    rows = store.cells.collect()
    assert rows["git_commit"].unique().to_list() == [git(folder, "rev-parse", "HEAD").strip()]
    assert rows["git_dirty"].unique().to_list() == [None]
    assert rows["source_path"].unique().to_list() == [str(folder / "cells.py")]
    assert rows["source_digest"].n_unique() == 1


def test_failed_cells_name_the_users_line_and_none_of_our_frames(folder: Path) -> None:
    attempts = Store(folder / "results").attempts.filter(pl.col("status") != "done").select("method", "traceback")
    traces = dict(attempts.collect().iter_rows())
    assert {method: place(trace) for method, trace in traces.items()} == PLACES
    firsts = {method: traces[method].splitlines()[1] for method in ("library", "hangs", "array")}
    assert {line.partition(",")[0] for line in firsts.values()} == {'  File "failing_cells.py"'}
    ours = {method for method, trace in traces.items() if "raysweep/orchestrator" in trace}
    assert ours == {"array", "deaf"}  # `context.array` itself raises; the stack of a process is whole
