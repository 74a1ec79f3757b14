"""Errors for selections that match cells of several settings, with a predicate that chooses one setting."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from raysweep.analysis.errors import AmbiguousCells
from raysweep.orchestrator.sweep.grammar.settings import flattened
from raysweep.orchestrator.text import count_cells

_MAX_GROUPS = 5


def several_settings(counts: Mapping[str, Counter[str]], settings_of: Sequence[Mapping[str, str]]) -> AmbiguousCells:
    """Build the error for a selection that matches cells of several settings.

    Args:
        counts: setting -> value as JSON -> number of cells.
        settings_of: all settings of each cell.
    """
    lines = [
        f"  {name}: " + ", ".join(f"{text} ({count_cells(n)})" for text, n in _commonest(values))
        for name, values in counts.items()
    ]
    what = "the table needs cells of one setting, but cells of several settings fit it"
    return _ambiguous(what, lines, _choice(counts, settings_of))


def several_cells(repeated: pl.DataFrame) -> AmbiguousCells:
    """Build the error for several cells that belong to the same row of a table and have the same seed."""
    groups = repeated.partition_by("row", "seed", maintain_order=True)
    lines = [
        f"  {group['row'][0]}, seed {group['seed'][0]}: cells {', '.join(group['cell_id'])} "
        f"differ in {_differences(group)}"
        for group in groups[:_MAX_GROUPS]
    ]
    others = sorted(cell_id for group in groups for cell_id in group["cell_id"].sort().to_list()[1:])
    choice = f"cell_id NOT IN ({', '.join(map(repr, others))})"
    return _ambiguous("more than one cell for the same row and seed", lines, choice)


def _ambiguous(what: str, lines: Sequence[str], choice: str) -> AmbiguousCells:
    message = "\n".join([f"{what}:", *lines, f'Choose by --where, for example --where "{choice}"'])
    return AmbiguousCells(message, "; ".join(line.strip() for line in lines), choice)


def _differences(group: pl.DataFrame) -> str:
    """Describe the config keys in which cells differ, with their values."""
    configs = [flattened(json.loads(text)) if text else {} for text in group["config"].to_list()]
    names = ["k", *dict.fromkeys(name for config in configs for name in config)]
    parts: list[str] = []
    for name in names:
        values = group["k"].to_list() if name == "k" else [config.get(name, "(absent)") for config in configs]
        texts = list(dict.fromkeys(json.dumps(value, sort_keys=True) for value in values))
        if len(texts) > 1:
            parts.append(f"{name} ({', '.join(texts)})")
    return ", ".join(parts) or "no config key"


def _choice(counts: Mapping[str, Counter[str]], settings_of: Sequence[Mapping[str, str]]) -> str:
    """Build an SQL predicate that fixes each setting in `counts` to its commonest value.

    Settings are fixed one after the other, and values are counted among the cells still selected. If a setting has
    two or more values that are not null, its null is not counted, and cells with null stay selected too. Otherwise
    null counts like any other value.
    """
    left = list(settings_of)
    parts: list[str] = []
    for name, seen in counts.items():
        values = Counter({text: count for text, count in seen.items() if text != "null"})
        here = Counter(own[name] for own in left if name in own and (len(values) < 2 or own[name] != "null"))
        text = _commonest(here or seen)[0][0]
        or_null = len(values) > 1 and values.total() < len(settings_of)
        parts.append(f"({_predicate(name, text)} OR {name} IS NULL)" if or_null else _predicate(name, text))
        left = [own for own in left if own.get(name, text) == text or (or_null and own[name] == "null")]
    return " and ".join(parts)


def _commonest(counts: Counter[str]) -> list[tuple[str, int]]:
    """Sort values by descending frequency, and values of equal frequency alphabetically.

    So messages do not depend on the order of the store's cells.
    """
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _predicate(name: str, text: str) -> str:
    """Build the SQL predicate `name = value` from the value as JSON."""
    value: Any = json.loads(text)
    if value is None:
        return f"{name} IS NULL"
    if isinstance(value, str):
        return f"{name} = '{value.replace(chr(39), chr(39) * 2)}'"
    return f"{name} = {text}"
