"""The numbers of the claims page follow from the Parquet files without raysweep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("stranger.py")
E1_SINE = Path(__file__).parents[2] / "workloads" / "paper" / "e1-sine.toml"
WORKLOAD = """
import random

def run(cell, context):
    draw = random.Random(f"{cell.seed} {cell.method} {cell.k} {cell.config.get('decay')}")
    level = {"traces": 0.2, "rtrl": 6e-4}.get(cell.method, 2e-3)
    return {"mse_post_last_500": level * draw.lognormvariate(0, 0.5), "persistence_post_last_500": 0.04}
"""


def test_a_stranger_derives_the_published_claims_from_the_saved_cells() -> None:
    results = Path(__file__).parents[2] / "docs" / "results"
    command = [sys.executable, str(SCRIPT), str(results / "cells.parquet"), str(results / "claims.md")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("20 of 20 agree\n")


def test_a_stranger_derives_the_claims_page_from_the_parquet_files(cli: Any, folder: Path) -> None:
    (folder / "made.py").write_text(WORKLOAD, encoding="utf-8")
    sweep = E1_SINE.read_text(encoding="utf-8")
    sweep = sweep.replace('"online_rnn"', '"made:run"').replace("seeds = [42, 123", "seeds = [1, 2, 3, 42")
    (folder / "s.toml").write_text(sweep, encoding="utf-8")
    assert cli("launch", "s.toml", "--inline", "--store", "runs").returncode == 0
    page = cli("claims", "E1-recovery", "E1-step", "F-decay0", "--format", "markdown", "--store", "runs")
    (folder / "claims.md").write_text(page.stdout, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "runs", "claims.md"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("20 of 20 agree\n")

    (folder / "claims.md").write_text(page.stdout.replace(".", ".7"), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "runs", "claims.md"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 1
