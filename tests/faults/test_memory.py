"""Real memory pressure: a launch in a control group with little memory, and a cell that takes all of it. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from raysweep.orchestrator.store.reader import Store
from tests.conftest import RAYSWEEP, environment

GROUPS = Path("/sys/fs/cgroup/memory")
LIMIT = 2600 * 2**20
HOG = """
    import time
    def run(cell, context):
        if cell.seed == 3:
            held = []
            for _ in range({steps}):
                held.append(bytearray(b"x") * ({mib} * 2**20))
                time.sleep(0.1)
        time.sleep(0.2)
        return {{"x": 1.0}}
"""
SWEEP = 'name="hog"\nworkload="hog:run"\nseeds="0..11"\n[[grid]]\nmethod="m"\n'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.getuid() != 0 or not (GROUPS / "memory.limit_in_bytes").exists(), reason="needs root and control groups, v1"
    ),
]


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with `LIMIT` bytes."""
    path = GROUPS / f"raysweep-test-{os.getpid()}"
    path.mkdir()
    (path / "memory.limit_in_bytes").write_text(str(LIMIT))
    yield path
    for pid in (path / "cgroup.procs").read_text().split():
        (GROUPS / "cgroup.procs").write_text(pid)
    path.rmdir()


@pytest.mark.parametrize("address", [(), ("--address", "local")], ids=["processes", "Ray"])
@pytest.mark.parametrize(("steps", "mib"), [(100, 300), (300, 20)], ids=["fast: the kernel kills it", "slow: we do"])
def test_a_cell_that_takes_all_memory_is_out_of_memory_and_the_others_go_on(
    steps: int, mib: int, address: tuple[str, ...], group: Path, write, folder: Path
) -> None:
    write("hog.py", HOG.format(steps=steps, mib=mib))
    write("hog.toml", SWEEP)
    # Ray reads the limit at the mount point.
    inside = f'echo $$ > {group}/cgroup.procs && mount --bind {group} {GROUPS} && exec "$@"'
    ended = subprocess.run(
        ["unshare", "--mount", "bash", "-c", inside, "bash", *RAYSWEEP, "launch", "hog.toml", *address], cwd=folder,
        env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert Store().cells.collect().height == 11
    bad = Store().attempts.collect().filter(seed=3).sort("attempt")
    charged = [status for status in bad["status"] if status != "lost"]  # Ray may take a bystander for the cause
    assert charged == ["out_of_memory", "out_of_memory"], bad.select("status", "error_message").rows()
    assert Store().attempts.collect().filter(~(pl.col("seed") == 3) & (pl.col("status") == "out_of_memory")).height == 0
