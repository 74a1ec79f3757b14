"""The `--set` options with which cells were launched, for notes and for commands that run missing cells."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.find import BUNDLED

if TYPE_CHECKING:
    from raysweep.orchestrator.store.sweeps import RecordedSweep

LAUNCHED_WITH = "launched_with"
"""Column of a store's cells: the `--set` options of each cell's launch as text; empty if it had no options."""


def commands(parts: Iterable[tuple[str, pl.DataFrame]], at: str = "") -> list[str]:
    """Build for each sweep the command that runs its missing cells.

    The command is `resume` if the store has cells of the sweep, otherwise `launch`.

    Args:
        parts: sweeps with their cells in the store; if cells differ in `--set` options, the commonest options are
            used.
        at: the `--store` option for the commands.
    """
    launches: dict[str, Counter[str]] = {}
    for sweep, cells in parts:
        options = launches.setdefault(sweep, Counter())
        if LAUNCHED_WITH in cells.columns:
            options.update(dict(cells[LAUNCHED_WITH].value_counts(sort=True).iter_rows()))
        else:  # a frame that was not read from a store
            options[""] += cells.height
    return [
        f"raysweep resume {sweep}{options.most_common(1)[0][0]}{at}"
        if options.total()
        else f"raysweep launch {sweep}{at}"
        for sweep, options in launches.items()
    ]


def other_settings(parts: Iterable[tuple[str, pl.DataFrame]]) -> dict[str, str]:
    """Describe for each sweep the settings in which its launched cells differ from the sweep's file.

    Sweeps whose cells do not differ from the file are left out.

    Args:
        parts: sweeps and their cells; a cell counts for the sweep that launched it (see `launched_by`).
    """
    seen: set[str] = set()
    counts: dict[str, Counter[str]] = {}
    for sweep, cells in parts:
        if LAUNCHED_WITH not in cells.columns or (cells[LAUNCHED_WITH] == "").all():
            continue
        named = cells["sweep"] if "sweep" in cells.columns else [None] * cells.height
        for cell_id, name, options in zip(cells["cell_id"], named, cells[LAUNCHED_WITH], strict=True):
            if cell_id not in seen:
                seen.add(cell_id)
                counts.setdefault(launched_by(sweep, name), Counter())[options.strip()] += 1
    notes = {}
    for sweep, by_options in counts.items():
        others = [(options, n) for options, n in sorted(by_options.items(), key=lambda pair: -pair[1]) if options]
        alike = len(by_options) == 1
        text = "; ".join(
            options if alike else f"{options} ({n} of {by_options.total()} cells)" for options, n in others
        )
        if text:
            notes[sweep] = f"Not the settings of {sweep}: {text}"
    return notes


def launched_by(sweep: str, name: str | None) -> str:
    """Return the name of the sweep that launched a cell, in the form that commands accept.

    Args:
        sweep: the sweep by which the cell was selected.
        name: the launching sweep's name in its file; None if it is unknown, and then `sweep` is returned.
    """
    folder, _, bare = sweep.rpartition("/")
    if name is None or name == bare:
        return sweep
    bundled = f"{folder}/{name}"
    return bundled if folder and (BUNDLED / f"{bundled}.toml").is_file() else name


def with_options(cells: pl.DataFrame, recorded: Sequence[RecordedSweep]) -> pl.DataFrame:
    """Add the column `LAUNCHED_WITH`: the `--set` options of the last launch that requested each cell.

    Args:
        cells: cells of the store; needs the column cell_id.
        recorded: the store's sweeps, oldest first.
    """
    options = [(entry.table.cells["cell_id"], typed(entry.metadata.get("overrides") or {})) for entry in recorded]
    if not any(words for _, words in options):
        return cells.with_columns(pl.lit("").alias(LAUNCHED_WITH))
    by_cell = pl.concat(pl.select(ids, pl.lit(words).alias(LAUNCHED_WITH)) for ids, words in options)
    last = by_cell.unique("cell_id", keep="last")
    return cells.join(last, on="cell_id", how="left", maintain_order="left").with_columns(
        pl.col(LAUNCHED_WITH).fill_null("")
    )


def typed(overrides: Mapping[str, Any]) -> str:
    """Format one ` --set key=value` per override, quoted for a shell."""
    return "".join(f" --set {shlex.quote(f'{key}={_value(key, value)}')}" for key, value in overrides.items())


def _value(key: str, value: Any) -> str:
    from raysweep.orchestrator.sweep.spec import setting

    if isinstance(value, str):
        try:
            if setting(f"{key}={value}") == (key, value):
                return value
        except InputError:
            pass
    return json.dumps(value, ensure_ascii=False)  # as TOML has no surrogate pairs
