"""What to type to run what is missing, with the settings that the cells which are there were launched with."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from orchestrator.errors import InputError

if TYPE_CHECKING:
    from orchestrator.sweep_record import RecordedSweep

LAUNCHED_WITH = "launched_with"
"""A column of a store's cells: the `--set` options of their launch, as they are typed; empty where it had none."""


def commands(parts: Iterable[tuple[str, pl.DataFrame]]) -> list[str]:
    """A command a sweep: `resume` where some of its cells are known, else `launch`.

    Args:
        parts: sweeps, and those of their cells that are known; of several launches the settings of most cells count.
    """
    known: dict[str, Counter[str]] = {}
    for sweep, cells in parts:
        seen = known.setdefault(sweep, Counter())
        if LAUNCHED_WITH in cells.columns:
            seen.update(dict(cells[LAUNCHED_WITH].value_counts(sort=True).iter_rows()))
        else:  # made by hand
            seen[""] += cells.height
    return [
        f"raysweep resume {sweep}{seen.most_common(1)[0][0]}" if seen.total() else f"raysweep launch {sweep}"
        for sweep, seen in known.items()
    ]


def with_options(cells: pl.DataFrame, recorded: Sequence[RecordedSweep]) -> pl.DataFrame:
    """The cells with `LAUNCHED_WITH`, by the last launch that asked for them.

    Args:
        cells: column cell_id.
        recorded: oldest first.
    """
    options = [(entry.table.cells["cell_id"], typed(entry.about.get("overrides") or {})) for entry in recorded]
    if not any(words for _, words in options):
        return cells.with_columns(pl.lit("").alias(LAUNCHED_WITH))
    by_cell = pl.concat(pl.select(ids, pl.lit(words).alias(LAUNCHED_WITH)) for ids, words in options)
    last = by_cell.unique("cell_id", keep="last")
    return cells.join(last, on="cell_id", how="left", maintain_order="left").with_columns(
        pl.col(LAUNCHED_WITH).fill_null("")
    )


def typed(overrides: Mapping[str, Any]) -> str:
    """` --set key=value` for each, as a shell takes it."""
    return "".join(f" --set {shlex.quote(f'{key}={_value(key, value)}')}" for key, value in overrides.items())


def _value(key: str, value: Any) -> str:
    from orchestrator.spec import setting

    if isinstance(value, str):
        try:
            if setting(f"{key}={value}") == (key, value):
                return value
        except InputError:
            pass
    return json.dumps(value, ensure_ascii=False)  # as TOML has no surrogate pairs
