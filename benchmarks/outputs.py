"""The cost of keeping a program's output and files: the same program through bare subprocesses and as cells.

    python benchmarks/outputs.py                # cells are command lines
    python benchmarks/outputs.py --function     # cells are a function that starts the program in `context.folder`

The program waits for `--seconds`, prints a hundred lines and writes a file of 1 MiB. Bare: as many threads as CPUs call
`subprocess.run`, in a fresh temporary folder each time; nothing is kept. Cells, on Ray: output, file and row are
committed durably. Their seconds count from the start of the first cell to the commit of the last row. Runs alternate;
the medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MAX_RATIO = 1.15  # seconds of the cells over those of bare subprocesses
PROGRAM = """
    import sys, time
    time.sleep(float(sys.argv[1]))
    for number in range(100):
        print("line", number)
    open("file.bin", "wb").write(bytes(2**20))
"""
WORKLOAD = """
    import subprocess, sys

    def run(cell, context):
        command = [sys.executable, cell.config["program"], str(cell.config["seconds"])]
        subprocess.run(command, cwd=context.folder, check=True)
        return {"x": 1.0}
"""


def bare(program: Path, cells: int, seconds: float) -> float:
    """Seconds for all runs of the program, without raysweep."""

    def one(_: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(program), str(seconds)]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    began = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(cells)))
    return time.perf_counter() - began


def cells_of(program: Path, folder: Path, cells: int, seconds: float, as_function: bool) -> float:
    """Seconds for all runs of the program as cells."""
    from raysweep.orchestrator.launch.launch import Launch
    from raysweep.orchestrator.launch.request import Options, from_sweeps
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.sweep.spec import Sweep

    if as_function:
        text = (
            f'workload = "starts:run"\nseeds = "0..{cells - 1}"\n[config]\n'
            f'program = {json.dumps(str(program))}\nseconds = {seconds}\n[[grid]]\nmethod = "m"\n'
        )
    else:
        command = f"python {program.name} {{seconds}} {{seed}}"
        text = f'command = "{command}"\nseeds = "0..{cells - 1}"\nconfig.seconds = {seconds}\n'
    (folder / "outputs.toml").write_text(text)
    store = Store(folder / "store")
    launch = Launch(from_sweeps([Sweep.load(folder / "outputs.toml")], store), store, Options())
    began = time.time()
    result = launch.run()
    files = store.artifacts()
    if result.done != cells or files.height != cells or files["sha256"].null_count():
        raise SystemExit(f"{result.done} of {cells} cells done, with {files.height} artifacts")
    first = float(store.sql("SELECT epoch(min(started_at)) AS first FROM attempts")["first"][0])
    return began + result.seconds - first


def main() -> None:
    """Compare, and exit with 1 if the cells took too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one run of the program")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--function", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    plain, kept = [], []
    for _ in range(arguments.pairs):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "program.py").write_text(textwrap.dedent(PROGRAM))
            (folder / "starts.py").write_text(textwrap.dedent(WORKLOAD))
            plain.append(bare(folder / "program.py", arguments.cells, arguments.seconds))
            cells = cells_of(folder / "program.py", folder, arguments.cells, arguments.seconds, arguments.function)
            kept.append(cells)
    ratio = statistics.median(kept) / statistics.median(plain)
    if arguments.json:
        print(json.dumps({"bare": plain, "cells": kept, "ratio": ratio}))
    else:
        print(f"bare subprocesses: {statistics.median(plain):.2f} s   cells: {statistics.median(kept):.2f} s")
        print(f"ratio {ratio:.3f} (at most {MAX_RATIO})")
    sys.exit(0 if ratio <= MAX_RATIO else 1)


if __name__ == "__main__":
    main()
