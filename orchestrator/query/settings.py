"""Settings: what the cells of different seeds share, and which of them an SQL predicate selects."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.query.hints import with_text_quoted
from raysweep.orchestrator.query.sql import matching
from raysweep.orchestrator.sweep.cells import VARIANT, CellTable
from raysweep.orchestrator.sweep.grammar.settings import flattened
from raysweep.orchestrator.sweep.question import Pairings, Question, Setting, labels, pairings
from raysweep.orchestrator.text import join_first

_MAX_LISTED = 12
_NO_SUMMARY = pl.DataFrame(schema={"cell_id": pl.String, "status": pl.String})


@dataclass(frozen=True)
class SettingTable:
    """Cells by setting: `cells` has the columns cell_id, seed and setting, which indexes `settings`."""

    table: CellTable
    cells: pl.DataFrame
    settings: tuple[Setting, ...]

    def select(self, predicate: str) -> list[int]:
        """The settings of the cells that a predicate selects.

        Raises:
            InputError: the predicate is invalid or selects no cell; the message lists the settings.
        """
        ids = matches(self.table, predicate, self.existing())
        return sorted(self.cells.filter(pl.col("cell_id").is_in(ids.implode()))["setting"].unique().to_list())

    def existing(self) -> str:
        """A line that lists the settings."""
        return f"settings: {join_first(labels(self.settings), _MAX_LISTED, '; ')}"


def by_setting(table: CellTable) -> SettingTable:
    """Number the settings of a table in the order of their cells."""
    keys = table.wide().select("cell_id", "seed", *VARIANT)
    settings = keys.select(VARIANT).unique(maintain_order=True).with_row_index("setting")
    cells = keys.join(settings, on=VARIANT, how="left", nulls_equal=True, maintain_order="left")
    named = tuple(_setting(row) for row in settings.drop("setting").iter_rows(named=True))
    return SettingTable(table, cells.select("cell_id", "seed", "setting"), named)


def _setting(variant: Mapping[str, Any]) -> Setting:
    config = flattened(json.loads(variant["config"])) if variant["config"] else {}
    keys = {name: variant[name] for name in VARIANT if name != "config"}
    return {**keys, **{f"config_{k}" if k in keys else k: v for k, v in config.items()}}


def matches(table: CellTable, predicate: str, hint: str | None = None) -> pl.Series:
    """Ids of the cells that a predicate on keys and config selects; `hint` is appended to errors.

    Text on the right of a comparison needs no quotes: `method=sparse`.

    Raises:
        InputError: the predicate is invalid, selects no cell, or selects by status.
    """
    if re.search(r"\bstatus\b", predicate, re.IGNORECASE):
        raise InputError(
            f"{predicate!r}: selects cells by their status, which hides failures; select by keys and config: a failed "
            "cell is an outcome, and counts as worse than any value"
        )
    quoted = predicate if "'" in predicate else with_text_quoted(predicate, set())
    try:
        return matching(table, _NO_SUMMARY, quoted)[0]
    except InputError as error:
        lines = [line.replace("--where ", "", 1) for line in error.problems]
        raise InputError([*lines, *([hint] if hint else [])]) from None


def compared(question: Question, cells: SettingTable) -> Pairings:
    """The pairs of settings that a question compares; a `best_of` has none.

    A predicate that is invalid or selects no cell is a problem of the result.
    """
    sides: dict[str, list[int]] = {}
    problems: list[str] = []
    for key, predicate in question.predicates.items():
        try:
            sides[key] = cells.select(predicate)
        except InputError as error:
            problems += [f"{key}: {line}" for line in error.problems]
    if problems:
        return Pairings((), (), tuple(problems))
    if question.best_of is None:
        return pairings(sides["a"], sides["b"], cells.settings)
    one = len(sides["best_of"]) == 1
    return Pairings((), (), ("best_of: selects one setting only; select at least two",) if one else ())
