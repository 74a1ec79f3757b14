"""Time of a small launch, beside bare Ray for as many tasks: `python benchmarks/start.py [--pairs 3]`.

Each runs 20 cells, or tasks, that do nothing, in a process of its own. The first launch of a pair is into a new store,
the second adds 20 cells to it. The same launch with `--address local` starts Ray, and `--inline` runs in one process.
Then come commands that only read. Processes that Ray leaves behind are adopted (`PR_SET_CHILD_SUBREAPER`, Linux), so
that their CPU time counts, too. At the end: medians, and their ratio to bare Ray's of the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import statistics
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
COMMANDS = {
    "launch": "launch nothing.toml",
    "launch, 20 more cells": f"launch nothing.toml --seeds {CELLS}..{2 * CELLS - 1}",
    "launch --inline": "launch nothing.toml --inline --store inline",
    "launch --address local": "launch nothing.toml --address local --store ray",
    "plan": "plan nothing.toml",
    "status": "status",
    "query": "query SELECT count(*) FROM cells",
    "--help": "--help",
}
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


def words(command: str) -> list[str]:
    """Return the words of a command line; what follows `query` is one word."""
    first, _, rest = command.partition(" ")
    return [sys.executable, "-m", "raysweep", first, *([rest] if first == "query" else rest.split())]


def main() -> None:
    """Run the pairs, and print a line for each process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    programs = {"bare Ray": [sys.executable, "-c", BARE], **{name: words(line) for name, line in COMMANDS.items()}}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for pair in range(options.pairs):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "nothing.py").write_text('def run(cell, context):\n    return {"loss": 1.0}\n')
            (folder / "nothing.toml").write_text(SWEEP)
            for name, command in programs.items():
                seconds, cpu = cpu_seconds(command, folder)
                took[name].append((seconds, cpu))
                load = os.getloadavg()[0]
                print(f"pair {pair}: {name:22} {seconds:5.2f} s, {cpu:5.2f} s of CPU, load {load:.1f}", flush=True)
    bare = [statistics.median(column) for column in zip(*took["bare Ray"], strict=True)]
    for name, times in took.items():
        seconds, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(
            f"median: {name:22} {seconds:5.2f} s ({seconds / bare[0]:.2f}), {cpu:5.2f} s of CPU ({cpu / bare[1]:.2f})"
        )


if __name__ == "__main__":
    main()
