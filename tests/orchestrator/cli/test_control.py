"""`pause`, `continue` and `cancel` of a running launch."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raysweep.orchestrator.cli import watch
from raysweep.orchestrator.store.reader import Store
from tests.command_line import RAYSWEEP

WORK = """
    import time
    from pathlib import Path

    def run(cell, context):
        until = time.time() + cell.config["seconds"]
        while time.time() < until and not Path("go").exists():
            time.sleep(0.05)
        return {"loss": 1.0}
"""
SWEEP = """
    workload = "slow:run"
    seeds = "0..19"
    [resources]
    cpus = 0.5
    [[grid]]
    method = ["a", "b"]
    seconds = 0.3
"""


@pytest.fixture
def start(write, folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a launch in the background."""
    write("slow.py", WORK)
    write("slow.toml", SWEEP)
    running: list[subprocess.Popen[str]] = []

    def begin(*options: str) -> subprocess.Popen[str]:
        words = [*RAYSWEEP, "launch", "slow.toml", "--json", *options]
        process = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait()


def done() -> int:
    return int((Store().summary()["status"] == "done").sum()) if Store().exists() else 0


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_launch_is_paused_goes_on_and_leaves_out_what_is_cancelled(start, cli, folder: Path) -> None:
    assert cli("pause").returncode == 2  # no store
    launch = start("--inline")
    wait_for(lambda: done() >= 2)
    assert cli("pause").stdout == "paused; raysweep continue lets the launch go on\n"
    assert "is paused already" in cli("pause").stderr
    assert "paused: no cells are started until raysweep continue" in cli("status").stdout
    assert "it is paused" in str(watch.snapshot(Store(), None)[0].owner)
    last = -1
    while done() != last:  # what was handed out before
        last = done()
        time.sleep(3)
    assert last < 20
    assert launch.poll() is None
    cancelled = cli("cancel", "--where", "method = 'b' and seed > 2")
    assert cancelled.stdout == "17 cells cancelled that the launch had not finished; the next launch runs them\n"
    assert "nothing to cancel" in cli("cancel", "--where", "status = 'done'").stderr
    (folder / "go").touch()
    assert cli("continue").stdout == "the launch goes on\n"
    out, err = launch.communicate(timeout=60)
    end = json.loads(out.splitlines()[-1])
    assert (launch.returncode, end["done"], end["left"]) == (1, 23, 17)
    assert "17 cells were cancelled by raysweep cancel; the next launch runs them" in err
    assert "no launch is running" in cli("continue").stderr
    assert cli("launch", "slow.toml", "--inline").stdout.startswith("40 of 40 cells done (17 now")
    assert Store().attempts.collect().height == 40
    assert sorted((Path("results") / "_control").iterdir()) == []


@pytest.mark.slow
def test_a_running_cell_on_ray_is_cancelled_and_the_others_go_on(start, cli, folder: Path) -> None:
    launch = start("--set", "seconds=60", "--seeds", "0..1", "--max-parallel", "4")
    wait_for(lambda: len((Store().owner() or (None, ()))[1]) == 4 if Store().exists() else False, 120)
    cli("cancel", "--where", "method = 'a' and seed = 0")
    wait_for(lambda: Store().attempts.collect().height == 1)
    (folder / "go").touch()
    launch.communicate(timeout=60)
    rows = Store().sql("SELECT method, seed, status FROM attempts ORDER BY ALL").rows()
    assert rows == [("a", 0, "cancelled"), ("a", 1, "done"), ("b", 0, "done"), ("b", 1, "done")]
