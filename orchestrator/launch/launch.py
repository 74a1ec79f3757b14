"""The launch: all stages in order. What the command line and the Python API both call."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from raysweep.orchestrator.errors import Fenced, InputError, StoreWriteFailed
from raysweep.orchestrator.executors import EXECUTORS
from raysweep.orchestrator.executors.executor import Executor
from raysweep.orchestrator.executors.resources import demands, unmet
from raysweep.orchestrator.launch.announce import starting
from raysweep.orchestrator.launch.preflight import lacking
from raysweep.orchestrator.launch.provenance import Commit, commit_of, shipped
from raysweep.orchestrator.launch.record import record
from raysweep.orchestrator.launch.request import Request, from_sweeps
from raysweep.orchestrator.process import SIGNALS, held_off
from raysweep.orchestrator.run.messages import CompletedAttempt
from raysweep.orchestrator.schedule.driver import Driver
from raysweep.orchestrator.schedule.limits import MAX_ALIKE, NODE_WAIT_MIN, Limits
from raysweep.orchestrator.schedule.plan import Plan, plan
from raysweep.orchestrator.schedule.progress import Progress
from raysweep.orchestrator.status import CHARGES
from raysweep.orchestrator.store.holder import wait_till_free
from raysweep.orchestrator.store.reader import DEFAULT, Store
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.sweep.workload import Workload, own_files, source_files
from raysweep.workloads.registry import unknown_name

FLUSH_OUTCOMES, FLUSH_S = 500, 0.5
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Options:
    """How to run, never what."""

    where: str | None = None
    resume: bool = False
    rerun_changed: bool = False
    executor: str = "ray"
    address: str | None = None
    device: str = "auto"
    max_failures: int | None = None
    max_hours: float | None = None
    max_alike: int | None = MAX_ALIKE
    node_wait: float | None = NODE_WAIT_MIN  # minutes
    wait: bool = False
    command: str = "raysweep launch"


@dataclass(frozen=True)
class Result:
    """How a launch ended. `asked` = done + failed + left; `ran` cells were finished in this launch."""

    asked: int
    done: int
    ran: int
    failed: int
    left: int
    exhausted: int  # of the failed: not tried, their attempts were used up before
    changed: int  # of the done: by other code than there is now, and left as they are
    seconds: float
    stopped: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: all asked-for cells are done; 130: interrupted; 1: otherwise."""
        if self.stopped == "interrupted":
            return 130
        return 0 if self.done == self.asked else 1


