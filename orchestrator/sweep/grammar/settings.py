"""Settings of a sweep: names, in which a dot means a nested table, and the values that a setting may have."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from raysweep.orchestrator.text import encodable, short_repr

MAX_DEPTH = 8
"""Maximum number of tables around a setting."""


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a config to settings by name: `{"optimizer": {"lr": 0.1}}` becomes `{"optimizer.lr": 0.1}`."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            settings.update(flattened(value, f"{prefix}{key}."))
        else:
            settings[f"{prefix}{key}"] = value
    return settings


def nested(settings: Mapping[str, Any], quoted: Collection[str] = ()) -> dict[str, Any]:
    """Build the config of these settings: each dot in a name becomes a table, except in the names in `quoted`.

    Raises:
        ValueError: a name is both a setting and a table.
    """
    config: dict[str, Any] = {}
    for name, value in settings.items():
        table, key = config, name
        if "." in name and name not in quoted:
            *path, key = name.split(".")
            for part in path:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    raise ValueError(f"{part!r} of {name!r} is a setting and no table")
        if isinstance(table.get(key), dict):
            raise ValueError(f"{name!r} is a table and no setting")
        table[key] = value
    return config


def table_conflicts(names: Iterable[str]) -> list[str]:
    """Return the names that are both a setting and a table, such as `a` beside `a.b`."""
    every = set(names)
    tables = {".".join(parts[:i]) for name in every for parts in [name.split(".")] for i in range(1, len(parts))}
    return sorted(every & tables)


def read_names(
    table: Mapping[str, Any], where: str, quoted: dict[str, bool], problems: list[str], is_value: Any = None
) -> dict[str, Any]:
    """Flatten a table of a sweep file: name of each setting -> its value in the file.

    Args:
        table: the table.
        where: its place in messages.
        quoted: names with a dot -> whether the file writes them in quotes; this function adds the names of `table`.
        problems: the list to which problems are added.
        is_value: function that returns whether a table describes values, rather than holding nested settings.
    """
    settings: dict[str, Any] = {}
    for key, value in table.items():
        before = len(problems)
        check_key(key, where, problems)
        if len(problems) == before:
            _read(key, key, value, where, settings, quoted, problems, is_value)
    return settings


def _read(
    name: str, key: str, value: Any, where: str, settings: dict[str, Any], quoted: dict[str, bool], problems: list[str],
    is_value: Any,
) -> None:  # fmt: skip
    is_table = isinstance(value, dict) and not (is_value is not None and is_value(value))
    if "." in key and (is_table or name != key):
        problems.append(f"{where}.{name}: {short_repr(key)} has a dot; inside a table, and as its name, write no dots")
    elif not is_table:
        if "." in name and quoted.setdefault(name, "." in key) != ("." in key):
            problems.append(f"{where}.{name}: the file has it in quotes and as a nested table; write it in one way")
        settings[name] = value
    elif not value:
        problems.append(f"{where}.{name}: an empty table has no settings; remove it")
    elif name.count(".") >= MAX_DEPTH:
        problems.append(f"{where}.{name}: is nested more than {MAX_DEPTH} tables deep")
    else:
        for inner, item in value.items():
            before = len(problems)
            check_key(inner, f"{where}.{name}", problems)
            if len(problems) == before:
                _read(f"{name}.{inner}", inner, item, where, settings, quoted, problems, is_value)


def is_line(value: Any) -> bool:
    """Return whether a value is one line of text of at most 300 characters."""
    return isinstance(value, str) and len(value) <= 300 and encodable(value) and not any(ord(c) < 32 for c in value)


def check_key(key: str, where: str, problems: list[str]) -> None:
    """Add a problem to `problems` if no config can have this key."""
    if not key or not is_line(key):
        problems.append(f"{where}: key {short_repr(key)} is not one line of text of 1 to 300 characters")


def check_value(value: Any, where: str, problems: list[str]) -> None:
    """Add a problem to `problems` if no config can hold this value."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            if isinstance(item, list):
                problems.append(f"{where}[{i}]: is a list inside a list; use single values or flat lists")
            else:
                check_value(item, f"{where}[{i}]", problems)
    elif isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{where}: {value} is not finite; leave the key out, or use a finite number")
    elif isinstance(value, str) and not encodable(value):
        problems.append(f"{where}: {short_repr(value)} contains NUL or invalid Unicode")
    elif not isinstance(value, bool | int | float | str):
        kind = "a table" if isinstance(value, dict) else type(value).__name__
        problems.append(f"{where}: {kind} is not a config value; use text, numbers, booleans or lists of them")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        problems.append(f"{where}: {short_repr(value)} does not fit in 64 bits")


def read_table(value: Any, where: str, problems: list[str]) -> dict[str, Any]:
    """Return `value` if it is a table. Otherwise add a problem to `problems`, and return an empty table."""
    if isinstance(value, dict):
        return value
    write = f"; write [{where}], in single brackets" if isinstance(value, list) and where in _TABLES else ""
    problems.append(f"{where}: {short_repr(value)} is not a table of key = value lines{write}")
    return {}


_TABLES = ("config", "resources")
