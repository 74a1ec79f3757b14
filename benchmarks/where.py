"""Where the time of a launch goes, per cell that does nothing: `python benchmarks/where.py [--svg FILE]`.

The launch runs in worker processes. Functions of the driver are timed by the CPU time of its main thread, so that other
work on the machine does not count; the time in which the driver waits for the disk is the difference to the clock.
Workers are measured as a whole, by the CPU time of their processes.
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raysweep.orchestrator.executors.processes import executor as processes
from raysweep.orchestrator.launch import launch as launcher
from raysweep.orchestrator.launch.launch import Launch
from raysweep.orchestrator.launch.request import Options, from_sweeps
from raysweep.orchestrator.schedule.driver import Driver
from raysweep.orchestrator.store import owner
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.storage.local import LocalStorage
from raysweep.orchestrator.sweep.spec import load_all

NOOP = "def run(cell, context):\n    return {'loss': cell.seed * 0.5}\n"
SWEEP = 'workload = "noop:run"\nseeds = "0..{}"\n[[grid]]\nmethod = ["a", "b"]\nk = [1, 2, 3, 4, 5]\n'
PARTS = (
    "worker: run the cell", "receive replies", "count and schedule", "make tables", "encode Parquet", "write", "rest",
)  # fmt: skip
COLOURS = ("#7a9cc6", "#c6a27a", "#b7c67a", "#7ac6a5", "#a87ac6", "#c67a8b", "#bbbbbb")

cpu: dict[str, float] = defaultdict(float)
waited: dict[str, float] = defaultdict(float)
_inside: list[float] = []  # CPU seconds of timed functions within the present one


def timed(place: Any, name: str, part: str) -> None:
    """Replace a function by one that adds its own CPU time, without that of timed functions within it, to a part."""
    function: Callable[..., Any] = getattr(place, name)

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        began, clock = time.thread_time(), time.monotonic()
        _inside.append(0.0)
        try:
            return function(*arguments, **options)
        finally:
            spent = time.thread_time() - began
            cpu[part] += spent - _inside.pop()
            waited[part] += time.monotonic() - clock - spent
            if _inside:
                _inside[-1] += spent

    setattr(place, name, call)


def measure(cells: int) -> dict[str, float]:
    """Launch so many cells; return CPU microseconds per cell by part, and those of waiting for the disk."""
    for place, name, part in (
        (processes._Worker, "replies", "receive replies"),
        (Driver, "_completed", "count and schedule"),
        (Driver, "_submit", "count and schedule"),
        (launcher, "record", "make tables"),
        (owner, "encode", "encode Parquet"),
        (LocalStorage, "create", "write"),
    ):
        timed(place, name, part)
    store = Store("launched")
    request = from_sweeps(load_all(["noop.toml"]), store)
    began = time.thread_time()
    result = Launch(request, store, Options()).run()
    if result.done != cells:
        raise SystemExit(f"{result.done} of {cells} cells done")
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu["worker: run the cell"] = usage.ru_utime + usage.ru_stime
    cpu["rest"] = time.thread_time() - began - sum(cpu[part] for part in PARTS[1:-1])
    return {part: 1e6 * cpu[part] / cells for part in PARTS} | {"waiting for the disk": 1e6 * waited["write"] / cells}


def picture(parts: dict[str, float]) -> str:
    """Draw the parts as one bar, with a legend."""
    total, x, shapes = sum(parts.values()), 0.0, []
    for row, ((part, micros), colour) in enumerate(zip(parts.items(), COLOURS, strict=True)):
        width = 640 * micros / total
        y = 92 + 22 * row
        shapes += [
            f'<rect x="{20 + x:.1f}" y="36" width="{width:.1f}" height="30" fill="{colour}"/>',
            f'<rect x="20" y="{y - 11}" width="13" height="13" fill="{colour}"/>',
            f'<text x="42" y="{y}">{part}</text><text x="300" y="{y}" text-anchor="end">{micros:.1f}</text>',
        ]
        x += width
    height = 92 + 22 * len(parts)
    title = f"CPU time of one no-op cell: {total:.0f} microseconds"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 {height}" font-family="sans-serif" font-size="13">\n'
        f'<rect width="680" height="{height}" fill="white"/>\n<text x="20" y="22" font-weight="bold">{title}</text>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def main() -> None:
    """Measure, print, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    svg = options.svg and options.svg.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("noop.py").write_text(NOOP)
        Path("noop.toml").write_text(SWEEP.format(options.cells // 10 - 1))
        parts = measure(options.cells)
        os.chdir("/")
    for part, micros in parts.items():
        print(f"{part:22} {micros:6.1f} microseconds per cell")
    del parts["waiting for the disk"]
    print(f"{'sum of CPU time':22} {sum(parts.values()):6.1f}, load {os.getloadavg()[0]:.1f}")
    if svg:
        svg.write_text(picture(parts))


if __name__ == "__main__":
    main()
