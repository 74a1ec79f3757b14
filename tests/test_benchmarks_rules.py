"""The benchmark's contenders learn the same thing, which is what makes their times comparable."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "rules.py"


@pytest.mark.slow
def test_all_contenders_reach_the_same_weights():
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--sizes=6", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    tables = json.loads(done.stdout)["tables"]
    assert [(table["n"], table["k"]) for table in tables] == [(6, 4), (6, 6)]
    for table in tables:
        common = {row["contender"]: row for row in table["rows"] if row["steps"] == table["common"]}
        assert set(common) == {"torch", "jax", "readable", "compiled"}
        present = {name for name, row in common.items() if "problem" not in row}
        assert present >= {"torch", "readable", "compiled"}
        for name in present:
            assert common[name]["weights_apart"] < 1e-5
        assert table["yardstick"]["compiled_float64"] < 1e-12
