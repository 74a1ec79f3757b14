"""Preflight: checks that the cells' requirements are met, before the launch takes ownership of the store."""

from __future__ import annotations

import itertools
import json
import operator
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.executors.executor import Executor
from raysweep.orchestrator.executors.machine import this_machine
from raysweep.orchestrator.executors.resources import demands, offer, slots_of, unmet
from raysweep.orchestrator.launch.request import Options, Request
from raysweep.orchestrator.schedule.plan import Plan
from raysweep.orchestrator.sweep.grammar.resources import ACCELERATOR
from raysweep.orchestrator.sweep.loading.workload import Workload
from raysweep.orchestrator.sweep.programs.program import NEEDS
from raysweep.orchestrator.text import count_cells, message_of, printable_output

_MAX_LINES = 5
_LARGER = "use --address with a larger cluster"


@printable_output()
def lacking(plan: Plan, workloads: Mapping[str, Workload]) -> list[str]:
    """List the requirements of the cells to run that this machine does not meet, one per line."""
    running = plan.frame.filter("run").group_by("variant").len("cells").sort("variant")
    counts: dict[str, int] = {}
    variants = plan.table.variants.select("variant", "workload", "config")
    rows = running.join(variants, on="variant").select("workload", "config", "cells").iter_rows()
    for name, group in itertools.groupby(rows, key=operator.itemgetter(0)):
        workload = workloads[name]
        if workload.lacks is None:
            continue
        with workload.code.active():
            for _, config, cells in group:
                requirement = _requirement(workload, workload.lacks, config)
                if requirement:
                    counts[requirement] = counts.get(requirement, 0) + cells
    lines = [f"{requirement} ({count_cells(count)})" for requirement, count in counts.items()]
    return lines if len(lines) <= _MAX_LINES else [*lines[:_MAX_LINES], f"and {len(lines) - _MAX_LINES:,} more"]


def _requirement(workload: Workload, lacks: Callable[[Any], str | None], config: str) -> str | None:
    try:
        model = workload.revive(config)
    except ValueError:  # recorded before `Config` changed; the cell will fail with this error
        return None
    try:
        return lacks(model)
    except (Exception, SystemExit) as error:
        return f"{workload.source_path}: lacks() raised {type(error).__name__}: {message_of(error)}"


def first_commands(plan: Plan, workloads: Mapping[str, Workload]) -> dict[str, str]:
    """Map each workload that is a program to the command line of one of its cells.

    This is the program's first cell to run. If none is to run, it is the program's first cell.
    """
    lines = {}
    variants = plan.table.variants.with_row_index("row")
    cells = plan.frame.sort("run", descending=True, maintain_order=True)
    for name, program in ((name, w.program) for name, w in workloads.items() if w.program is not None):
        rows = variants.filter(pl.col("workload") == name)
        row = cells.filter(pl.col("variant").is_in(rows["variant"].implode())).head(1)
        if row.is_empty():
            continue
        cell = row.join(rows, on="variant").row(0, named=True)
        key = {part: cell[part] for part in ("method", "k", "seed", "cell_id")}
        needs = {name: [name.removeprefix(NEEDS)] for name in program.placeholders if name.startswith(NEEDS)}
        own = {"folder": "FOLDER", "checkpoint": "CHECKPOINT"}
        line = program.render({**key, **own, **needs}, json.loads(cell["config"]))
        lines[name] = str(line)
    return lines


def refuse_lacking(plan: Plan, request: Request, options: Options) -> None:
    """Raise InputError if cells would run on this machine and it lacks a requirement. Clusters are not checked."""
    if options.is_here:
        problems = lacking(plan, request.workloads)
        if problems:
            raise InputError(problems)


def refuse_larger_than_machine(plan: Plan, options: Options) -> None:
    """Raise InputError if a cell to run on this machine is too large for it.

    CPUs, memory and custom resources are checked.
    """
    if options.executor == "inline" or not options.is_here:
        return
    machine = this_machine()
    sizes = demands(plan.frame.filter("run"), plan.table.variants)
    problems = []
    for size, count in sizes:
        custom = [name for name in size.customs if not name.startswith(ACCELERATOR)]  # Ray finds out about its GPUs
        if custom or not slots_of(machine, size, unstated=True):
            none = f"a Ray that is started here has no {' or '.join(custom)}"
            problems.append(unmet(size, count, none if custom else f"this machine has {offer(machine)}", [_LARGER]))
    if problems:
        raise InputError(problems)


def refuse_unfit(plan: Plan, executor: Executor) -> None:
    """Raise InputError if some of the cells fit no node. They would wait forever."""
    problems = []
    for size, count in demands(plan.frame.filter("run"), plan.table.variants):
        reason = executor.fits(*size)
        if reason is not None:
            problems.append(unmet(size, count, reason, [_LARGER]))
    if problems:
        raise InputError(problems)
