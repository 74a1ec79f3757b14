"""A launch from its request to its result. The command line and the Python API both call it."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from raysweep.orchestrator.errors import Fenced, InputError, StoreWriteFailed
from raysweep.orchestrator.executors import EXECUTORS
from raysweep.orchestrator.executors.executor import Executor
from raysweep.orchestrator.launch.announce import starting
from raysweep.orchestrator.launch.display import shown
from raysweep.orchestrator.launch.interrupts import hard_end, interruptible
from raysweep.orchestrator.launch.needed import NeededFiles
from raysweep.orchestrator.launch.preflight import refuse_lacking, refuse_larger_than_machine, refuse_unfit
from raysweep.orchestrator.launch.provenance import commits_of
from raysweep.orchestrator.launch.record import record, sweep_record
from raysweep.orchestrator.launch.recovered import recovered
from raysweep.orchestrator.launch.request import Options, Request, from_sweeps
from raysweep.orchestrator.launch.result import Result, result_of, result_of_rounds
from raysweep.orchestrator.launch.rounds import Round, rounds_of
from raysweep.orchestrator.launch.staleness import CodeChanges, changed_elsewhere, code_changes, held_back
from raysweep.orchestrator.process import held_off
from raysweep.orchestrator.run.messages import CompletedAttempt
from raysweep.orchestrator.schedule.driver import Driver
from raysweep.orchestrator.schedule.edges import has_needs
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
from raysweep.orchestrator.sweep.loading.main_module import MAIN
from raysweep.orchestrator.sweep.loading.main_program import refuse_launch
from raysweep.orchestrator.sweep.loading.recorded import source_of
from raysweep.orchestrator.sweep.loading.workload import Workload
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.text import short_repr
from raysweep.orchestrator.waits import waiting
from raysweep.workloads.registry import unknown_name

FLUSH_OUTCOMES, FLUSH_S = 2_000, 0.5
FLUSH_BYTES = 32 * 2**20
"""Maximum bytes of arrays per commit. While arrays are encoded, memory holds them several times."""
DEVICES = ("auto", "cpu", "cuda")


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
    until: str | None = None,
    max_cells: int | None = None,
    max_cpu_hours: float | None = None,
    max_gpu_hours: float | None = None,
    progress: Callable[[Progress], None] | bool | None = None,
) -> Result:
    """Run all cells of one or several sweeps, except done ones. Returns when every cell is done or failed.

    Args:
        sweeps: one or several sweeps, as `Sweep.load` returns them; or a workload's function.
        grid: for a function: setting -> its value, or a list of values to try; `method` is the function's name unless
            it is given.
        seeds: for a function: its seeds, by default only 0.
        name: for a function: the sweep's name, by default the function's.
        resources: for a function: keys of `[resources]`, such as `timeout_s`.
        store: a folder or an address.
        where: an SQL predicate over key columns, config columns and status.
        inline: run in this process, one cell after another.
        address: a running Ray cluster, or "local" to start Ray on this machine. None: processes on this machine, or
            a Ray that is started here if cells request GPUs.
        device: "auto": cells get the GPUs that they request; "cpu": none; "cuda": at least one.
        resume: grant new attempts to cells that have used up theirs.
        rerun_changed: also run done cells whose code has changed since.
        max_parallel: maximum number of cells that run at once; None: as many as the machines have room for.
        until: "decided": add seeds in rounds until the sweeps' questions are decided, or a limit is reached; the
            result then has `verdicts`.
        max_cells: limit on the number of cells of the questions, including cells of earlier launches.
        max_cpu_hours: limit on the CPU-hours of all attempts of these cells.
        max_gpu_hours: limit on the GPU-hours of all attempts of these cells.
        progress: a function that is called with the progress several times a second. True shows the progress, False
            does not; None shows it only in a notebook.

    Raises:
        InputError: an argument or a sweep is invalid, or no machine can run some of the cells.
        StoreBusy: another launch owns the store.
    """
    refuse_launch()
    opened = store if isinstance(store, Store) else Store(store)
    if callable(sweeps):
        sweeps = function_sweep(sweeps, grid or {}, [0] if seeds is None else seeds, name, resources)
    elif any(option is not None for option in (grid, seeds, name, resources)):
        raise InputError("grid, seeds, name and resources are for a function; a sweep has its own")
    if max_parallel is not None and (not isinstance(max_parallel, int) or max_parallel < 1):
        raise InputError(f"max_parallel: {short_repr(max_parallel)} is not an integer of 1 or more")
    request = from_sweeps([sweeps] if isinstance(sweeps, Sweep) else sweeps, opened, where)
    executor = "inline" if inline else None
    options = Options(
        where=where, executor=executor, address=address, device=device, resume=resume, rerun_changed=rerun_changed,
        max_parallel=max_parallel,
        command="launch()", until=until, max_cells=max_cells, max_cpu_hours=max_cpu_hours, max_gpu_hours=max_gpu_hours,
    )  # fmt: skip
    with shown(progress) as (report, end):
        result = Launch(request, opened, options).run(report)
        changed = f"{result.changed:,} of the done cells ran different code: rerun_changed=True runs them again"
        end(f"{result.summary}; {changed}" if result.changed else result.summary)
    return result


class Launch:
    """One launch, from its request to its result.

    If `Options.wait` is set and another launch owns the store, `on_wait` is called with a description of that owner.
    """

    def __init__(
        self, request: Request, store: Store, options: Options, on_wait: Callable[[str], None] = lambda owner: None
    ) -> None:
        self.request, self.store, self.options, self._on_wait = request, store, options, on_wait
        self._rounds = rounds_of(request, store, options)
        self._table = on_device(request.table, options.device)
        self._slots = 1  # cells that run at once, once the executor is open
        self._resume = options.resume  # of the first round only
        self._ran: set[str] = set()  # cells of earlier rounds
        self._summary: pl.DataFrame | None = None  # the summary that the plan is based on
        self._plan: Plan | None = None
        self._changes = CodeChanges()
        self._possible: Plan | None = None  # the plan whose cells this machine can run, as far as it was checked

    def plan(self) -> Plan:
        """Plan the launch once no other launch owns the store, since the other one may run the same cells.

        If `Options.wait` is set, wait until the other launch ends.

        Raises:
            InputError: this machine lacks something that cells to run need, or is too small for them.
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
        """Plan the launch even if another one owns the store. The plan is cached until the store's rows change."""
        summary = self.store.summary()
        if self._plan is None or summary is not self._summary:  # the store returns one object until its rows change
            if self._rounds is not None:
                self._table = on_device(self._rounds.table(self._slots), self.options.device)
            changes = {"resume": self._resume, "rerun_changed": self.options.rerun_changed}
            same = self.code_changes(summary).same
            stale = changed_elsewhere(self.request.every, self._table, summary, same)
            self._plan = plan(self._table, summary, self.store.times, same=same, stale=stale, **changes)
            self._summary = summary
        return self._plan

    def code_changes(self, summary: pl.DataFrame | None = None) -> CodeChanges:
        """Compare the recorded source of the requested cells with their present code."""
        summary = self.store.summary() if summary is None else summary
        table = self.request.every if has_needs(self._table) else self._table
        self._changes = code_changes(self.store, self.request.workloads, table, summary, self._changes)
        return self._changes

    def run(
        self,
        report: Callable[[Progress], None] | None = None,
        announce: Callable[[Plan, Executor], None] | None = None,
        on_round: Callable[[Round], None] = lambda now: None,
    ) -> Result:
        """Take ownership of the store, run the cells, and commit their outcomes.

        Args:
            report: called with the progress several times a second.
            announce: called once before the first cell runs; not called if no cell is to run.
            on_round: called before each round, and after the last round with a round of 0 cells. Without `until`, a
                launch has one round.

        Raises:
            InputError: some of the cells cannot run.
            StoreBusy, Fenced: another launch owns the store, or took it over.
        """
        began = time.monotonic()
        request, store, options = self.request, self.store, self.options
        if not options.is_here:
            from raysweep.orchestrator.executors.ray.connection import check_address

            check_address(str(options.address))  # before the store is taken
        with contextlib.ExitStack() as begun, contextlib.ExitStack() as opened:
            executor = None
            planned = self.plan()
            if planned.to_run:
                begun.enter_context(starting(store.storage.location, options.command))
                executor = open_executor(request, options, planned)
                opened.callback(executor.close)
                refuse_unfit(planned, executor)
            writer = opened.enter_context(StoreWriter(store, options.command, wait=options.wait))
            begun.close()
            if self._rounds is None:
                self._record(writer, self._table)
            for workload in request.workloads.values():
                writer.record_source(workload.source_digest, source_of(workload))
            planned = self.current_plan()  # another launch may have changed the store since
            if self._rounds is not None:
                self._record(writer, planned.table)
            warnings = list(request.warnings)
            if planned.held:
                warnings.append(held_back(planned))
            if not planned.to_run:
                return self._result(planned, None, began, warnings)
            if executor is None:  # only if done cells were deleted since the first plan
                executor = open_executor(request, options, planned)
            opened.callback(executor.close)  # after the writer's: closed before the store is released
            if announce is not None:
                announce(planned, executor)
            # Only the folder where the module was found: another sweep's may have a module of the same name.
            search: dict[str, tuple[str, ...]] = {
                name: (w.folder,) if w.folder else () for name, w in request.workloads.items()
            }
            outputs = {sweep.name: sweep.outputs for sweep in request.sweeps}
            files = NeededFiles(store, writer.epoch, planned.needed)
            driver = Driver(
                planned, executor, search, self._limits(), writer.checkpoint_home(), request.workloads, outputs,
                lambda state: writer.publish(*state), Control(store.storage, writer.epoch).look, files.of,
            )  # fmt: skip
            writer.running = driver.running
            hard = hard_end(writer, exits=options.exits)
            begun.callback(hard.cancel)  # after all others
            with interruptible(driver, executor, writer, hard):
                for number in itertools.count(1):
                    on_round(Round(number, planned.to_run, self._news()))
                    _commit_all(driver, writer, planned, request.workloads, files, report)
                    following = self._next_round(planned, executor)
                    if driver.progress.stopped is not None or not following.to_run:
                        break
                    self._record(writer, following.table, without=planned.table)
                    planned = following
                    files.expect(planned.needed)
                    driver.add(planned)
                on_round(Round(number + 1, 0, self._news()))
            with waiting(f"a merge in store {store.storage}"):
                writer.compactor.end()
            if writer.compactor.problem is not None:
                warnings.append(f"small segments were not merged: {writer.compactor.problem}")
            return self._result(planned, driver.progress, began, warnings)

    def _record(self, writer: StoreWriter, table: CellTable, without: CellTable | None = None) -> None:
        """Record the sweeps with their requested cells, before these run. Cells in `without` are left out."""
        if without is not None:
            table = replace(table, cells=table.cells.join(without.cells, on="cell_id", how="anti"))
        for sweep in () if self.request.recorded else self.request.sweeps:
            if (entry := sweep_record(sweep, table, self.options.where)) is not None:
                writer.record_sweep(*entry)

    def _limits(self) -> Limits:
        options = self.options
        hours, minutes = options.max_hours, options.node_wait
        left: list[float | None] = [None, None]
        if self._rounds is not None:
            limits = (options.max_cpu_hours, options.max_gpu_hours)
            left = [h and 3600 * h - spent for h, spent in zip(limits, self._rounds.spent(), strict=True)]
        return Limits(
            options.max_failures, hours and hours * 3600, options.max_alike, minutes and minutes * 60,
            options.max_parallel, *left,
        )  # fmt: skip

    def _news(self) -> tuple[str, ...]:
        return () if self._rounds is None else self._rounds.news()

    def _next_round(self, planned: Plan, executor: Executor) -> Plan:
        """Plan the round after `planned`. It is empty if all questions are decided, or no more cells can be run."""
        if self._rounds is None:
            return replace(planned, frame=planned.frame.with_columns(run=pl.lit(value=False)))
        ran = planned.frame.filter("run").join(planned.table.variants, on="variant")
        self._ran.update(ran["cell_id"])
        self._rounds.ran(ran["cell_id"].to_list())
        sizes = ran.select("cpus", "gpus", "memory_gib", "custom").unique().iter_rows()
        self._slots = max(1, min(executor.slots(*size) for size in sizes))
        self._plan, self._resume = None, False
        following = self.current_plan()
        is_new = ~pl.col("cell_id").is_in(list(self._ran))  # the driver has retried the others as often as is allowed
        return replace(following, frame=following.frame.with_columns(run=pl.col("run") & is_new))

    def _result(self, planned: Plan, progress: Progress | None, began: float, warnings: list[str]) -> Result:
        if self._rounds is None:
            return result_of(planned, progress, began, warnings, self.store)
        summary = self.store.summary()
        ended = plan(planned.table, summary, same=self.code_changes(summary).same)
        counted = result_of_rounds(ended, progress, began, warnings, self.store)
        return replace(
            counted, stopped=counted.stopped or self._rounds.ended(), verdicts=tuple(self._rounds.verdicts())
        )