def launch(
    sweeps: Sweep | Sequence[Sweep],
    store: str | Path | Store = DEFAULT,
    *,
    where: str | None = None,
    inline: bool = False,
    address: str | None = None,
    device: str = "auto",
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Run what is missing of one or several sweeps; returns when all is done or failed.

    Args:
        sweeps: from `Sweep.load`.
        store: a folder.
        where: an SQL predicate over key and config columns and status.
        inline: in this process instead of on Ray.
        address: of a running Ray cluster; None starts Ray on this machine.
        device: "auto": cells get the GPUs that they ask for; "cpu": none; "cuda": one at least.
        progress: called several times a second.

    Raises:
        InputError: a sweep, the predicate or the store's path is wrong.
        StoreBusy: another launch owns the store.
    """
    opened = store if isinstance(store, Store) else Store(store)
    prepared = from_sweeps([sweeps] if isinstance(sweeps, Sweep) else sweeps, opened, where)
    executor = "inline" if inline else "ray"
    options = Options(where=where, executor=executor, address=address, device=device, command="launch()")
    return run(prepared, opened, options, progress)


def run(
    prepared: Request,
    store: Store,
    options: Options,
    report: Callable[[Progress], None] | None = None,
    announce: Callable[[Plan, Executor], None] | None = None,
) -> Result:
    """Own the store, plan, drive, record, commit.

    Args:
        prepared: what is asked for.
        store: where to.
        options: how.
        report: called several times a second.
        announce: called once, before anything runs, where something does.
    """
    began = time.monotonic()
    if options.executor == "ray" and options.address is not None:
        from raysweep.orchestrator.executors.ray.executor import check_address

        check_address(options.address)  # before the store is taken
    with contextlib.ExitStack() as opened, contextlib.ExitStack() as begun:
        executor = None
        planned = plan_of(prepared, store, options)
        if planned.frame["run"].any():  # what can't be run is refused before the store is taken
            _refuse_lacking(prepared, planned, options)
            if store.exists():
                wait_till_free(store.storage, options.wait)
            begun.enter_context(starting(store.storage.location, options.command))
            executor = open_executor(prepared, options)
            opened.callback(executor.close)
            _refuse_unfit(executor, planned)
        owner = opened.enter_context(StoreWriter(store, options.command, wait=options.wait))
        begun.close()
        for sweep in () if prepared.recorded else prepared.sweeps:
            _record(owner, sweep, on_device(prepared.table, options.device), options)
        planned = plan_of(prepared, store, options)
        warnings = list(prepared.warnings)
        if not planned.frame["run"].any():
            return _result(planned, None, began, warnings)
        if executor is None:  # what was done a moment ago is not: by a person's hand
            executor = open_executor(prepared, options)
        opened.callback(executor.close)  # a second time, if need be: before the store is given back
        if announce is not None:
            announce(planned, executor)
        # Where the module was found, not where it was looked for: of two sweeps, each finds its own.
        search: dict[str, tuple[str, ...]] = {
            name: (w.folder,) if w.folder else () for name, w in prepared.workloads.items()
        }
        home = owner.checkpoint_home()
        hours, minutes = options.max_hours, options.node_wait
        limits = Limits(options.max_failures, hours and hours * 3600, options.max_alike, minutes and minutes * 60)
        driver = Driver(planned, executor, search, limits, home)
        owner.running = driver.running
        again = frozenset(planned.frame.filter((pl.col("state") == "changed") & pl.col("run"))["cell_id"])
        with _interruptible(driver, executor):
            _commit_all(driver, owner, planned, prepared.workloads, again, report)
        owner.compactor.end()
        if owner.compactor.problem is not None:
            warnings.append(f"small segments were not merged: {owner.compactor.problem}")
        return _result(planned, driver.progress, began, warnings)


def plan_of(prepared: Request, store: Store, options: Options) -> Plan:
    """The plan against what the store now holds."""
    exists = store.exists()
    summary = store.summary() if exists else EMPTY_SUMMARY
    table = on_device(prepared.table, options.device)
    return plan(
        table, summary, store.times if exists else None, resume=options.resume, rerun_changed=options.rerun_changed
    )


def on_device(table: CellTable, device: str) -> CellTable:
    """The cells with the GPUs that they get: as asked for (`auto`), none (`cpu`), one at least (`cuda`)."""
    if device not in DEVICES:
        known = unknown_name("device", device, DEVICES)
        raise InputError("--device gpu: is spelt --device cuda" if device == "gpu" else f"--device: {known}")
    gpus = {"auto": pl.col("gpus"), "cpu": pl.lit(0.0), "cuda": pl.col("gpus").replace(0.0, 1.0)}[device]
    return replace(table, variants=table.variants.with_columns(gpus=gpus))


EMPTY_SUMMARY = pl.DataFrame(
    schema={
        "cell_id": pl.String,
        "status": pl.String,
        "attempts": pl.Int32,
        **dict.fromkeys(CHARGES, pl.UInt32),
        "seconds": pl.Float64,
        "source_digest": pl.String,
    }
)


def _commit_all(
    driver: Driver,
    owner: StoreWriter,
    planned: Plan,
    workloads: Mapping[str, Workload],
    again: frozenset[str],
    report: Callable[[Progress], None] | None,
) -> None:
    """Gather outcomes and commit them when enough, or half a second's, have come."""
    commits, paths = commits_of(workloads), {w.source_digest: w.source_path for w in workloads.values()}
    waiting: list[CompletedAttempt] = []
    last = time.monotonic()

    def flush() -> None:
        nonlocal waiting, last
        with held_off():  # an interrupt between a commit and forgetting its rows would make them come twice
            if waiting:
                records = record(waiting, planned.frame, planned.table.variants, owner.epoch, commits, paths)
                owner.append(records, again)
                driver.progress.done -= records.refused
                driver.progress.failed += records.refused
            waiting, last = [], time.monotonic()

    try:
        for finished in driver.run():
            waiting.extend(finished)
            if len(waiting) >= FLUSH_OUTCOMES or (waiting and time.monotonic() - last >= FLUSH_S):
                flush()
            if report is not None:
                report(driver.progress)
    except (Fenced, StoreWriteFailed):
        raise  # the store refused: what waits can't be committed
    except BaseException:
        flush()
        raise
    flush()


def open_executor(prepared: Request, options: Options) -> Executor:
    """The executor that the options name."""
    module, _, name = EXECUTORS[options.executor].partition(":")
    kind = getattr(importlib.import_module(module), name)
    if options.executor == "inline":
        executor: Executor = kind()
        return executor
    ship: dict[str, list[Path]] = {}
    for workload in prepared.workloads.values():
        if workload.folder is not None:
            ship.setdefault(workload.folder, []).extend(own_files(workload))
    on_ray: Executor = kind(options.address, ship)
    return on_ray


def _refuse_unfit(executor: Executor, planned: Plan) -> None:
    """A cell that no node can run would wait for ever: say so now."""
    problems = []
    for size, count in demands(planned.frame.filter("run"), planned.table.variants):
        reason = executor.fits(*size)
        if reason is not None:
            problems.append(unmet(size, count, reason, ["--address a larger cluster"]))
    if problems:
        raise InputError(problems)


def _refuse_lacking(prepared: Request, planned: Plan, options: Options) -> None:
    """Of a cluster, what its nodes have is not known here; cells that are to run on this machine would only fail."""
    if options.executor == "inline" or options.address is None:
        problems = lacking(planned, prepared.workloads)
        if problems:
            raise InputError(problems)


def commits_of(workloads: Mapping[str, Workload]) -> dict[str, Commit]:
    """Source digest -> the commit that has this source, of workloads that lie in a repository."""
    found = {}
    for w in workloads.values():
        files = [file for _, file in source_files(w.module, w.source_path, w.folder)]
        found[w.source_digest] = commit_of(w.source_path, files)
    return shipped() | {digest: commit for digest, commit in found.items() if commit is not None}


def _record(owner: StoreWriter, sweep: Sweep, table: CellTable, options: Options) -> None:
    mine = (pl.col("sweep") == sweep.name) & (pl.col("workload") == sweep.workload)
    variants = table.variants.filter(mine)
    cells = table.cells.filter(pl.col("variant").is_in(variants["variant"].implode()))
    if cells.is_empty():
        return
    about = {
        "name": sweep.name,
        "title": sweep.title,
        "path": sweep.path,
        "text": sweep.text,
        "search": list(sweep.search),
        "overrides": dict(sweep.overrides),
        "where": options.where,
        "cells": cells.height,
    }
    # Renumbered from 0, so that equal requests are equal files.
    numbers = variants.select("variant").with_row_index("new")
    part = CellTable(
        variants.with_columns(variant=pl.int_range(pl.len(), dtype=pl.UInt32)),
        cells.join(numbers, on="variant", maintain_order="left").select(
            "cell_id", pl.col("new").alias("variant"), "seed"
        ),
    )
    digest = hashlib.sha256(repr((sweep.name, sweep.path, sweep.text_digest)).encode())
    digest.update("".join(part.cells["cell_id"].sort()).encode())
    digest.update(part.variants.drop("source_digest").write_csv().encode())
    owner.record_sweep(about, part, digest.hexdigest()[:16])


def _result(planned: Plan, progress: Progress | None, began: float, warnings: list[str]) -> Result:
    counts = planned.counts()
    ran = progress.done if progress else 0
    failed = progress.failed if progress else 0
    changed, exhausted = (
        planned.frame.filter((pl.col("state") == state) & ~pl.col("run")).height for state in ("changed", "failed")
    )
    done = counts["done"] + changed + ran
    return Result(
        asked=len(planned.table),
        done=done,
        ran=ran,
        failed=failed + exhausted,
        left=len(planned.table) - done - failed - exhausted,
        exhausted=exhausted,
        changed=changed,
        seconds=time.monotonic() - began,
        stopped=progress.stopped if progress else None,
        warnings=(*warnings, *(progress.notes if progress else ())),
    )


@contextmanager
def _interruptible(driver: Driver, executor: Executor) -> Iterator[None]:
    """Turn the first Ctrl-C (or SIGTERM) into a clean end; a second one is as rude as it sounds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: Any) -> None:
        if driver.stop_asked:
            raise KeyboardInterrupt
        driver.stop_asked = True
        executor.interrupt()

    before = {s: signal.signal(s, stop) for s in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
