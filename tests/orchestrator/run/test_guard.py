"""When a worker dies, so does everything that its cells have started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raysweep import Store
from tests.command_line import RAYSWEEP, environment
from tests.orchestrator.sweeps import sweep_of

STARTS = """
    import multiprocessing, os, subprocess, time

    def run(cell, context):
        subprocess.Popen(["sleep", "600"])
        subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL)
        os.system("(sleep 600 > /dev/null 2>&1 &)")
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)).start()
        time.sleep(1)  # the new process may still be what it was before
        open("started", "w").close()
        time.sleep(600)
"""
SWEEP = 'name="s"\nworkload="starts:run"\nseeds=[0]\n[[grid]]\nmethod="m"\n'


def children_in(folder: Path) -> list[int]:
    """Processes whose current folder this is."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) != os.getpid() and os.readlink(entry / "cwd") == str(folder):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_killed_process_takes_along_what_its_cells_have_started(write, folder: Path) -> None:
    write("starts.py", STARTS)
    write("starts.toml", SWEEP)
    launch = subprocess.Popen([*RAYSWEEP, "launch", "starts.toml", "--inline"], cwd=folder, env=environment())
    try:
        wait_until(lambda: (folder / "started").exists())
        assert len(children_in(folder)) == 5  # the launch, and four of its cell
    finally:
        launch.send_signal(signal.SIGKILL)
        launch.wait()
    wait_until(lambda: not children_in(folder))


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


WAITS = """
    import os

    def run(cell, context):
        if os.fork() == 0:
            os._exit(0)
        children = 0
        while True:
            try:
                os.wait()
                children += 1
            except ChildProcessError:
                return {"children": children}
"""


def test_a_cell_that_waits_for_any_child_sees_only_its_own(write, cli_process) -> None:
    """In a process of its own: this one may have children of other tests."""
    write("waits.py", WAITS)
    write("waits.toml", sweep_of("waits:run", "[resources]\ntimeout_s = 10").text)
    assert cli_process("launch", "waits.toml", "--inline").returncode == 0
    assert Store().sql("SELECT children FROM cells")["children"].to_list() == [1.0]
