"""A sweep that is made from a Python function, for example one in a notebook, instead of a sweep file."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.grammar.base import toml_value
from raysweep.orchestrator.sweep.loading.imports import is_installed
from raysweep.orchestrator.sweep.loading.main_module import MAIN
from raysweep.orchestrator.sweep.loading.main_program import folder_of_main
from raysweep.orchestrator.sweep.loading.source import OURS
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.text import short_repr

_DOTTED = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+", re.ASCII)
"""Pattern of the name of a nested setting, such as `optimizer.lr`."""


def function_sweep(
    function: Callable[..., Any],
    grid: Mapping[str, Any],
    seeds: Iterable[int] | str,
    name: str | None = None,
    resources: Mapping[str, float] | None = None,
) -> Sweep:
    """Build a sweep with one grid block that runs a function. Its text is the equivalent sweep file.

    Args:
        function: a workload's function, at the top level of a module or of `__main__`.
        grid: the keys of a `[[grid]]` block: setting -> its value, a list of values to try, or a table. Without the key
            `method`, the method is the function's name.
        seeds: the seeds: a list, a range, or text such as "0..4".
        name: the sweep's name, by default the function's.
        resources: keys of `[resources]`, such as `timeout_s`.

    Raises:
        InputError: the function cannot be named, or a value cannot be part of a sweep.
    """
    title = getattr(function, "__qualname__", short_repr(function))
    module = getattr(function, "__module__", None) or ""
    if getattr(sys.modules.get(module), title, None) is not function:
        raise InputError(
            f"{title}: not a function at the top level of a module or of the notebook; write it as a def of its own"
        )
    if not isinstance(seeds, str | Iterable):
        raise InputError(f"seeds: {short_repr(seeds)} is neither a list of integers nor a range; write range({seeds})")
    if not isinstance(grid, Mapping):
        raise InputError(f"grid: {short_repr(grid)} is not a dict; write for example {{'rate': [0.1, 0.2]}}")
    settings = grid if "method" in grid else {"method": title, **grid}
    problems: list[str] = []
    lines = [
        f"name = {toml_value(name or title)}",
        f"workload = {toml_value(f'{module}:{title}')}",
        f"seeds = {toml_value(seeds if isinstance(seeds, str) else list(seeds))}",
    ]
    for header, table in (("[resources]", resources or {}), ("[[grid]]", settings)):
        lines += [header] if table else []
        for key, value in table.items():
            try:
                name_of_key = key if _DOTTED.fullmatch(str(key)) else toml_value(str(key))
                lines.append(f"{name_of_key} = {toml_value(value)}")
            except TypeError as error:
                problems.append(f"grid: {key}: {error}")
    if problems:
        raise InputError(problems)
    sweep = Sweep.from_text("\n".join(lines) + "\n")
    folder = folder_of_main() if module == MAIN else _folder_of(module)
    return replace(sweep, search=tuple(dict.fromkeys((*([folder] if folder else []), *sweep.search))))


def _folder_of(module: str) -> str | None:
    """Return the folder from which this process imported a user's module; None for an installed module."""
    top = module.partition(".")[0]
    file = getattr(sys.modules[top], "__file__", None)
    if file is None or top == OURS or is_installed(file):
        return None
    path = Path(os.path.abspath(file))
    return str(path.parents[1] if path.name == "__init__.py" else path.parent)