def on_device(table: CellTable, device: str) -> CellTable:
    """Set the GPUs per cell as --device says: unchanged (`auto`), 0 (`cpu`), or at least 1 (`cuda`).

    Raises:
        InputError: `device` is none of these.
    """
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
    """Run the cells and commit their outcomes in batches.

    A batch is committed when `FLUSH_OUTCOMES` outcomes or `FLUSH_BYTES` bytes of arrays are waiting, or `FLUSH_S`
    seconds after the last commit.
    """
    replacing = frozenset(planned.frame.filter((pl.col("state") == "changed") & pl.col("run"))["cell_id"])
    commits, paths = commits_of(workloads), {w.source_digest: w.source_path for w in workloads.values()}
    uncommitted: list[CompletedAttempt] = []
    last, size = time.monotonic(), 0  # size: bytes of the arrays of `uncommitted`

    def flush() -> None:
        nonlocal last, size
        for part in _parts(uncommitted):
            with held_off():  # an interrupt after the commit and before its rows are removed would commit twice
                whole = [recovered(attempt, writer.storage, driver.attempts.ids) for attempt in part]
                for document in {attempt.worker.environment for attempt in whole if attempt.worker is not None}:
                    writer.record_environment(document)
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
    """Return the size in bytes of the arrays that an attempt recorded."""
    return sum(array.values.nbytes for array in completed.outcome.arrays)


