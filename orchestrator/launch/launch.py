"""The launch: all stages in order. The command line and the Python API both call it."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from raysweep.orchestrator.errors import Fenced, InputError, StoreWriteFailed
from raysweep.orchestrator.executors import EXECUTORS
from raysweep.orchestrator.executors.executor import Executor
from raysweep.orchestrator.launch.announce import starting
from raysweep.orchestrator.launch.preflight import refuse_lacking, refuse_unfit
from raysweep.orchestrator.launch.provenance import commits_of
from raysweep.orchestrator.launch.record import record, sweep_record
from raysweep.orchestrator.launch.request import Options, Request, from_sweeps
from raysweep.orchestrator.process import held_off, signals_handled
from raysweep.orchestrator.run.messages import CompletedAttempt
from raysweep.orchestrator.schedule.driver import Driver
from raysweep.orchestrator.schedule.limits import Limits
from raysweep.orchestrator.schedule.plan import Plan, plan
from raysweep.orchestrator.schedule.progress import Progress
from raysweep.orchestrator.store.lease import wait_till_free
from raysweep.orchestrator.store.reader import DEFAULT, Store
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.sweep.workload import Workload
from raysweep.workloads.registry import unknown_name

FLUSH_OUTCOMES, FLUSH_S = 500, 0.5
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Result:
    """How a launch ended: `asked` = done + failed + left cells, `ran` of them completed by this launch."""

    asked: int
    done: int
    ran: int
    failed: int
    left: int
    exhausted: int  # of the failed: not tried, as their attempts were used up before
    changed: int  # of the done: by code that has changed since, and not run again
    seconds: float
    stopped: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: all requested cells are done; 130: interrupted; 1: otherwise."""
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
    """Run the cells of one or several sweeps that are not done; returns when all are done or failed.

    Args:
        sweeps: from `Sweep.load`.
        store: a folder or an address.
        where: an SQL predicate over key and config columns and status.
        inline: in this process instead of on Ray.
        address: of a running Ray cluster; None starts Ray on this machine.
        device: "auto": cells get the GPUs that they request; "cpu": none; "cuda": at least one.
        progress: called several times a second.

    Raises:
        InputError: a sweep, the predicate or the store's path is wrong.
        StoreBusy: another launch owns the store.
    """
    opened = store if isinstance(store, Store) else Store(store)
    request = from_sweeps([sweeps] if isinstance(sweeps, Sweep) else sweeps, opened, where)
    executor = "inline" if inline else "ray"
    options = Options(where=where, executor=executor, address=address, device=device, command="launch()")
    return Launch(request, opened, options).run(progress)


class Launch:
    """One launch, from the request to its result.

    `on_wait` is called with a description of the store's owner if the launch waits for it (`Options.wait`).
    """

    def __init__(
        self, request: Request, store: Store, options: Options, on_wait: Callable[[str], None] = lambda owner: None
    ) -> None:
        self.request, self.store, self.options, self._on_wait = request, store, options, on_wait
        self._table = on_device(request.table, options.device)
        self._summary: pl.DataFrame | None = None  # that the plan is based on
        self._plan: Plan | None = None

    def plan(self) -> Plan:
        """The plan, once nobody owns the store: until then another launch may be running the same cells.

        Raises:
            StoreBusy: another launch owns the store, and the options are not to wait.
        """
        if self.store.exists():
            wait_till_free(self.store.storage, self.options.wait, self._on_wait)
        return self.current_plan()

    def current_plan(self) -> Plan:
        """The plan, whoever owns the store; computed anew only if the store's rows have changed since the last time."""
        summary = self.store.summary()
        if self._plan is None or summary is not self._summary:  # the store gives one object while its rows are the same
            changes = {"resume": self.options.resume, "rerun_changed": self.options.rerun_changed}
            self._plan, self._summary = plan(self._table, summary, self.store.times, **changes), summary
        return self._plan

    def run(
        self,
        report: Callable[[Progress], None] | None = None,
        announce: Callable[[Plan, Executor], None] | None = None,
    ) -> Result:
        """Take the store, drive the cells, record and commit their outcomes.

        Args:
            report: called several times a second.
            announce: called once before anything runs; not called if nothing does.
        """
        began = time.monotonic()
        request, store, options = self.request, self.store, self.options
        if options.executor == "ray" and options.address is not None:
            from raysweep.orchestrator.executors.ray.executor import check_address

            check_address(options.address)  # before the store is taken
        with contextlib.ExitStack() as opened, contextlib.ExitStack() as begun:
            executor = None
            planned = self.plan()
            if planned.to_run:  # what cannot run is refused before the store is taken
                refuse_lacking(planned, request, options)
                begun.enter_context(starting(store.storage.location, options.command))
                executor = open_executor(request, options)
                opened.callback(executor.close)
                refuse_unfit(planned, executor)
            writer = opened.enter_context(StoreWriter(store, options.command, wait=options.wait))
            begun.close()
            for sweep in () if request.recorded else request.sweeps:
                if (entry := sweep_record(sweep, self._table, options.where)) is not None:
                    writer.record_sweep(*entry)
            planned = self.current_plan()  # another launch may have owned the store since, or left half a commit
            warnings = list(request.warnings)
            if not planned.to_run:
                return _result(planned, None, began, warnings)
            if executor is None:  # cells that were done a moment ago were deleted by hand
                executor = open_executor(request, options)
            opened.callback(executor.close)  # again, if need be: before the store is released
            if announce is not None:
                announce(planned, executor)
            # The folder where each module was found: another sweep's folder may have a module of the same name.
            search: dict[str, tuple[str, ...]] = {
                name: (w.folder,) if w.folder else () for name, w in request.workloads.items()
            }
            hours, minutes = options.max_hours, options.node_wait
            limits = Limits(options.max_failures, hours and hours * 3600, options.max_alike, minutes and minutes * 60)
            driver = Driver(planned, executor, search, limits, writer.checkpoint_home())
            writer.running = driver.running
            with _interruptible(driver, executor):
                _commit_all(driver, writer, planned, request.workloads, report)
            writer.compactor.end()
            if writer.compactor.problem is not None:
                warnings.append(f"small segments were not merged: {writer.compactor.problem}")
            return _result(planned, driver.progress, began, warnings)


