"""Tracebacks of failed cells begin in the user's code, wherever ours is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.executors.packaging import copy_package
from raysweep.orchestrator.schedule.failure_groups import place
from tests.conftest import ROOT, environment
from tests.orchestrator.executors.failing_cells import PLACES

FAILING = """
name = "f"
workload = "failing_cells:run"
seeds = [0]
[resources]
retries = 0
timeout_s = 0.2
[[grid]]
method = ["library", "hangs", "array", "nan"]
"""


@pytest.mark.parametrize("installed", [False, True], ids=["checkout", "wheel"])
def test_failed_cells_name_the_users_line(installed: bool, folder: Path, tmp_path: Path) -> None:
    """A wheel is the same package in a folder site-packages."""
    shutil.copy(ROOT / "tests/orchestrator/executors/failing_cells.py", folder)
    (folder / "f.toml").write_text(FAILING)
    if installed:
        packages = tmp_path / "lib/python3.11/site-packages"
        copy_package(packages)
        command = [sys.executable, "-m", "raysweep", "launch", "f.toml", "--inline"]
        variables = {**environment(), "PYTHONPATH": str(packages)}
        ended = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 1, ended.stderr
    else:
        assert launch(Sweep.load(folder / "f.toml"), inline=True).failed == 4
    traces = dict(Store().attempts.select("method", "traceback").collect().iter_rows())
    assert {method: place(trace) for method, trace in traces.items()} == {m: PLACES[m] for m in traces}
    firsts = {traces[method].splitlines()[1].partition(",")[0] for method in ("library", "hangs", "array")}
    assert firsts == {f'  File "{folder}/failing_cells.py"'}
    assert {method for method, trace in traces.items() if "raysweep/orchestrator" in trace} == {"array"}
    assert traces["nan"].splitlines() == [traces["nan"].strip()]
