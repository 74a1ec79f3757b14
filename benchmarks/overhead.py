"""The cost of recording: cells that do nothing, through bare Ray, Ray Tune and raysweep.

    python benchmarks/overhead.py [--cells 5000] [--seeds 20] [--trials 20] [--json]

Every contender is a process of its own (so its peak memory is its own), one after another, on a Ray of its
own with the same settings. Seconds count from where Ray is up to where the last result is known (raysweep:
committed, fsynced, the store given back): Ray's start-up and shut-down are excluded on every side, the
start of worker processes is included on every side. Raysweep's seconds with start-up stand below the table.
Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ENVIRONMENT = {  # as raysweep's own embedded Ray has it
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
LABELS = {
    "bare": "bare Ray, one cell a task, unrecorded",
    "bare_parquet": "bare Ray, one cell a task, a fsynced Parquet file each",
    "tune": "Ray Tune, default",
    "tune_reuse": "Ray Tune, reuse_actors=True",
    "raysweep": "raysweep, recorded durably",
    "planning": "raysweep, planning a finished sweep",
}
LEAST = {"bare": 2.0, "tune": 1000.0, "tune_reuse": 100.0}  # raysweep's cells/s over the contender's
MAX_PLANNING_S = 3.0
BATCH = 500  # outcomes a commit in the finished store, as a launch of tiny cells makes them
NOOP = 'def run(cell, context):\n    return {"x": 1.0}\n'
NO_TUNE = "not installed: pip install 'ray[tune]'"


def write_sweep(folder: Path, cells: int, seeds: int) -> Any:
    """A sweep of about `cells` cells that do nothing, `seeds` of each config, and its workload beside it."""
    from raysweep.orchestrator.sweep.spec import Sweep

    (folder / "noop.py").write_text(NOOP)
    configs = max(1, round(cells / seeds))
    text = (
        'name = "noop"\nworkload = "noop:run"\n'
        f'seeds = "0..{seeds - 1}"\n\n[[grid]]\nmethod = "nothing"\nvalue = {list(range(configs))}\n'
    )
    path = folder / "noop.toml"
    path.write_text(text)
    return Sweep.from_text(text, path)


def start_ray() -> Any:
    """Ray on this machine, configured alike for every contender."""
    import logging

    import ray

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    return ray


def bare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One task per cell; the driver keeps the results in memory, nothing is recorded."""
    ray = start_ray()

    @ray.remote
    def cell(number: int) -> dict[str, float]:
        return {"x": 1.0}

    began = time.perf_counter()
    results = ray.get([cell.remote(i) for i in range(options.cells)])
    seconds = time.perf_counter() - began
    assert len(results) == options.cells
    return {"cells": options.cells, "seconds": seconds}


