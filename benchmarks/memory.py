"""Cells with large arrays: the peak memory of a launch's driver, and of queries and exports of the arrays.

    python benchmarks/memory.py                     # 200 cells with an array of 1,000,000 entries each
    python benchmarks/memory.py --cells 20 --inline

Each command is a process of its own; its peak is the largest resident memory that the system recorded. It includes the
code of libraries and the pages of Ray's object store that the process has touched; the peak of its private memory,
sampled every 20 ms, is printed beside it. The arrays are random, so that they do not compress.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORKLOAD = """
import numpy as np
def run(cell, context):
    context.array("curve", np.random.default_rng(cell.seed).standard_normal({entries}).astype(np.{dtype}))
    return {{"loss": 0.5}}
"""
SWEEP = 'name = "large"\nworkload = "large:run"\nseeds = "0..{last}"\n[[grid]]\nmethod = "m"\n'
QUERIES = {
    "count of the arrays": ["query", "SELECT name, count(*) FROM arrays GROUP BY name"],
    "mean of the last entry": ["query", "SELECT avg(values[-1]) FROM arrays"],
    "mean of all entries": ["query", "SELECT avg(list_avg(values)) FROM arrays"],
    "all arrays to Parquet": ["query", "SELECT * FROM arrays", "--output", "arrays.parquet"],
    "all arrays to CSV": ["query", "SELECT * FROM arrays", "--output", "arrays.csv"],
    "all arrays to NDJSON": ["query", "SELECT * FROM arrays", "--output", "arrays.ndjson"],
}


def peak(folder: Path, *words: str) -> tuple[float, float, float]:
    """Seconds of a command, and the peaks of its resident and of its private memory, in MiB."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "src")}
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "raysweep", *words], cwd=folder, env=environment, stdout=-3)
    private = 0
    while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        memory = Path(f"/proc/{process.pid}/status").read_text()
        if line := re.search(r"RssAnon:\s+(\d+) kB", memory):  # a process that has just ended has none
            private = max(private, int(line[1]))
        time.sleep(0.02)
    _, status, usage = ended
    if status:
        raise SystemExit(f"{' '.join(words)}: exit status {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - began, usage.ru_maxrss / 1024, private / 1024


def report(name: str, seconds: float, mib: float, private: float) -> None:
    """Print a line of the table."""
    print(f"{name:24} {seconds:6.1f} s {mib:7.0f} MiB, private {private:7.0f} MiB", flush=True)


def main() -> None:
    """Run the commands, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--inline", action="store_true")
    parser.add_argument("--only", nargs="*", help="words in the names of queries", default=[""])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "large.py").write_text(WORKLOAD.format(entries=options.entries, dtype=options.dtype))
        (folder / "large.toml").write_text(SWEEP.format(last=options.cells - 1))
        inline = ["--inline"] if options.inline else []
        report("launch", *peak(folder, "launch", "large.toml", "--yes", *inline))
        stored = sum(path.stat().st_size for path in (folder / "results" / "arrays").iterdir())
        print(f"{'arrays on disk':24} {'':8} {stored / 2**20:7.0f} MiB", flush=True)
        for name, words in QUERIES.items():
            if any(part in name for part in options.only):
                report(name, *peak(folder, *words))
                for file in folder.glob("arrays.*"):
                    file.unlink()


if __name__ == "__main__":
    main()
