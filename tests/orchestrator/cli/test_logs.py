"""The command `logs`."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from raysweep import Store, launch
from raysweep.orchestrator.store import live
from tests.command_line import RAYSWEEP, Ended, environment
from tests.orchestrator.sweeps import sweep_of

PRINTS = """
    import os, time

    def run(cell, context):
        print("first \\x1b[31mred\\x1b[0m")
        os.system("printf '10%%\\\\r50%%\\\\r'")
        while cell.config.get("waits") and not os.path.exists("go on"):
            time.sleep(0.05)
        os.system("printf '100%%\\\\n'; echo last")
        if cell.seed == 1:
            print("x" * 10_000)
            raise ValueError("no")
        return {}
"""
TEXT = "first red\n100%\nlast\n"


def test_the_output_of_each_attempt_is_printed(write, cli: Callable[..., Ended]) -> None:
    write("prints.py", PRINTS)
    launch(sweep_of("prints:run", "[resources]\nretries=1", seeds="[0, 1]"), inline=True)
    ids = dict(Store().attempts.select("seed", "cell_id").collect().iter_rows())
    assert cli("logs", ids[0]).stdout == TEXT
    assert cli("logs", ids[1]).stdout == f"{TEXT}{'x' * 10_000}\n"  # more than `log_tail` holds
    assert cli("logs", ids[1], "--attempt", "1").stdout == cli("logs", ids[1]).stdout
    absent = cli("logs", ids[0], "--attempt", "7")
    assert (absent.returncode, absent.stdout) == (2, "")
    assert absent.stderr == f"error: --attempt 7: cell {ids[0][:8]} has no such attempt; its attempts: 1\n"
    left = live.LiveState(ids[0], 2, 9, b"half\nway")  # of a launch that was killed
    Store().storage.replace(live.path_of(ids[0], 2), live.encode(left))
    for options in ([], ["-f"]):
        cut = cli("logs", ids[0], *options)
        assert (cut.returncode, "half\nway\n" in cut.stdout) == (0, True)
        assert "attempt 2 was cut off with its launch; `raysweep resume` runs the cell again" in cut.stderr


def test_a_running_cell_is_followed_to_its_end(write, cli_process: Callable[..., Ended], folder: Path) -> None:
    write("prints.py", PRINTS)
    sweep = sweep_of("prints:run", "[config]\nwaits = true", seeds="[0, 2]")
    runs = threading.Thread(target=launch, args=(sweep,), kwargs={"inline": True}, daemon=True)
    runs.start()
    while not (Store().exists() and Store().live()):
        assert runs.is_alive()
        time.sleep(0.1)
    running = Store().live()[0].cell_id
    (pending,) = Store().known().cells.filter(pl.col("cell_id") != running)["cell_id"]
    command = [*RAYSWEEP, "logs", pending, "--follow"]
    with subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == "warning: the cell waits for its turn\n"
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(20) == 130
        assert "Traceback" not in waiting.stderr.read()
    early = cli_process("logs", pending)
    assert (early.returncode, "has not run yet" in early.stderr, "-f" in early.stderr) == (2, True, True)
    absent = cli_process("logs", running, "--attempt", "3")
    assert (absent.returncode, "no such attempt; none has ended" in absent.stderr) == (2, True)
    assert f"#{running[:8]}" in cli_process("status").stdout  # the launch has no workers whose heartbeats name it
    assert json.loads(cli_process("show", running, "--json").stdout)["status"] == "running"
    timer = threading.Timer(3, lambda: write("go on", ""))
    timer.start()
    followed = cli_process("logs", running, "--follow")
    runs.join()
    assert followed.stdout == TEXT
    assert "attempt 1 has ended: done" in followed.stderr
    assert cli_process("logs", running, "--attempt", "1").stdout == TEXT
