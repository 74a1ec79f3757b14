"""The table `arrays` as an Arrow stream. The stream keeps only a few rows of the table in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import polars as pl
import pyarrow as pa

from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import ARRAYS
from raysweep.orchestrator.store.segments import parts

VALUES_AT_ONCE, MAX_ROWS = 2**20, 100_000
_KEYS = ["cell_id", "attempt"]


class ArrayStream:
    """The arrays of all attempts that have a row in the table `cells`. Arrays of other attempts are left out.

    DuckDB reads the stream through Arrow's C stream interface, once for each scan of a query.

    Args:
        store: the store.
        columns: the columns that the query may use.
    """

    def __init__(self, store: Store, columns: Collection[str]) -> None:
        self._store = store
        self._segments = store.verified("arrays")
        self._recorded = store.collect(lambda: store.cells.select(_KEYS))
        self.schema = pa.schema([field for field in ARRAYS if field.name in {*_KEYS, *columns}])
        self.problem: Exception | None = None  # the error that ended a stream: DuckDB passes on no more than its text

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return a new stream, which starts at the first row."""
        return pa.RecordBatchReader.from_batches(self.schema, self._batches()).__arrow_c_stream__(requested_schema)

    def rows_at_once(self) -> int:
        """Return the number of rows of a batch: at most `MAX_ROWS`, and about `VALUES_AT_ONCE` values on average."""
        rows = sum(segment.rows for segment in self._segments)
        values = sum(segment.values for segment in self._segments)
        return max(1, min(MAX_ROWS, VALUES_AT_ONCE * rows // max(1, values)))

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            for table in parts(self._store.storage, self._segments, self.schema.names):
                keys = pl.DataFrame(pl.from_arrow(table.select(_KEYS))).with_row_index()
                kept = keys.join(self._recorded, on=_KEYS, how="semi", maintain_order="left")["index"]
                if len(kept) < table.num_rows:
                    table = table.take(kept.to_arrow())
                step = self.rows_at_once()
                for batch in table.cast(self.schema).to_batches():
                    yield from (batch.slice(start, step) for start in range(0, batch.num_rows, step))
        except (OSError, StoreDamaged) as error:
            self.problem = error
            raise