def bare_parquet(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One task per cell, which writes and syncs a Parquet file."""
    ray = start_ray()
    target = folder / "parquet"
    target.mkdir()

    @ray.remote
    def cell(folder: str, number: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with open(f"{folder}/{number}.parquet", "wb") as file:
            pq.write_table(pa.table({"cell": [number], "x": [1.0]}), file)
            file.flush()
            os.fsync(file.fileno())

    began = time.perf_counter()
    ray.get([cell.remote(str(target), i) for i in range(options.cells)])
    seconds = time.perf_counter() - began
    assert len(list(target.iterdir())) == options.cells
    return {"cells": options.cells, "seconds": seconds}


def tune(folder: Path, options: argparse.Namespace, reuse: bool | None = None) -> dict[str, Any]:
    """Tune trials; `reuse` None is Tune's default."""
    try:
        from ray import tune as ray_tune
    except ImportError:
        return {"problem": NO_TUNE}
    start_ray()

    def trial(config: dict[str, Any]) -> dict[str, float]:
        return {"x": 1.0}

    given = {} if reuse is None else {"reuse_actors": reuse}
    began = time.perf_counter()
    results = ray_tune.Tuner(
        trial,
        param_space={"number": ray_tune.grid_search(list(range(options.trials)))},
        tune_config=ray_tune.TuneConfig(**given),
        run_config=ray_tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    ).fit()
    seconds = time.perf_counter() - began
    assert len(results) == options.trials
    assert not results.errors
    return {"cells": options.trials, "seconds": seconds}


def tune_reuse(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Tune in its fastest configuration."""
    return tune(folder, options, reuse=True)


def raysweep(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A launch into a new store: read, expand, plan, run, record, commit."""
    import ray  # noqa: F401  # an import, so not timed, as on the other sides

    from raysweep.orchestrator.executors.ray import executor
    from raysweep.orchestrator.launch.launch import launch
    from raysweep.orchestrator.store.reader import Store

    spent = {"start": 0.0, "stop": 0.0}

    class Timed(executor.RayExecutor):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            began = time.perf_counter()
            super().__init__(*args, **kwargs)
            spent["start"] += time.perf_counter() - began

        def close(self) -> None:
            began = time.perf_counter()
            super().close()
            spent["stop"] += time.perf_counter() - began

    executor.RayExecutor = Timed  # what `launch` opens
    sweep = write_sweep(folder, options.cells, options.seeds)
    began = time.perf_counter()
    result = launch(sweep, store=folder / "store")
    total = time.perf_counter() - began
    assert result.done == result.asked == Store(folder / "store").cells.collect().height
    return {
        "cells": result.done,
        "seconds": total - spent["start"] - spent["stop"],
        "ray_start_s": spent["start"],
        "ray_stop_s": spent["stop"],
        "total_s": total,
    }


def finished_store(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The store that `planning` reads. Not a contender."""
    from raysweep.orchestrator.launch.record import record
    from raysweep.orchestrator.run.messages import CompletedAttempt, Outcome, Worker
    from raysweep.orchestrator.schedule.plan import plan
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.store.writer import StoreWriter
    from raysweep.orchestrator.sweep.cells import expand

    sweep = write_sweep(folder, options.planned, options.seeds)
    table = expand([sweep])
    store = Store(folder / "store")
    worker = Worker("host", None, 1, "cpu", table.variants["source_digest"][0], str(folder / "noop.py"), "{}")
    now = time.time()
    with StoreWriter(store, "benchmarks/overhead.py") as owner:
        frame = plan(table, store.summary()).frame
        for first in range(0, len(table), BATCH):
            outcomes = [
                CompletedAttempt(Outcome(row, 1, "done", now, now, 1e-4, 1e-4, 100.0, {"x": 1.0}), worker)
                for row in range(first, min(first + BATCH, len(table)))
            ]
            owner.append(record(outcomes, frame, table.variants, owner.epoch, {}))
    return {"cells": len(table)}


def planning(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Expand and plan a finished sweep: nothing is left to run."""
    from raysweep.orchestrator.schedule.plan import plan
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.sweep.cells import expand
    from raysweep.orchestrator.sweep.spec import Sweep

    path = folder / "noop.toml"
    marks = [time.perf_counter()]
    table = expand([Sweep.from_text(path.read_text(), path)])
    marks.append(time.perf_counter())
    summary = Store(folder / "store").summary()
    marks.append(time.perf_counter())
    planned = plan(table, summary)
    order = planned.order
    marks.append(time.perf_counter())
    assert not order
    assert planned.counts()["done"] == len(table)
    return {
        "cells": len(table),
        "seconds": marks[3] - marks[0],
        "expand_s": marks[1] - marks[0],
        "summary_s": marks[2] - marks[1],
        "plan_s": marks[3] - marks[2],
        "segments": len(Store(folder / "store").segments("attempts")),
    }


CONTENDERS: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "bare": bare,
    "bare_parquet": bare_parquet,
    "tune": tune,
    "tune_reuse": tune_reuse,
    "raysweep": raysweep,
    "finished_store": finished_store,
    "planning": planning,
}


def in_child(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run one contender in a process of its own; it prints JSON as its last line."""
    numbers = [f"--{n}={getattr(options, n)}" for n in ("cells", "seeds", "trials", "planned")]
    command = [sys.executable, __file__, "--contender", name, "--folder", str(folder), *numbers]
    root = str(Path(__file__).resolve().parent.parent / "src")
    paths = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
    ended = subprocess.run(
        command,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        return {"problem": lines[-1]}
    results: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    return results


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """All contenders, and which bars are met."""
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="raysweep-overhead-", dir=options.folder) as place:
        for name in LABELS:
            folder = Path(place) / name
            folder.mkdir()
            print(f"{name} ...", file=sys.stderr, flush=True)
            built = in_child("finished_store", folder, options) if name == "planning" else {}
            rows[name] = built if "problem" in built else in_child(name, folder, options)
    for row in rows.values():
        if "seconds" in row:
            row["cells_per_s"] = row["cells"] / row["seconds"]
    ours = rows["raysweep"].get("cells_per_s")
    for name, row in rows.items():
        if ours and "cells_per_s" in row and name not in {"raysweep", "planning"}:
            row["ratio"] = ours / row["cells_per_s"]
    bars = []
    for name, least in LEAST.items():
        ratio = rows[name].get("ratio")
        bars.append(
            {
                "bar": f"raysweep >= {least:g}x {LABELS[name]}",
                "found": ratio,
                "met": None if ratio is None else ratio >= least,
            }
        )
    seconds = rows["planning"].get("seconds")
    bars.append(
        {
            "bar": f"{LABELS['planning']} of {options.planned:,} cells < {MAX_PLANNING_S:g} s",
            "found": seconds,
            "met": None if seconds is None else seconds < MAX_PLANNING_S,
        }
    )
    machine = {"cpus": os.cpu_count(), "load_at_end": os.getloadavg()[0]}
    return {"compared": "seconds without Ray's start-up and shut-down", "machine": machine, "rows": rows, "bars": bars}


def show(results: dict[str, Any]) -> None:
    """Print the comparison for people."""
    head = ("contender", "cells", "seconds", "cells/s", "driver MiB", "raysweep/it")
    print(f"{head[0]:<56}{head[1]:>9}{head[2]:>10}{head[3]:>11}{head[4]:>12}{head[5]:>13}")
    for name, row in results["rows"].items():
        if "problem" in row:
            print(f"{LABELS[name]:<56}  {row['problem']}")
            continue
        ratio = f"{row['ratio']:,.2f}x" if "ratio" in row else "-"
        print(
            f"{LABELS[name]:<56}{row['cells']:>9,}{row['seconds']:>10.2f}{row['cells_per_s']:>11,.2f}"
            f"{row['peak_driver_rss_mib']:>12.0f}{ratio:>13}"
        )
    print(f"\nCompared: {results['compared']}, on every side.")
    ours = results["rows"]["raysweep"]
    if "total_s" in ours:
        print(
            f"raysweep with Ray's start-up ({ours['ray_start_s']:.2f} s) and shut-down ({ours['ray_stop_s']:.2f} s): "
            f"{ours['total_s']:.2f} s, {ours['cells'] / ours['total_s']:,.0f} cells/s."
        )
    print()
    for bar in results["bars"]:
        verdict = {True: "met", False: "NOT met", None: "not measured"}[bar["met"]]
        print(f"{verdict:<14}{bar['bar']}" + ("" if bar["found"] is None else f"  ({bar['found']:,.2f})"))


def main() -> int:
    """Compare; or, in a child process, run one contender."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=5000, help="cells that do nothing")
    parser.add_argument("--seeds", type=int, default=20, help="of them, cells that share a config (raysweep)")
    parser.add_argument("--trials", type=int, default=20, help="Ray Tune's")
    parser.add_argument("--planned", type=int, default=100_000, help="cells of the finished sweep")
    parser.add_argument("--folder", type=Path, help="where to write (default: the temporary folder)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--contender", choices=CONTENDERS, help="run only this one, in this process; prints JSON")
    options = parser.parse_args()
    if options.contender is None:
        results = compare(options)
        if options.json:
            print(json.dumps(results, indent=2))
        else:
            show(results)
        return 0
    os.environ.update(ENVIRONMENT)
    if options.folder is None:
        options.folder = Path(tempfile.mkdtemp(prefix="raysweep-overhead-"))
    row = CONTENDERS[options.contender](options.folder, options)
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row["peak_driver_rss_mib"] = kib / (2**20 if sys.platform == "darwin" else 2**10)
    print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
