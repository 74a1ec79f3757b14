"""Overhead of program cells beside bare `subprocess` on as many slots.

    python benchmarks/programs.py                   # 1,000 cells of `true`, 40 of `sleep 1`, 40 of a script of a second
    python benchmarks/programs.py --cells 100 --long 10

The bare side runs the same command lines in a pool of threads, one for each slot, and keeps nothing. The time of a
launch counts from the start of its first cell to the end of its last one: the start of Ray (about 5 s) is printed, and
not compared.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from raysweep import Store, Sweep, launch

SLOTS = os.cpu_count() or 1
RATE, RATIO = 200.0, 1.15
SECOND = """
import sys, time
end = time.process_time() + 1.0
while time.process_time() < end:
    pass
print('{"seed": %s}' % sys.argv[1])
"""


def bare(command: list[str], cells: int) -> float:
    """Seconds that the command lines take without raysweep."""

    def one(seed: int) -> None:
        words = [word.replace("{seed}", str(seed)) for word in command]
        subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)

    began = time.perf_counter()
    with ThreadPoolExecutor(SLOTS) as pool:
        list(pool.map(one, range(cells)))
    return time.perf_counter() - began


def launched(command: list[str], cells: int, inline: bool) -> tuple[float, float]:
    """Seconds from the first cell's start to the last one's end, and seconds of the whole launch."""
    words = ", ".join(f'"{word}"' for word in command)
    sweep = Sweep.from_text(f'command = [{words}]\nseeds = "0..{cells - 1}"\nenv = {{ SEED = "{{seed}}" }}')
    with tempfile.TemporaryDirectory() as folder:
        result = launch(sweep, folder, inline=inline)
        assert result.done == cells, result
        row = Store(folder).sql("SELECT epoch(max(finished_at)) - epoch(min(started_at)) AS s FROM attempts")
        return float(row["s"][0]), result.seconds


def main() -> None:
    """Print a table, and exit 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000, help="cells of `true`")
    parser.add_argument("--long", type=int, default=40, help="cells of a second")
    parser.add_argument("--inline", action="store_true", help="without Ray, on one slot")
    arguments = parser.parse_args()
    if arguments.inline:
        globals()["SLOTS"] = 1
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "second.py")
        script.write_text(SECOND)
        cases = {
            "true": (["true"], arguments.cells),
            "sleep 1": (["sleep", "1"], arguments.long),
            "script of 1 s": ([sys.executable, str(script), "{seed}"], arguments.long),
        }
        print(f"{SLOTS} slots; seconds of bare subprocess, seconds here, ratio, cells/s here, whole launch")
        for name, (command, cells) in cases.items():
            before = bare(command, cells)
            ours, whole = launched(command, cells, arguments.inline)
            after = bare(command, cells)
            ratio = ours / min(before, after)
            print(f"{name:<14} {before:7.2f} {after:7.2f} {ours:7.2f} {ratio:6.3f}x {cells / ours:8.1f}/s {whole:7.2f}")
            missed |= cells / ours < RATE if name == "true" else ratio > RATIO
    sys.exit(missed)


if __name__ == "__main__":
    main()
