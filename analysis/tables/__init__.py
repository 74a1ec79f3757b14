"""The paper's tables, ours beside the paper's: a frame of cells in, a `Table` out, one file a table.

`RENDERERS["text"](TABLES["3"](cells))` is a string to print (`RENDERERS`: `analysis.tables.render`).
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from analysis.tables import table03
from analysis.tables.table import Column, Table
from workloads.registry import Registry

__all__ = ["TABLES", "Column", "Table"]

TABLES: Registry[Callable[[pl.DataFrame], Table]] = Registry(
    "table",
    {
        "3": table03.table,
    },
)
"""Number in the paper -> pure function from the store's `cells` frame to that table."""