def _parts(uncommitted: Sequence[CompletedAttempt]) -> Iterator[list[CompletedAttempt]]:
    """Split outcomes, in order, into parts of at most `FLUSH_OUTCOMES` outcomes and `FLUSH_BYTES` bytes of arrays.

    An outcome with larger arrays is a part by itself. The caller removes each part from the front of `uncommitted`
    before it asks for the next.
    """
    while uncommitted:
        count, size = 0, 0
        while count < min(len(uncommitted), FLUSH_OUTCOMES) and (
            not count or size + _size(uncommitted[count]) <= FLUSH_BYTES
        ):
            size += _size(uncommitted[count])
            count += 1
        yield list(uncommitted[:count])


def executor_of(options: Options, planned: Plan) -> str:
    """Return the name in `EXECUTORS` of the executor that runs a plan.

    Without an address, that is processes on this machine, or Ray if a cell requests a GPU: Ray assigns GPUs to cells.
    """
    if options.executor is not None:
        return options.executor
    variants = planned.table.variants.filter(
        pl.col("variant").is_in(planned.frame.filter("run")["variant"].unique().implode())
    )
    needs_ray = bool((variants["gpus"] > 0).any()) or bool(variants["custom"].is_not_null().any())
    return "ray" if options.address is not None or needs_ray else "processes"


def open_executor(request: Request, options: Options, planned: Plan) -> Executor:
    """Open the executor that runs the plan (see `executor_of`)."""
    chosen = executor_of(options, planned)
    module, _, name = EXECUTORS[chosen].partition(":")
    kind = getattr(importlib.import_module(module), name)
    if chosen == "inline":
        executor: Executor = kind(request.workloads)
    else:
        by_value = {name: workload for name, workload in request.workloads.items() if workload.module == MAIN}
        address = () if chosen == "processes" else (None if options.is_here else options.address,)
        executor = kind(*address, modules=request.own_files, by_value=by_value)
    return executor
