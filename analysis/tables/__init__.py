"""The paper's tables, ours beside the paper's: a `Source` in, a `Table` out, one file a table.

`RENDERERS["text"](TABLES["3"](from_store(store)))` is a string to print (`RENDERERS`: `analysis.tables.render`,
`from_store`: `raysweep.analysis.cells.source`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from raysweep.analysis.tables import (
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
        "3": table03.table,
        "4": table04.table,
        "5": table05.table,
        "6": table06.table,
        "7": table07.table,
        "8": table08.table,
        "9": table09.table,
        "10": table10.table,
        "11": table11.table,
        "12": table12.table,
        "13": table13.table,
        "14": table14.table,
    },
)
"""Number in the paper -> pure function from a store's cells and arrays to that table."""
