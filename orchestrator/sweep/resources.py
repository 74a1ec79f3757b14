"""Resources that cells run with: the tables `resources` of a sweep file. They are never part of a cell's id."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from raysweep.orchestrator.sweep.keys import MAXIMA, RESOURCE_NAMES
from raysweep.orchestrator.sweep.settings import read_table
from raysweep.orchestrator.text import short_repr
from raysweep.workloads.registry import unknown_name

BELONGS = "belongs under [resources], or in a block's resources"


@dataclass(frozen=True)
class Resources:
    """The resources that a cell runs with."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gib: float | None = None
    timeout_s: float | None = None
    retries: int = 1  # after the cell's own errors


def read_resources(raw: Any, base: Resources, where: str, problems: list[str]) -> Resources:
    """The resources of a table, with those of `base` where it is silent; problems are added."""
    valid: dict[str, Any] = {}
    for key, value in read_table(raw, where, problems).items():
        if key not in RESOURCE_NAMES:
            problems.append(f"{where}: {unknown_name('resource', key, RESOURCE_NAMES)}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            problems.append(f"{where}.{key}: {short_repr(value)} is not a number")
        elif value > MAXIMA[key]:
            no_limit = "; without it there is no limit" if key == "timeout_s" else ""
            maximum = f"the maximum is {MAXIMA[key]:,.0f}"
            problems.append(f"{where}.{key}: {short_repr(value)} is too large; {maximum}{no_limit}")
        elif key == "retries" and (not isinstance(value, int) or value < 0):
            problems.append(f"{where}.retries: {short_repr(value)} is not an integer of 0 or more")
        elif key == "gpus" and value < 0:
            problems.append(f"{where}.gpus: {short_repr(value)} is negative; give 0 or more")
        elif key == "gpus" and value > 1 and value != int(value):
            problems.append(f"{where}.gpus: {short_repr(value)} is neither a fraction of one GPU nor a whole number")
        elif key in {"cpus", "memory_gib", "timeout_s"} and value <= 0:
            problems.append(f"{where}.{key}: {short_repr(value)} is not positive; give a number above 0")
        elif key == "cpus" and value > 1 and value != int(value):
            problems.append(f"{where}.cpus: {short_repr(value)} is neither a fraction of one CPU nor a whole number")
        else:
            valid[key] = value if key == "retries" else float(value)
    return replace(base, **valid)
