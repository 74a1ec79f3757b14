"""Settings of cells, and their selection by SQL predicates. Cells with the same setting differ only in their seed."""

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
from raysweep.orchestrator.sweep.grammar.question import Pairings, Question, Setting, labels, pairings
from raysweep.orchestrator.sweep.grammar.settings import flattened
from raysweep.orchestrator.text import join_first

_MAX_LISTED = 12
_NO_SUMMARY = pl.DataFrame(schema={"cell_id": pl.String, "status": pl.String})


@dataclass(frozen=True)
class SettingTable:
    """The settings of a table's cells. `cells` has the columns cell_id, seed and setting, an index into `settings`."""

    table: CellTable
    cells: pl.DataFrame
    settings: tuple[Setting, ...]

    def select(self, predicate: str) -> list[int]:
        """Return the indices of the settings whose cells a predicate selects.

        Raises:
            InputError: the predicate is invalid or selects no cell; the message lists the settings.
        """
        ids = matches(self.table, predicate, self.existing())
        return sorted(self.cells.filter(pl.col("cell_id").is_in(ids.implode()))["setting"].unique().to_list())

    def existing(self) -> str:
        """Return a line that lists the settings, for messages."""
        return f"settings: {join_first(labels(self.settings), _MAX_LISTED, '; ')}"


def by_setting(table: CellTable) -> SettingTable:
    """Group the cells of a table by setting. Settings are numbered in the order of their first cells."""
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
    """Return the ids of the cells that a predicate on keys and config selects. `hint` is appended to errors.

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
    """Return the pairs of settings that a question compares; none for a `best_of` question.

    Invalid predicates, and predicates that select no cell, are listed in the result's `problems`.
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
