"""A launch from its request to its result. The command line and the Python API both call it."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from raysweep.orchestrator.errors import Fenced, InputError, StoreWriteFailed
from raysweep.orchestrator.executors import EXECUTORS
from raysweep.orchestrator.executors.executor import Executor
from raysweep.orchestrator.launch.announce import starting
from raysweep.orchestrator.launch.interrupts import hard_end, interruptible
from raysweep.orchestrator.launch.needed import NeededFiles
from raysweep.orchestrator.launch.preflight import refuse_lacking, refuse_larger_than_machine, refuse_unfit
from raysweep.orchestrator.launch.provenance import commits_of
from raysweep.orchestrator.launch.record import record, sweep_record
from raysweep.orchestrator.launch.recovered import recovered
from raysweep.orchestrator.launch.request import Options, Request, from_sweeps
from raysweep.orchestrator.process import held_off
from raysweep.orchestrator.run.messages import CompletedAttempt
from raysweep.orchestrator.schedule.driver import Driver
from raysweep.orchestrator.schedule.limits import Limits
from raysweep.orchestrator.schedule.plan import Plan, plan
from raysweep.orchestrator.schedule.progress import Progress
from raysweep.orchestrator.store.control import Control
from raysweep.orchestrator.store.lease import wait_till_free
from raysweep.orchestrator.store.reader import DEFAULT, Store
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.orchestrator.sweep.from_function import function_sweep
from raysweep.orchestrator.sweep.grammar.resources import without_accelerator
from raysweep.orchestrator.sweep.main_module import MAIN
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.sweep.workload import Workload
from raysweep.orchestrator.text import count_cells, short_repr
from raysweep.orchestrator.waits import waiting
from raysweep.workloads.registry import unknown_name

FLUSH_OUTCOMES, FLUSH_S = 500, 0.5
FLUSH_BYTES = 32 * 2**20
"""Bytes of arrays that are committed at once: they are in memory several times while they are encoded."""
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Result:
    """The result of a launch: `asked` = done + failed + left cells. `ran` cells were run by this launch."""

    asked: int
    done: int
    ran: int
    failed: int
    left: int
    exhausted: int  # failed cells that were not tried, since their attempts were used up before
    changed: int  # done cells whose code has changed since, and that were not run again
    seconds: float
    stopped: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """Exit code: 0 if all requested cells are done, 130 if the launch was interrupted, otherwise 1."""
        if self.stopped == "interrupted":
            return 130
        return 0 if self.done == self.asked else 1


def launch(
    sweeps: Sweep | Sequence[Sweep] | Callable[..., Any],
    store: str | Path | Store = DEFAULT,
    *,
    grid: Mapping[str, Any] | None = None,
    seeds: Iterable[int] | str | None = None,
    name: str | None = None,
    resources: Mapping[str, float] | None = None,
    where: str | None = None,
    inline: bool = False,
    address: str | None = None,
    device: str = "auto",
    resume: bool = False,
    rerun_changed: bool = False,
    max_parallel: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Result:
    """Run the cells of one or several sweeps that are not done. Returns when all are done or failed.

    Args:
        sweeps: one or several sweeps, as `Sweep.load` returns them; or a workload's function.
        grid: for a function: setting -> its value, or a list of values to try; `method` is the function's name unless
            it is given.
        seeds: for a function: its seeds, by default only 0.
        name: for a function: the sweep's name, by default the function's.
        resources: for a function: keys of `[resources]`, such as `timeout_s`.
        store: a folder or an address.
        where: an SQL predicate over key columns, config columns and status.
        inline: run in this process instead of on Ray.
        address: a running Ray cluster; None starts Ray on this machine.
        device: "auto": cells get the GPUs that they request; "cpu": none; "cuda": at least one.
        resume: grant new attempts to cells that have used up theirs.
        rerun_changed: also run done cells whose code has changed since.
        max_parallel: run at most this many cells at once; None: as many as the machines have room for.
        progress: called with the progress several times a second.

    Raises:
        InputError: a sweep, the predicate or the store's path is invalid.
        StoreBusy: another launch owns the store.
    """
    opened = store if isinstance(store, Store) else Store(store)
    if callable(sweeps):
        sweeps = function_sweep(sweeps, grid or {}, [0] if seeds is None else seeds, name, resources)
    elif any(option is not None for option in (grid, seeds, name, resources)):
        raise InputError("grid, seeds, name and resources are for a function; a sweep has its own")
    if max_parallel is not None and (not isinstance(max_parallel, int) or max_parallel < 1):
        raise InputError(f"max_parallel: {short_repr(max_parallel)} is not an integer of 1 or more")
    request = from_sweeps([sweeps] if isinstance(sweeps, Sweep) else sweeps, opened, where)
    executor = "inline" if inline else "ray"
    options = Options(
        where=where, executor=executor, address=address, device=device, resume=resume, rerun_changed=rerun_changed,
        max_parallel=max_parallel, command="launch()",
    )  # fmt: skip
    return Launch(request, opened, options).run(progress)


class Launch:
    """One launch, from its request to its result.

    If `Options.wait` is set and another launch owns the store, `on_wait` is called with a description of that owner.
    """

    def __init__(
        self, request: Request, store: Store, options: Options, on_wait: Callable[[str], None] = lambda owner: None
    ) -> None:
        self.request, self.store, self.options, self._on_wait = request, store, options, on_wait
        self._table = on_device(request.table, options.device)
        self._summary: pl.DataFrame | None = None  # the summary that the plan is based on
        self._plan: Plan | None = None
        self._possible: Plan | None = None  # the plan whose cells this machine can run, as far as it was checked

    def plan(self) -> Plan:
        """Plan the launch once no other launch owns the store, since that one may be running the same cells.

        Raises:
            InputError: cells to run lack something on this machine, or need more than it has.
            StoreBusy: another launch owns the store, and `Options.wait` is false.
        """
        if self.store.exists():
            wait_till_free(self.store.storage, self.options.wait, self._on_wait)
        planned = self.current_plan()
        if planned is not self._possible:
            refuse_lacking(planned, self.request, self.options)
            refuse_larger_than_machine(planned, self.options)
            self._possible = planned
        return planned

    def current_plan(self) -> Plan:
        """Plan the launch even if another one owns the store. Recomputed only if the store's rows have changed."""
        summary = self.store.summary()
        if self._plan is None or summary is not self._summary:  # the store returns one object until its rows change
            changes = {"resume": self.options.resume, "rerun_changed": self.options.rerun_changed}
            self._plan, self._summary = plan(self._table, summary, self.store.times, **changes), summary
        return self._plan

    def run(
        self,
        report: Callable[[Progress], None] | None = None,
        announce: Callable[[Plan, Executor], None] | None = None,
    ) -> Result:
        """Take ownership of the store, run the cells, and commit their outcomes.

        Args:
            report: called with the progress several times a second.
            announce: called once before the first cell runs; not called if no cell is to run.
        """
        began = time.monotonic()
        request, store, options = self.request, self.store, self.options
        if options.executor == "ray" and options.address is not None:
            from raysweep.orchestrator.executors.ray.connection import check_address

            check_address(options.address)  # before the store is taken
        with contextlib.ExitStack() as begun, contextlib.ExitStack() as opened:
            executor = None
            planned = self.plan()
            if planned.to_run:
                begun.enter_context(starting(store.storage.location, options.command))
                executor = open_executor(request, options)
                opened.callback(executor.close)
                refuse_unfit(planned, executor)
            writer = opened.enter_context(StoreWriter(store, options.command, wait=options.wait))
            begun.close()
            for sweep in () if request.recorded else request.sweeps:
                if (entry := sweep_record(sweep, self._table, options.where)) is not None:
                    writer.record_sweep(*entry)
            planned = self.current_plan()  # another launch may have changed the store since
            warnings = list(request.warnings)
            if not planned.to_run:
                return _result(planned, None, began, warnings)
            if executor is None:  # only if done cells were deleted since the first plan
                executor = open_executor(request, options)
            opened.callback(executor.close)  # after the writer's: closed before the store is released
            if announce is not None:
                announce(planned, executor)
            # Only the folder where the module was found: another sweep's may have a module of the same name.
            search: dict[str, tuple[str, ...]] = {
                name: (w.folder,) if w.folder else () for name, w in request.workloads.items()
            }
            hours, minutes = options.max_hours, options.node_wait
            limits = Limits(
                options.max_failures, hours and hours * 3600, options.max_alike, minutes and minutes * 60,
                options.max_parallel,
            )  # fmt: skip
            outputs = {sweep.name: sweep.outputs for sweep in request.sweeps}
            files = NeededFiles(store, writer.epoch, planned.needed)
            driver = Driver(
                planned, executor, search, limits, writer.checkpoint_home(), request.workloads, outputs,
                lambda state: writer.publish(*state), Control(store.storage, writer.epoch).look, files.of,
            )  # fmt: skip
            writer.running = driver.running
            hard = hard_end(writer, exits=options.exits)
            begun.callback(hard.cancel)  # after all others
            with interruptible(driver, executor, writer, hard):
                _commit_all(driver, writer, planned, request.workloads, files, report)
            with waiting(f"a merge in store {store.storage}"):
                writer.compactor.end()
            if writer.compactor.problem is not None:
                warnings.append(f"small segments were not merged: {writer.compactor.problem}")
            return _result(planned, driver.progress, began, warnings)


