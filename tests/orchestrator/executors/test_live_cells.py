"""Running cells are seen, also from workers that cannot reach the store, and what they logged survives them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raysweep import Store
from tests.command_line import RAYSWEEP, environment

CELLS = """
    import os, time

    def run(cell, context):
        (context.folder / "pid").write_text(str(os.getpid()))
        print("before the end")
        context.log(0, loss=1.0)
        context.log(1, loss=0.5)
        if cell.method == "dies" and not os.path.exists("died"):  # once: the waits before retries grow
            open("died", "w").close()
            time.sleep(4)  # a state takes two heartbeats through the driver
            os.write(1, b"last words\\n")
            os._exit(9)
        while not os.path.exists("go on"):
            time.sleep(0.1)
        return {"loss": 0.5}
"""
SWEEP = """
name = "s"
workload = "seen:run"
seeds = [0]
[resources]
retries = 0
[[grid]]
method = ["waits", "dies"]
"""
UNREACHABLE = """
import sys
from raysweep.orchestrator.cli.app import main
from raysweep.orchestrator.store.writer import StoreWriter
home = StoreWriter.checkpoint_home
StoreWriter.checkpoint_home = lambda self: home(self)._replace(digest="0" * 64)
main()
"""


def wait_until(condition: Callable[[], object], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("address", "reaches"),
    [
        pytest.param((), True, id="processes-worker reaches store"),
        pytest.param((), False, id="processes-through the driver", marks=pytest.mark.slow),
        pytest.param(("--address", "local"), True, id="Ray-worker reaches store", marks=pytest.mark.slow),
        pytest.param(("--address", "local"), False, id="Ray-through the driver", marks=pytest.mark.slow),
    ],
)
def test_cells_are_seen_while_they_run_and_keep_what_they_logged(
    write, folder: Path, address: tuple[str, ...], *, reaches: bool
) -> None:
    write("seen.py", CELLS)
    write("s.toml", SWEEP)
    write("unreachable.py", UNREACHABLE)
    program = RAYSWEEP if reaches else [RAYSWEEP[0], "unreachable.py"]
    launch = subprocess.Popen([*program, "launch", "s.toml", *address], cwd=folder, env=environment())
    try:
        store = Store()
        waits = "SELECT cell_id FROM cells WHERE method = 'waits'"
        wait_until(lambda: store.exists() and any(s.cell_id in store.sql(waits)["cell_id"] for s in store.live()))
        (state,) = [s for s in store.live() if s.cell_id in store.sql(waits)["cell_id"]]
        assert (state.end, list(state.curves["loss"].values)) == (b"before the end\n", [1.0, 0.5])
        write("go on", "")
        launch.wait(300)
    finally:
        launch.kill()
    rows = store.sql("SELECT DISTINCT status, log_tail FROM attempts ORDER BY status").rows()
    assert rows == [("crashed", "before the end\nlast words\n"), ("done", "before the end\n")]
    curves = store.sql("SELECT DISTINCT status, step, values_f64 FROM attempt_arrays ORDER BY status").to_dicts()
    assert [(row["status"], list(row["values_f64"])) for row in curves] == [
        ("crashed", [1.0, 0.5]),
        ("done", [1.0, 0.5]),
    ]
    assert store.artifacts()["path"].to_list() == ["pid", "pid"]
    assert store.storage.names("_live") == []
    assert store.check() == []
