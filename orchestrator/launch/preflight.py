"""What this machine lacks of what cells need (`lacks` of their workloads): a data set, a program."""

from __future__ import annotations

from collections.abc import Mapping

from raysweep.orchestrator.cli.output import how_many
from raysweep.orchestrator.schedule.plan import Plan
from raysweep.orchestrator.sweep.workload import Workload
from raysweep.orchestrator.text import message_of

_SHOWN = 5


def lacking(planned: Plan, workloads: Mapping[str, Workload]) -> list[str]:
    """A line for each thing that cells which are to run would not find here.

    Args:
        planned: which cells.
        workloads: by name.
    """
    running = planned.frame.filter("run").group_by("variant").len("cells").sort("variant")
    found: dict[str, int] = {}
    shared = planned.table.variants.select("variant", "workload", "config")
    for name, config, cells in running.join(shared, on="variant").select("workload", "config", "cells").iter_rows():
        workload = workloads[name]
        if workload.lacks is None:
            continue
        try:
            asked = workload.revive(config)
        except ValueError:  # recorded before its Config changed: the cell will say so
            continue
        try:
            what = workload.lacks(asked)
        except Exception as error:
            what = f"{workload.source_path}: lacks: {type(error).__name__}: {message_of(error)}"
        if what:
            found[what] = found.get(what, 0) + cells
    lines = [f"{what} ({how_many(count)})" for what, count in found.items()]
    return lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"and {len(lines) - _SHOWN:,} more"]