def on_device(table: CellTable, device: str) -> CellTable:
    """Set the GPUs per cell as --device says: unchanged (`auto`), 0 (`cpu`), or at least 1 (`cuda`)."""
    if device not in DEVICES:
        hint = "--device gpu: unknown device; use --device cuda"
        raise InputError(hint if device == "gpu" else f"--device: {unknown_name('device', device, DEVICES)}")
    gpus = {"auto": pl.col("gpus"), "cpu": pl.lit(0.0), "cuda": pl.col("gpus").replace(0.0, 1.0)}[device]
    variants = table.variants.with_columns(gpus=gpus)
    if device == "cpu":
        custom = pl.Series("custom", map(without_accelerator, variants["custom"]), pl.String)
        variants = variants.with_columns(custom)
    return replace(table, variants=variants)


def _commit_all(
    driver: Driver,
    writer: StoreWriter,
    planned: Plan,
    workloads: Mapping[str, Workload],
    files: NeededFiles,
    report: Callable[[Progress], None] | None,
) -> None:
    """Run the cells; commit outcomes when enough are waiting (see `_parts`), or `FLUSH_S` after the last commit."""
    replacing = frozenset(planned.frame.filter((pl.col("state") == "changed") & pl.col("run"))["cell_id"])
    commits, paths = commits_of(workloads), {w.source_digest: w.source_path for w in workloads.values()}
    uncommitted: list[CompletedAttempt] = []
    last, size = time.monotonic(), 0  # size: bytes of the arrays of `uncommitted`

    def flush() -> None:
        nonlocal last, size
        for part in _parts(uncommitted):
            with held_off():  # an interrupt after the commit and before its rows are removed would commit twice
                whole = [recovered(attempt, writer.storage, driver.attempts.ids) for attempt in part]
                records = record(whole, planned.frame, planned.table.variants, writer.epoch, commits, paths)
                writer.append(records, replacing)
                driver.progress.done -= records.refused
                driver.progress.failed += records.refused
                files.add(whole, driver.attempts.ids)
                driver.committed([a.outcome.row for a in whole if a.outcome.status == "done"])
                del uncommitted[: len(part)]
        last, size = time.monotonic(), 0

    try:
        for completed in driver.run():
            if writer.is_fenced:
                raise writer.fenced()
            uncommitted += completed
            size += sum(map(_size, completed))
            completed.clear()  # the driver's list, which would hold the arrays until it has the next outcomes
            enough = len(uncommitted) >= FLUSH_OUTCOMES or size >= FLUSH_BYTES or driver.awaits_commit
            if enough or (uncommitted and time.monotonic() - last >= FLUSH_S):
                flush()
            if report is not None:
                driver.progress.uncommitted = sum(attempt.outcome.status == "done" for attempt in uncommitted)
                report(driver.progress)
    except (Fenced, StoreWriteFailed):
        raise  # the store refuses to take the uncommitted outcomes
    except BaseException:
        flush()
        raise
    flush()
    if report is not None:
        driver.progress.uncommitted = 0
        report(driver.progress)


