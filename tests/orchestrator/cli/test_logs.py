"""The command `logs`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from raysweep import Store, launch
from tests.command_line import Ended
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
    assert (absent.returncode, absent.stdout, "no such attempt" in absent.stderr) == (0, "", True)


def test_a_running_cell_is_followed_to_its_end(write, cli_process: Callable[..., Ended]) -> None:
    write("prints.py", PRINTS)
    sweep = sweep_of("prints:run", "[config]\nwaits = true")
    runs = threading.Thread(target=launch, args=(sweep,), kwargs={"inline": True}, daemon=True)
    runs.start()
    while not (Store().exists() and Store().live()):
        assert runs.is_alive()
        time.sleep(0.1)
    timer = threading.Timer(3, lambda: write("go on", ""))
    timer.start()
    cell_id = Store().live()[0].cell_id
    followed = cli_process("logs", cell_id, "--follow")
    runs.join()
    assert followed.stdout == TEXT
    assert "attempt 1 has ended: done" in followed.stderr