def on_device(table: CellTable, device: str) -> CellTable:
    """The cells with the GPUs that they get: as requested (`auto`), none (`cpu`), at least one (`cuda`)."""
    if device not in DEVICES:
        hint = "--device gpu: is spelt --device cuda"
        raise InputError(hint if device == "gpu" else f"--device: {unknown_name('device', device, DEVICES)}")
    gpus = {"auto": pl.col("gpus"), "cpu": pl.lit(0.0), "cuda": pl.col("gpus").replace(0.0, 1.0)}[device]
    return replace(table, variants=table.variants.with_columns(gpus=gpus))


def _commit_all(
    driver: Driver,
    writer: StoreWriter,
    planned: Plan,
    workloads: Mapping[str, Workload],
    report: Callable[[Progress], None] | None,
) -> None:
    """Run the cells; commit outcomes whenever `FLUSH_OUTCOMES` wait or the last commit was `FLUSH_S` ago."""
    replacing = frozenset(planned.frame.filter((pl.col("state") == "changed") & pl.col("run"))["cell_id"])
    commits, paths = commits_of(workloads), {w.source_digest: w.source_path for w in workloads.values()}
    waiting: list[CompletedAttempt] = []
    last = time.monotonic()

    def flush() -> None:
        nonlocal waiting, last
        with held_off():  # an interrupt between a commit and the clearing of its rows would commit them twice
            if waiting:
                records = record(waiting, planned.frame, planned.table.variants, writer.epoch, commits, paths)
                writer.append(records, replacing)
                driver.progress.done -= records.refused
                driver.progress.failed += records.refused
            waiting, last = [], time.monotonic()

    try:
        for completed in driver.run():
            waiting.extend(completed)
            if len(waiting) >= FLUSH_OUTCOMES or (waiting and time.monotonic() - last >= FLUSH_S):
                flush()
            if report is not None:
                report(driver.progress)
    except (Fenced, StoreWriteFailed):
        raise  # the store refused; the waiting outcomes cannot be committed
    except BaseException:
        flush()
        raise
    flush()


def open_executor(request: Request, options: Options) -> Executor:
    """The executor that the options name."""
    module, _, name = EXECUTORS[options.executor].partition(":")
    kind = getattr(importlib.import_module(module), name)
    executor: Executor = kind() if options.executor == "inline" else kind(options.address, request.own_files)
    return executor


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


def _interruptible(driver: Driver, executor: Executor) -> AbstractContextManager[None]:
    """End the launch cleanly at the first Ctrl-C or SIGTERM inside the block, and at once at the second."""

    def stop(signum: int, frame: Any) -> None:
        if driver.stop_requested:
            raise KeyboardInterrupt
        driver.stop_requested = True
        executor.interrupt()

    return signals_handled(stop)
