"""The `--set` options with which cells were launched, for notes and for the commands that run missing cells."""

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
"""A column of a store's cells: the `--set` options of their launch as text; empty where it had none."""


def commands(parts: Iterable[tuple[str, pl.DataFrame]], at: str = "") -> list[str]:
    """A command for each sweep: `resume` where some of its cells are known, else `launch`.

    Args:
        parts: sweeps and their known cells; where launches had different options, those of most cells count.
        at: see `raysweep.analysis.cells.source.Source`.
    """
    launches: dict[str, Counter[str]] = {}
    for sweep, cells in parts:
        options = launches.setdefault(sweep, Counter())
        if LAUNCHED_WITH in cells.columns:
            options.update(dict(cells[LAUNCHED_WITH].value_counts(sort=True).iter_rows()))
        else:  # a frame that is not of a store
            options[""] += cells.height
    return [
        f"raysweep resume {sweep}{options.most_common(1)[0][0]}{at}"
        if options.total()
        else f"raysweep launch {sweep}{at}"
        for sweep, options in launches.items()
    ]


def other_settings(parts: Iterable[tuple[str, pl.DataFrame]]) -> dict[str, str]:
    """Sweep -> a note, where some of its cells were launched with other settings than its file has.

    Args:
        parts: sweeps and their cells; a cell that was launched by another sweep of the same folder counts as that
            one's.
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
    """The sweep that launched a cell, as commands take it.

    Args:
        sweep: the sweep by which the cell was selected.
        name: the name of the cell's own sweep, as its file has it; None: the same sweep.
    """
    folder, _, bare = sweep.rpartition("/")
    if name is None or name == bare:
        return sweep
    bundled = f"{folder}/{name}"
    return bundled if folder and (BUNDLED / f"{bundled}.toml").is_file() else name


def with_options(cells: pl.DataFrame, recorded: Sequence[RecordedSweep]) -> pl.DataFrame:
    """The cells with `LAUNCHED_WITH`, by the last launch that requested them.

    Args:
        cells: column cell_id.
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
    """` --set key=value` for each, quoted for a shell."""
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
