"""Arrow columns from Python lists. `pyarrow.array` would import pandas if that is installed, which takes 0.2 s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

_KINDS: dict[pa.DataType, Any] = {
    pa.bool_(): pl.Boolean,
    pa.int32(): pl.Int32,
    pa.int64(): pl.Int64,
    pa.float32(): pl.Float32,
    pa.float64(): pl.Float64,
    pa.string(): pl.String,
    pa.timestamp("us", tz="UTC"): pl.Datetime("us", "UTC"),
}


def column(values: Sequence[Any] | np.ndarray[Any, Any], kind: pa.DataType) -> pa.Array:
    """Build a column of this type.

    Raises:
        Exception: a value is not of the type. The error's type is that of polars.
    """
    if kind == pa.float64() and not isinstance(values, np.ndarray):
        values = [value if value is None else float(value) for value in values]
    built = pl.Series(values, dtype=_KINDS[kind], strict=True).to_arrow()
    return built if built.type == kind else built.cast(kind)


def lists(lengths: Sequence[int], values: pa.Array, mask: pa.Array | None = None) -> pa.ListArray:
    """Build a column of lists from the values of all lists, one after another. Where `mask` is true, a list is null."""
    offsets = column(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int32), pa.int32())
    return pa.ListArray.from_arrays(offsets, values, mask=mask)


def empty(schema: pa.Schema) -> pa.Table:
    """Return a table without rows."""
    return pa.Table.from_batches([], schema)
