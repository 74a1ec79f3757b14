"""A million cells: the cost of planning, resuming, status and a query, and the rate and memory of a launch.

    python benchmarks/scale.py              # 10,000, 100,000 and 1,000,000 cells; launches of 100,000
    python benchmarks/scale.py --sizes 10000 --launch 10000
    python benchmarks/scale.py --sizes 10000000 --launch 0

Each command is a process of its own; seconds and peak memory are that process's. Stores of finished cells are
filled by the committing code itself, with outcomes that no workload made. The launches are real: in worker processes,
on Ray, and, as the limit, as many chunks of the same cells on Ray with nothing but their results taken in.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import NamedTuple

BARS = {"plan": 2.0, "resume": 5.0, "status": 2.0, "query": 1.0}
PEAK_GIB = 1.0
LARGE = {"resume": 60.0}
"""Seconds for more than five million cells, which may take `LARGE_GIB`."""
LARGE_GIB = 4.0
RATE = 15_000.0
FLAT = 1.10  # driver memory at the end against that after the first tenth

NOOP = "def run(cell, context):\n    return {'loss': cell.seed * 0.5}\n"
SWEEP = """
name = "scale"
workload = "noop:run"
seeds = "0..{last}"
[[grid]]
method = {methods}
k = [1, 2, 3, 4, 5]
"""
QUERY = "SELECT method, k, count(*) AS n, avg(loss) AS loss FROM cells WHERE status = 'done' GROUP BY ALL ORDER BY ALL"

FILL = """
import sys
from raysweep.orchestrator.run.messages import Outcome, Worker
from raysweep.orchestrator.launch.request import from_sweeps
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.schedule.plan import plan
from raysweep.orchestrator.launch.record import CompletedAttempt, record, sweep_record
from raysweep.orchestrator.sweep.spec import load_all
from raysweep.orchestrator.store.reader import Store

store = Store("filled")
prepared = from_sweeps(load_all(["scale.toml"]), store)
planned = plan(prepared.table, store.summary())
worker = Worker("host", None, 1, "cpu", prepared.table.variants["source_digest"][0], "noop.py", "{}")
with StoreWriter(store, "fill") as owner:
    for sweep in prepared.sweeps:
        owner.record_sweep(*sweep_record(sweep, prepared.table, None))
    rows = range(len(prepared.table))
    for at in range(0, len(rows), 20_000):
        done = [
            CompletedAttempt(Outcome(row, 1, "done", 0.0, 1.0, 0.001, 0.001, 100.0, {"loss": row * 0.5}), worker)
            for row in rows[at : at + 20_000]
        ]
        owner.append(record(done, planned.frame, planned.table.variants, owner.epoch, {}))
"""

QUERY_IN_PYTHON = """
import sys, time
from raysweep.orchestrator.store.reader import Store
import raysweep.orchestrator.query.sql
began = time.monotonic()
assert Store("filled").sql(sys.argv[1]).height == 20
print(time.monotonic() - began)
"""

LAUNCH = """
import json, sys
from raysweep.orchestrator.launch.launch import Launch
from raysweep.orchestrator.launch.request import Options, from_sweeps
from raysweep.orchestrator.sweep.spec import load_all
from raysweep.orchestrator.store.reader import Store

def rss_mib():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

seen = {}
total, address = int(sys.argv[1]), sys.argv[2]
import time
began = []

def report(progress):
    began or began.append(time.monotonic())
    tenth = progress.done * 10 // total
    seen.setdefault(tenth, (round(rss_mib()), round(time.monotonic() - began[0], 2), progress.done))

store = Store(f"launched-{address}")
options = Options(address=address if address == "local" else None)
result = Launch(from_sweeps(load_all(["scale.toml"]), store), store, options).run(report)
assert result.done == total, result
first = seen[min(t for t in seen if t > 0)]
last = time.monotonic() - began[0]
print(json.dumps({
    "seconds": result.seconds, "rate": (total - first[2]) / (last - first[1]), "mib": [m for m, _, _ in seen.values()],
    "end_mib": round(rss_mib()),
}))
"""

LIMIT = """
import sys, time
import numpy as np
from raysweep.orchestrator.executors.ray.executor import RayExecutor
from raysweep.orchestrator.run.messages import Chunk, Task
from raysweep.orchestrator.launch.request import from_sweeps
from raysweep.orchestrator.sweep.spec import load_all
from raysweep.orchestrator.store.reader import Store

total, size = int(sys.argv[1]), 1000
executor = RayExecutor(None, from_sweeps(load_all(["scale.toml"]), Store("none")).own_files)

def chunk(number):
    tasks = tuple(Task(i, f"{number * size + i:024x}", "m", 1, i, "{}", 1, None) for i in range(size))
    return Chunk(number, "noop:run", "e", tasks, 1.0, 0.0, None, ("staged",), "cpu", 30.0)

