"""Resources of cells: the tables `resources` of a sweep file. Resources are never part of a cell's id."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from raysweep.orchestrator.sweep.grammar.keys import MAXIMA, NAME, RESOURCE_NAMES
from raysweep.orchestrator.sweep.grammar.settings import read_table
from raysweep.orchestrator.text import short_repr
from raysweep.workloads.registry import unknown_name

ACCELERATOR, ACCELERATOR_AMOUNT = "accelerator_type:", 0.001
"""Prefix of Ray's resource for a node's type of GPU, and the amount of it that a cell requests."""
BELONGS = "belongs under [resources], or in a block's resources"


@dataclass(frozen=True)
class Resources:
    """The resources of a cell."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gib: float | None = None
    timeout_s: float | None = None
    retries: int = 1  # after the cell's own errors
    custom: str | None = None  # JSON: custom resource, by Ray's name -> amount; the accelerator is one of them


def read_resources(raw: Any, base: Resources, where: str, problems: list[str]) -> Resources:
    """Read a table of resources; keys that it does not have are taken from `base`. Problems are added to `problems`."""
    valid: dict[str, Any] = {}
    custom: dict[str, float] = json.loads(base.custom or "{}")
    for key, value in read_table(raw, where, problems).items():
        if key not in RESOURCE_NAMES:
            problems.append(f"{where}: {unknown_name('resource', key, RESOURCE_NAMES)}")
        elif key == "accelerator":
            if not isinstance(value, str) or not re.fullmatch(NAME, value):
                problems.append(
                    f'{where}.accelerator: {short_repr(value)} is not the name of a GPU type, such as "H100"'
                )
            else:
                custom = {name: amount for name, amount in custom.items() if not name.startswith(ACCELERATOR)}
                custom[f"{ACCELERATOR}{value}"] = ACCELERATOR_AMOUNT
        elif key == "custom":
            custom |= _custom(value, f"{where}.custom", problems)
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
    return replace(base, **valid, custom=json.dumps(custom, sort_keys=True) if custom else None)


def _custom(value: Any, where: str, problems: list[str]) -> dict[str, float]:
    custom = {}
    for name, amount in read_table(value, where, problems).items():
        if not re.fullmatch(NAME, name) or name.lower() in _BUILT_IN:
            own = f"; write {_BUILT_IN[name.lower()]}" if name.lower() in _BUILT_IN else ""
            problems.append(f"{where}: {short_repr(name)} is not the name of a custom resource{own}")
        elif isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 < amount <= _MAX_AMOUNT:
            problems.append(f"{where}.{name}: {short_repr(amount)} is not a positive number of at most {_MAX_AMOUNT:,}")
        elif amount > 1 and amount != int(amount):
            problems.append(f"{where}.{name}: {short_repr(amount)} is neither a fraction of one nor a whole number")
        else:
            custom[name] = float(amount)
    return custom


def without_accelerator(custom: str | None) -> str | None:
    """Remove the types of GPU from custom resources (JSON), for a cell that runs without a GPU."""
    if custom is None:
        return None
    left = {name: amount for name, amount in json.loads(custom).items() if not name.startswith(ACCELERATOR)}
    return json.dumps(left, sort_keys=True) if left else None


_MAX_AMOUNT = 1_000_000
_BUILT_IN = {
    "cpu": "cpus", "cpus": "cpus", "gpu": "gpus", "gpus": "gpus", "memory": "memory_gib", "memory_gib": "memory_gib",
    "object_store_memory": "memory_gib",
}  # fmt: skip
