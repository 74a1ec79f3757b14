"""Hostile cells: each is one row with a clear error, and no other cell is harmed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest

from raysweep.orchestrator.launch import launch as launcher
from raysweep.orchestrator.launch.launch import launch
from raysweep.orchestrator.run.context import Metrics
from raysweep.orchestrator.store.reader import Store
from tests.conftest import RAYSWEEP, environment
from tests.orchestrator.sweeps import sweep_of

HOSTILE = r"""
    import signal, sys, time

    class Shy(Exception):
        def __str__(self):
            raise SystemExit(7)

    class Slow:
        def __float__(self):
            time.sleep(30)

    def run(cell, context):
        name = cell.method
        if name == "prints bytes that are no text":
            print("name: \udcff")
        if name == "raises with a surrogate":
            raise ValueError("\ud800")
        if name == "surrogate metric":
            return {"a\ud800": 1.0}
        if name == "NUL metric":
            return {"a\0b": 1.0}
        if name == "surrogate array":
            context.array("a\ud800", [1.0])
        if name == "huge step":
            context.array("a", [1.0], step=2**70)
        if name == "huge stride":
            context.array("a", [1.0], stride=2**70)
        if name == "huge value":
            context.array("a", [1e300])
        if name == "shy error":
            raise Shy
        if name == "writes bytes":
            sys.stdout.write(b"abc")
        if name == "slow number":
            return {"loss": Slow()}
        if name == "deaf":
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            time.sleep(1.0)
        context.array("a", [1.0, 2.0])
        return {"loss": float(cell.seed)}
"""

FATES = {
    "fine": ("done", None),
    "prints bytes that are no text": ("done", None),
    "raises with a surrogate": ("failed", "ValueError"),
    "surrogate metric": ("failed", "ValueError"),
    "NUL metric": ("failed", "ValueError"),
    "surrogate array": ("failed", "ValueError"),
    "huge step": ("failed", "ValueError"),
    "huge stride": ("failed", "ValueError"),
    "huge value": ("failed", "ValueError"),
    "shy error": ("failed", "Shy"),
    "writes bytes": ("failed", "TypeError"),
    "slow number": ("timed_out", "CellTimeout"),
    "deaf": ("timed_out", "CellTimeout"),
}


def test_a_hostile_cell_is_a_row_and_harms_no_other(write) -> None:
    write("hostile.py", HOSTILE)
    result = launch(sweep_of("hostile:run", "[resources]\nretries=0\ntimeout_s=0.5", methods=list(FATES)), inline=True)
    store = Store()
    rows = store.attempts.select("method", "status", "error_type").collect().rows()
    assert {method: (status, kind) for method, status, kind in rows} == FATES
    assert (result.done, result.failed) == (2, len(FATES) - 2)
    printed = store.cells.filter(pl.col("method").str.starts_with("prints")).select("cell_id").collect().item()
    logs = store.attempts.filter(pl.col("cell_id") == printed).select("log_tail").collect().item()
    assert logs == "name: \ufffd\n"
    assert store.check() == []
    assert store.sql("SELECT * FROM cells").height == len(FATES)


def test_what_no_table_can_hold_fails_alone(write, monkeypatch: pytest.MonkeyPatch) -> None:
    unchecked = lambda returned, keep_nan: Metrics(dict(returned), {})  # noqa: E731
    monkeypatch.setattr("raysweep.orchestrator.run.cell.checked_metrics", unchecked)  # as if a worker let it through
    write("three.py", "def run(cell, context):\n    return {'loss': 'much' if cell.seed == 1 else 1.0}\n")
    result = launch(sweep_of("three:run", seeds='"0..2"'), inline=True)
    assert (result.done, result.failed, result.left, result.exit_code) == (2, 1, 0, 1)
    failed = Store().attempts.filter(pl.col("status") == "failed").collect().row(0, named=True)
    assert (failed["seed"], failed["error_type"]) == (1, "NotRecordable")
    assert "much" in failed["error_message"]


def test_a_cell_that_changes_folder_loses_nothing(write, folder: Path) -> None:
    write("moves.py", "import os\ndef run(cell, context):\n    os.chdir('/')\n    return {'loss': 1.0}\n")
    assert launch(sweep_of("moves:run", seeds='"0..2"'), store="results", inline=True).done == 3
    assert Path.cwd() == folder
    assert Store("results").cells.collect().height == 3


FORKS = """
    import os, sys

    def run(cell, context):
        child = os.fork()
        if child == 0:
            return {"loss": 2.0}  # goes on where the launch is its parent's
        os.waitpid(child, 0)
        return {"loss": 1.0}