left = list(range(total // size))
slots, flight, done = executor.slots(1.0, 0.0, None), 0, 0
began = None
while left or flight:
    while left and flight < 2 * slots:
        executor.submit(chunk(left.pop()))
        flight += 1
    for event in executor.poll(0.2):
        flight -= 1
        done += len(event.result.outcomes)
        if began is None and done >= total // 10:
            began = time.monotonic(), done
rate = (done - began[1]) / (time.monotonic() - began[0])
executor.close()
print(rate)
"""


class Took(NamedTuple):
    """Resources used by a process."""

    seconds: float
    cpu: float  # seconds of processor time, its children's included
    gib: float  # peak


def process(folder: Path, *command: str) -> tuple[Took, str]:
    """Resources used by a command in the folder, and its output."""
    root = Path(__file__).resolve().parents[1] / "src"
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "160"}
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as out:
        started = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        out.seek(0)
        output = out.read()
    if started.returncode != 0:
        raise SystemExit(f"{' '.join(command)[:200]}: exit {started.returncode}\n{output[-3000:]}")
    return Took(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20), output


def sweep(folder: Path, cells: int) -> None:
    """Write the sweep and its workload, which does nothing."""
    methods = [f"m{i}" for i in range(4)]
    (folder / "noop.py").write_text(NOOP)
    (folder / "scale.toml").write_text(SWEEP.format(last=cells // 20 - 1, methods=json.dumps(methods)))


def commands(folder: Path, cells: int) -> dict[str, Took]:
    """Resources used by each command on this many cells."""
    raysweep = [sys.executable, "-m", "raysweep"]
    sweep(folder, cells)
    took: dict[str, Took] = {}
    took["plan"], output = process(folder, *raysweep, "plan", "scale.toml", "--store", "new")
    assert re.search(rf"{cells:,}\s+new", output), output
    took["fill"] = process(folder, sys.executable, "-c", textwrap.dedent(FILL))[0]
    at = ["--store", "filled"]
    took["resume"], output = process(folder, *raysweep, "launch", "scale.toml", *at)
    assert f"all {cells:,} cells are done" in output, output
    took["status"] = process(folder, *raysweep, "status", *at)[0]
    took["query command"], output = process(folder, *raysweep, "query", QUERY, "--format", "csv", *at)
    assert len(output.splitlines()) == 21, output
    inside, output = process(folder, sys.executable, "-c", QUERY_IN_PYTHON, QUERY)
    took["query"] = inside._replace(seconds=float(output))  # without Python's own start
    return took


def launches(cells: int) -> list[str]:
    """Launch cells in processes and on Ray, and run bare chunks on Ray; print the rates, and return the missed bars."""
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        sweep(Path(folder), cells)
        for where, address in (("in processes", "none"), ("on Ray", "local")):
            words = ["-c", textwrap.dedent(LAUNCH), str(cells), address]
            spent, output = process(Path(folder), sys.executable, *words)
            stats = json.loads(output.splitlines()[-1])
            print(
                f"launch of {cells:,} {where}: {stats['seconds']:.1f} s, {stats['rate']:,.0f} cells/s after the first "
                f"tenth, {spent.cpu:.1f} s of CPU, driver {stats['mib']} MiB by tenths, {stats['end_mib']} at the end, "
                f"peak {spent.gib:.2f} GiB, load {os.getloadavg()[0]:.1f}", flush=True,
            )  # fmt: skip
            if address == "none" and stats["rate"] < RATE:
                missed.append(f"{stats['rate']:,.0f} cells/s of {RATE:,.0f}")
            if stats["end_mib"] > FLAT * stats["mib"][1]:
                missed.append(f"driver memory went from {stats['mib'][1]} to {stats['end_mib']} MiB {where}")
        spent, output = process(Path(folder), sys.executable, "-c", textwrap.dedent(LIMIT), str(cells))
        rate = float(output.splitlines()[-1])
        print(f"bare chunks of 1,000 cells on Ray: {rate:,.0f} cells/s, load {os.getloadavg()[0]:.1f}")
    return missed


def main() -> None:
    """Measure and print; exit 1 where a bar is missed at the largest size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--launch", type=int, default=100_000)
    arguments = parser.parse_args()
    missed: list[str] = []
    for cells in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            took = commands(Path(folder), cells)
        line = "; ".join(f"{n} {t.seconds:.1f} s (cpu {t.cpu:.1f}), {t.gib:.2f} GiB" for n, t in took.items())
        print(f"{cells:>9,} cells: {line}", flush=True)
        if cells == max(arguments.sizes):
            bars, peak = (BARS, PEAK_GIB) if cells <= 5_000_000 else (LARGE, LARGE_GIB)
            late = {name: bar for name, bar in bars.items() if took[name].seconds > bar}
            missed += [f"{name} took {took[name].seconds:.1f} s of {bar:g}" for name, bar in late.items()]
            missed += [f"{n} took {t.gib:.2f} GiB of {peak}" for n, t in took.items() if t.gib > peak and n != "fill"]
    if arguments.launch:
        missed += launches(arguments.launch)
    print("\n".join(f"missed: {line}" for line in missed) or "all bars are met")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
