"""A workload whose cells fail in each way that leaves a traceback or a stack."""

import json
import signal
import time


def wait() -> None:
    time.sleep(60)


def run(cell, context):
    if cell.method == "library":
        json.loads("{")
    if cell.method == "hangs":
        wait()
    if cell.method == "deaf":
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        wait()
    if cell.method == "array":
        context.array("a", [[1.0]])
    return {"loss": float("nan")}


PLACES = {
    "library": "failing_cells.py:14 in run",
    "hangs": "failing_cells.py:9 in wait",
    "deaf": "failing_cells.py:9 in wait",
    "array": "failing_cells.py:21 in run",
    "nan": None,
}
"""Method -> the line that `raysweep failures` names."""
