"""Validation of one point of a sweep's grid by its workload."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, get_args

import pydantic

from raysweep.orchestrator.sweep.grammar.keys import RESOURCE_NAMES
from raysweep.orchestrator.sweep.grammar.near_misses import ONLY_SEEDS, like_a_range
from raysweep.orchestrator.sweep.grammar.resources import BELONGS
from raysweep.orchestrator.sweep.identity import canonical_json
from raysweep.orchestrator.sweep.loading.workload import Workload
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.text import message_of, short_repr
from raysweep.workloads.registry import unknown_name


class Settled(NamedTuple):
    """A valid point of the grid: its k, its config with defaults filled in, and its relative cost (None: unknown)."""

    k: int | None
    config: dict[str, Any]
    cost: float | None


Mistake = tuple[str, str]
"""A mistake: (key, message). The key is one of the `[[grid]]` block, such as `.method`; "" if unknown."""


def validate(
    workload: Workload, method: str, k: int | None, config: dict[str, Any], *, settle: bool, is_named: bool = True
) -> tuple[Settled | None, list[Mistake]]:
    """Validate a point of the grid. Returns the valid point, and the mistakes.

    The point is None if there are mistakes, or if `settle` is False. With `settle=False`, the workload's functions
    are not called. `is_named`: whether the file names the method.
    """
    problems: list[Mistake] = []
    is_known = workload.methods is None or method in workload.methods
    if not is_known:
        methods: Any = workload.methods
        missing = f"missing; {workload.name} has the methods {', '.join(sorted(methods))}"
        problems.append((".method", unknown_name("method", method, methods) if is_named else missing))
    model, lines, invalid_keys = _revived(workload, config)
    problems.extend(("", line) for line in lines)
    if model is None or not is_known or not settle:
        return None, problems
    settled, lines = _settled(workload, method, k, model)
    problems.extend(("", line) for line in lines if not _mentions(line, invalid_keys))
    return (None if problems else settled), problems


def location_of(message: str, sweep: Sweep, places: Iterable[str]) -> str:
    """Return where a mistake is: in the `--set` whose key the message names, or else in the sweep file.

    `places` are the grid blocks that have the mistake.
    """
    where = sweep.path or sweep.name
    for key, value in sweep.overrides.items():
        if _mentions(message.partition(";")[0], [key]):
            return f"--set {key}={short_repr(value)} on {where}"
    for key in sweep.config:
        if message.startswith((f"config key {key!r}", f"unknown config key {key!r}", f"{key}: not a config key")):
            return f"{where}: config"
    return f"{where}: {', '.join(places)}"


def _revived(workload: Workload, config: dict[str, Any]) -> tuple[Any, list[str], list[str]]:
    """Parse a config, and return (config or None, messages about mistakes, invalid keys).

    The returned config lacks the invalid keys.
    """
    try:
        text = canonical_json(config)
    except ValueError:
        return None, [], []  # a value that no config can hold, which `spec` has reported
    if workload.config_model is None:
        return config, [], []
    try:
        return workload.revive(text), [], []
    except pydantic.ValidationError as error:
        lines = _config_problems(error, workload)
        invalid_keys = {str(problem["loc"][0]) for problem in error.errors(include_url=False) if problem["loc"]}
    except (Exception, SystemExit) as error:
        return None, [_raised(workload, "Config", error)], []
    try:  # without the invalid keys, to report all other mistakes at the same time
        model = workload.revive(canonical_json({key: v for key, v in config.items() if key not in invalid_keys}))
    except (Exception, SystemExit):
        return None, lines, []
    return model, lines, sorted(invalid_keys)


def _mentions(line: str, keys: Iterable[str]) -> bool:
    """Tell whether a message contains one of these keys as a word."""
    return any(re.search(rf"(?<!\w){re.escape(key)}(?!\w)", line) for key in keys)


def _settled(workload: Workload, method: str, k: int | None, model: Any) -> tuple[Settled | None, list[str]]:
    """Call the workload's functions for a point. Returns the valid point (or None), and messages about mistakes."""
    hook = "settle"
    try:
        if workload.settle is not None:
            pair: Any = workload.settle(method, k, model)
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise TypeError(f"it returned {short_repr(pair)}, not (k, config)")
            k, model = pair
            if k is not None and (isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < 2**63):
                raise TypeError(f"it returned k = {short_repr(k)}, neither None nor an integer from 0 to 2^63 - 1")
        hook = "cost"
        cost = None if workload.cost is None else float(workload.cost(method, k, model))
        if cost is not None and not math.isfinite(cost):
            raise TypeError(f"it returned {cost}, not a finite number")
        hook = "Config"
        full = model.model_dump(mode="json") if isinstance(model, pydantic.BaseModel) else model
        if not isinstance(full, Mapping):
            raise TypeError(f"the config is {short_repr(full)}, neither a model nor a dict")
        canonical_json(full).encode()
    except (Exception, SystemExit) as error:
        # A ValueError of `settle` reports what is wrong with the sweep; any other error is a bug of the workload.
        lines = message_of(error).splitlines() if hook == "settle" and isinstance(error, ValueError) else []
        return None, lines or [_raised(workload, hook, error)]
    return Settled(k, dict(full), cost), []


