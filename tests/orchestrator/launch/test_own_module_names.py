"""A user's modules may have the names of our folders and of common files: they are imported, shipped and digested.

Here `analysis`, `orchestrator`, `tests`, `workloads`, `run` and `store` are the user's, and the user's project precedes
the checkout on the Python path.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from raysweep import Store
from tests.command_line import PATHS
from tests.conftest import RAYSWEEP, environment

PROJECT = {
    "analysis/__init__.py": "",
    "analysis/plots.py": "PART = 1\n",
    "orchestrator/__init__.py": "PART = 10\n",
    "tests/__init__.py": "",
    "tests/checks.py": "PART = 100\n",
    "run.py": "PART = 1_000\n",
    "store.py": "PART = 10_000\n",
    "workloads/__init__.py": "",
    "workloads/study.py": """
import orchestrator, run as runner, store
from analysis import plots
from raysweep.workloads.interface import Cell, Context
from tests import checks
from pathlib import Path

PARTS = plots, orchestrator, checks, runner, store

def run(cell: Cell, context: Context) -> dict[str, float]:
    if cell.seed == 1 and not Path(cell.config["project"], "mended").exists():
        raise ValueError("seed 1 is unlucky")
    beside = sum(Path(module.__file__).is_relative_to(cell.config["project"]) for module in PARTS)
    return {"parts": sum(module.PART for module in PARTS), "beside": beside}
""",
}
SWEEP = """
name = "study"
workload = "workloads.study:run"
seeds = [0, 1]
[resources]
retries = 0
[[grid]]
method = "m"
project = "{}"
"""


@pytest.fixture
def raysweep(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line in the project's folder, which precedes the checkout on the Python path."""
    for name, text in {**PROJECT, "study.toml": SWEEP.format(folder)}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    env = {**environment(), "PYTHONPATH": os.pathsep.join([str(folder), PATHS])}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*RAYSWEEP, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=120)

    return call


@pytest.mark.parametrize(
    ("options", "beside"),
    [
        pytest.param(["--inline"], 5, id="inline", marks=pytest.mark.slow),
        pytest.param([], 0, id="in processes"),  # it is resumed and debugged inline
    ],
)
def test_a_project_of_our_names_runs_and_is_resumed_and_debugged(
    raysweep, folder: Path, options: list[str], beside: int
) -> None:
    """In processes none of the modules that a cell imports lies in the project: they are copies, of the same digest."""
    launched = raysweep("launch", "study.toml", *options)
    assert launched.returncode == 1, launched.stderr
    assert "1 of 2 cells done" in launched.stdout
    (bad,) = Store().sql("SELECT cell_id, error_message FROM attempts WHERE status = 'failed'").iter_rows(named=True)
    assert bad["error_message"] == "seed 1 is unlucky"
    debugged = raysweep("debug", bad["cell_id"])
    assert debugged.returncode == 1
    assert "workloads/study.py" in debugged.stdout
    assert "ValueError: seed 1 is unlucky" in debugged.stdout
    (folder / "mended").touch()
    resumed = raysweep("resume", "--inline")
    assert resumed.returncode == 0, resumed.stderr
    cells = Store().sql("SELECT seed, parts, beside FROM cells ORDER BY seed").rows()
    assert cells == [(0, 11_111, beside), (1, 11_111, 5)]
    assert json.loads(raysweep("plan", "study.toml", "--json").stdout)["states"]["done"] == 2
    assert "parts = 11111" in raysweep("debug", bad["cell_id"]).stdout

    (folder / "analysis/plots.py").write_text("PART = 2\n")
    assert json.loads(raysweep("plan", "study.toml", "--json").stdout)["states"]["changed"] == 2