def _size(completed: CompletedAttempt) -> int:
    """Bytes of the arrays."""
    return sum(array.values.nbytes for array in completed.outcome.arrays)


def _parts(uncommitted: Sequence[CompletedAttempt]) -> Iterator[list[CompletedAttempt]]:
    """Split outcomes, in order, into parts of at most `FLUSH_OUTCOMES`, and `FLUSH_BYTES` or one outcome.

    The caller removes each part from the front of `uncommitted` before it takes the next.
    """
    while uncommitted:
        count, size = 0, 0
        while count < min(len(uncommitted), FLUSH_OUTCOMES) and (
            not count or size + _size(uncommitted[count]) <= FLUSH_BYTES
        ):
            size += _size(uncommitted[count])
            count += 1
        yield list(uncommitted[:count])


def open_executor(request: Request, options: Options) -> Executor:
    """Open the executor that the options select: inline, or on Ray."""
    module, _, name = EXECUTORS[options.executor].partition(":")
    kind = getattr(importlib.import_module(module), name)
    if options.executor == "inline":
        executor: Executor = kind(request.workloads)
    else:
        by_value = {name: workload for name, workload in request.workloads.items() if workload.module == MAIN}
        executor = kind(options.address, request.own_files, by_value=by_value)
    return executor


def _of_cancelled(progress: Progress | None) -> list[str]:
    if progress is None or not progress.cancelled:
        return []
    verb = "was" if progress.cancelled == 1 else "were"
    return [f"{count_cells(progress.cancelled)} {verb} cancelled by raysweep cancel; the next launch runs them"]


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
        warnings=(*warnings, *(progress.notes if progress else ()), *_of_cancelled(progress)),
    )
