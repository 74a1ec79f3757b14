"""CPU time of a small launch on Ray, beside bare Ray for as many tasks: `python benchmarks/start.py [--pairs 2]`.

Each runs 20 cells, or tasks, that do nothing, in a process of its own. Processes that Ray leaves behind are adopted
(`PR_SET_CHILD_SUBREAPER`, Linux), so that their CPU time counts, too.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CELLS = 20
PR_SET_CHILD_SUBREAPER = 36
BARE = f"""
import logging, ray
ray.init("local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
task = ray.remote(lambda: 1.0)
assert len(ray.get([task.remote() for _ in range({CELLS})])) == {CELLS}
ray.shutdown()
"""
SWEEP = f'name = "nothing"\nworkload = "nothing:run"\nseeds = "0..{CELLS - 1}"\n'
WAIT_S = 10.0
"""Seconds that orphans get to end."""


def cpu_seconds(command: list[str], folder: Path) -> tuple[float, float]:
    """Run a command; return its seconds on the clock, and the CPU seconds of it and all its descendants."""
    began, before = time.monotonic(), _of_children()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "src")}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    seconds = time.monotonic() - began
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() - began - seconds < WAIT_S:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.05)
    return seconds, _of_children() - before


def _of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Run the pairs, and print a line for each process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for pair in range(options.pairs):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "nothing.py").write_text('def run(cell, context):\n    return {"loss": 1.0}\n')
            (folder / "nothing.toml").write_text(SWEEP)
            for name, command in (
                ("bare Ray", [sys.executable, "-c", BARE]),
                ("launch", [sys.executable, "-m", "raysweep", "launch", "nothing.toml"]),
            ):
                seconds, cpu = cpu_seconds(command, folder)
                print(f"pair {pair}: {name:8} {seconds:5.1f} s, {cpu:5.2f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