"""


def test_a_forked_child_never_drives(cli_process, write) -> None:
    write("forks.py", FORKS)
    write("forks.toml", 'name="forks"\nworkload="forks:run"\nseeds="0..2"\n[[grid]]\nmethod="m"\n')
    ended = cli_process("launch", "forks.toml", "--inline", timeout=30)
    assert ended.returncode == 0, ended.stderr
    assert Store("results").sql("SELECT seed, loss FROM cells ORDER BY seed").rows() == [(0, 1.0), (1, 1.0), (2, 1.0)]


LEAVES_A_CHILD = """
    import multiprocessing, os, signal, time

    def run(cell, context):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
        child.start()
        open("child", "w").write(str(child.pid))
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_child_that_outlives_the_launch_holds_nothing(cli, write, folder: Path) -> None:
    write("leaves.py", LEAVES_A_CHILD)
    write("leaves.toml", 'name="leaves"\nworkload="leaves:run"\nseeds=[0]\n[[grid]]\nmethod="m"\n')
    process = subprocess.Popen(
        [*RAYSWEEP, "launch", "leaves.toml", "--inline"], cwd=folder, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.wait(30) == -signal.SIGKILL
        write("leaves.py", "def run(cell, context):\n    return {'loss': 1.0}\n")
        assert cli("launch", "leaves.toml", "--inline").returncode == 0
        os.kill(int((folder / "child").read_text()), 0)  # it lives on
    finally:
        os.kill(int((folder / "child").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("folder_of_it", ["arrays", "attempts", "cells"])
def test_an_interrupt_within_a_commit_comes_after_it(
    write, monkeypatch: pytest.MonkeyPatch, number: int, folder_of_it: str
) -> None:
    from raysweep.orchestrator.store.writer import StoreWriter

    write("arr.py", "def run(cell, context):\n    context.array('a', [1.0])\n    return {'loss': 1.0}\n")
    commit, sent = StoreWriter._commit, []

    def interrupted(self, folder, *rest):
        if folder == folder_of_it and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
            time.sleep(0.05)
        return commit(self, folder, *rest)

    monkeypatch.setattr(StoreWriter, "_commit", interrupted)
    monkeypatch.setattr(launcher, "FLUSH_OUTCOMES", 3)
    launch(sweep_of("arr:run", seeds='"0..9"'), inline=True)
    assert sent
    store = Store()
    counts = [store.scan(name).collect().height for name in ("arrays", "attempts", "cells")]
    assert counts[0] == counts[1] == counts[2] > 0
    launch(sweep_of("arr:run", seeds='"0..9"'), inline=True)
    assert [store.scan(name).collect().height for name in ("arrays", "attempts", "cells")] == [10, 10, 10]
    assert store.check() == []


def test_an_interrupt_reaches_the_cell_and_nothing_finished_is_lost(write) -> None:
    write(
        "stops.py",
        """
        import os, signal, time

        def run(cell, context):
            if cell.seed == 3:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(10)
            return {"loss": 1.0}
        """,
    )
    result = launch(sweep_of("stops:run", seeds='"0..9"'), inline=True)
    assert (result.stopped, result.done, result.exit_code) == ("interrupted", 3, 130)
    assert dict(Store().attempts.collect().group_by("status").len().iter_rows()) == {"done": 3, "cancelled": 1}