def _raised(workload: Workload, hook: str, error: BaseException) -> str:
    return f"{workload.source_path}: {hook}: {type(error).__name__}: {message_of(error)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", value, re.ASCII) is not None


_IN_A_BLOCK = {
    "k": "belongs in a [[grid]] block: k = 4, or a list",
    "method": 'belongs in a [[grid]] block: method = "..."',
    "methods": 'is named method, in a [[grid]] block: method = ["...", "..."]',
    "seeds": "belongs at the top of the file, before any [table]",
    "seed": "is named seeds, at the top of the file",
}


def _fields(model: Any, path: Iterable[Any]) -> Mapping[str, Any]:
    """Return the fields of the Config, or of the nested model at `path`; empty if there is no model at `path`."""
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        annotation = None if field is None else field.annotation
        models = [kind for kind in (annotation, *get_args(annotation)) if hasattr(kind, "model_fields")]
        model = models[0] if models else None
    return getattr(model, "model_fields", {})


def _config_problems(error: pydantic.ValidationError, workload: Workload) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            prefix = "".join(f"{part}." for part in problem["loc"][:-1])
            known = [f"{prefix}{name}" for name in _fields(workload.config_model, problem["loc"][:-1])]
            unknown = unknown_name("config key", place, known)
            elsewhere = BELONGS if place in RESOURCE_NAMES else _IN_A_BLOCK.get(place)
            lines.append(f"{place}: not a config key; it {elsewhere}" if elsewhere else unknown)
        elif problem["type"] == "missing":
            lines.append(f"config key {place!r} is missing; set it in [config] or [[grid]]")
        else:
            text = problem["msg"].removeprefix("Value error, ")
            key = f"config key {place!r}: " if place else ""
            got = f" (got {short_repr(problem['input'])})" if place else ""
            field = _fields(workload.config_model, problem["loc"][:-1]).get(str((problem["loc"] or ("",))[-1]))
            if problem["type"] == "string_pattern_mismatch" and field is not None and field.description:
                got += f"; expected: {field.description}"
            if problem["type"] in {"int_type", "float_type"} and _is_number(problem["input"]):
                got += f"; write {place} = {problem['input']} without quotes"
            if like_a_range(problem["input"]):
                got += f"; {ONLY_SEEDS}"
            if isinstance(problem["input"], list):
                got += f"; to try its values one by one, write {place} = {short_repr(problem['input'])} in [[grid]]"
            lines.append(f"{key}{text[:1].lower()}{text[1:]}{got}")
    return lines
