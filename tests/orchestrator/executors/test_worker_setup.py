"""What a cell finds on its worker: as many threads as CPUs, the memory it asked for, the code that was shipped."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from raysweep.orchestrator.store.reader import Store

CELLS = """
    import os
    import numpy as np
    import ray
    import threadpoolctl

    def run(cell, context):
        np.ones((64, 64)) @ np.ones((64, 64))
        pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
        assigned = ray.get_runtime_context().get_assigned_resources()
        return {
            "environment": float(os.environ["OMP_NUM_THREADS"]),
            "pools": float(max(pools)),
            "memory_mib": assigned.get("memory", 0) / 2**20,
            "cpu": float(assigned["CPU"]),
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


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a cell of two CPUs needs them")
def test_a_cell_gets_what_it_asked_for_and_says_which_code_it_was(write, folder: Path, cli) -> None:
    write("cells.py", CELLS)
    write("w.toml", SWEEP)

    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout

    git("init", "--quiet")
    git("add", "cells.py", "w.toml")
    git("commit", "--quiet", "--message", "cells")
    ended = cli("launch", "w.toml", timeout=120)
    assert ended.returncode == 0, ended.stderr
    found = (
        Store()
        .sql("SELECT method, environment, pools, memory_mib, cpu, around_the_driver FROM cells ORDER BY method, seed")
        .rows()
    )
    # The last number: the copy that was shipped is imported, and not what lies around the driver.
    assert found == [("half", 1.0, 1.0, 0.0, 0.5, 0.0)] * 2 + [("two", 2.0, 2.0, 256.0, 2.0, 0.0)] * 2
    rows = Store().cells.collect()
    assert rows["git_commit"].unique().to_list() == [git("rev-parse", "HEAD").strip()]
    assert rows["git_dirty"].unique().to_list() == [None]
    assert rows["source_path"].unique().to_list() == [str(folder / "cells.py")]
    assert rows["source_digest"].n_unique() == 1
