"""The paper's tables with our numbers beside the paper's. Each module builds one `Table` from a `Source`.

`tables.render.RENDERERS["text"](TABLES["3"](cells.source.from_store(store)))` returns the printable table. Most modules
hold only a specification, `SPEC`, from which `comparison` or `heads` builds the table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from raysweep.analysis.tables import (
    comparison,
    heads,
    learning_rates,
    small_k,
    table03,
    table04,
    table05,
    table06,
    table07,
    table08,
    table09,
    table10,
    table11,
    table12,
    table13,
    table14,
)
from raysweep.analysis.tables.table import Column, Table
from raysweep.workloads.registry import Registry

if TYPE_CHECKING:
    from raysweep.analysis.cells.source import Source

__all__ = ["TABLES", "Column", "Table"]

TABLES: Registry[Callable[[Source], Table]] = Registry(
    "table",
    {
        "3": partial(comparison.build, table03.SPEC),
        "4": partial(comparison.build, table04.SPEC),
        "5": partial(comparison.build, table05.SPEC),
        "6": partial(comparison.build, table06.SPEC),
        "7": partial(comparison.build, table07.SPEC),
        "8": partial(comparison.build, table08.SPEC),
        "9": partial(comparison.build, table09.SPEC),
        "10": partial(heads.build, table10.SPEC),
        "11": partial(heads.build, table11.SPEC),
        "12": partial(comparison.build, table12.SPEC),
        "13": table13.table,
        "14": table14.table,
        "learning-rate": partial(comparison.build, learning_rates.SPEC),
        "small-k": partial(comparison.build, small_k.SPEC),
    },
)
"""Number of a table of the paper, or name of another table -> pure function that makes it from a store's cells."""
