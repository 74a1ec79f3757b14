"""Preflight: checks that the cells' requirements are met, before the launch takes ownership of the store."""

from __future__ import annotations

from collections.abc import Mapping

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.executors.executor import Executor
from raysweep.orchestrator.executors.resources import demands, unmet
from raysweep.orchestrator.launch.request import Options, Request
from raysweep.orchestrator.schedule.plan import Plan
from raysweep.orchestrator.sweep.workload import Workload
from raysweep.orchestrator.text import count_cells, message_of

_MAX_LINES = 5


def lacking(plan: Plan, workloads: Mapping[str, Workload]) -> list[str]:
    """List the requirements of the cells to run that this machine does not meet, one per line."""
    running = plan.frame.filter("run").group_by("variant").len("cells").sort("variant")
    counts: dict[str, int] = {}
    variants = plan.table.variants.select("variant", "workload", "config")
    for name, config, cells in running.join(variants, on="variant").select("workload", "config", "cells").iter_rows():
        workload = workloads[name]
        if workload.lacks is None:
            continue
        try:
            model = workload.revive(config)
        except ValueError:  # recorded before `Config` changed; the cell will fail with this error
            continue
        try:
            requirement = workload.lacks(model)
        except Exception as error:
            requirement = f"{workload.source_path}: lacks() raised {type(error).__name__}: {message_of(error)}"
        if requirement:
            counts[requirement] = counts.get(requirement, 0) + cells
    lines = [f"{requirement} ({count_cells(count)})" for requirement, count in counts.items()]
    return lines if len(lines) <= _MAX_LINES else [*lines[:_MAX_LINES], f"and {len(lines) - _MAX_LINES:,} more"]


def refuse_lacking(plan: Plan, request: Request, options: Options) -> None:
    """Raise InputError if cells would run on this machine and it lacks a requirement. Clusters are not checked."""
    if options.executor == "inline" or options.address is None:
        problems = lacking(plan, request.workloads)
        if problems:
            raise InputError(problems)


def refuse_unfit(plan: Plan, executor: Executor) -> None:
    """Raise InputError if no node can run some of the cells, since they would wait forever."""
    problems = []
    for size, count in demands(plan.frame.filter("run"), plan.table.variants):
        reason = executor.fits(*size)
        if reason is not None:
            problems.append(unmet(size, count, reason, ["use --address with a larger cluster"]))
    if problems:
        raise InputError(problems)
