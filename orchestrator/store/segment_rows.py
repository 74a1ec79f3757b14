"""Reading the rows of segments, whole or in parts of bounded size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.segments import Segment

READ_ROWS, PART_ROWS, PART_BYTES = 512, 8192, 8 * 2**20
"""Of `parts`: read at a time, and held at most."""


def read_segment(store: Store, segment: Segment, columns: list[str] | None = None) -> pa.Table:
    """A segment's rows.

    Raises:
        StoreDamaged: its pages are.
    """
    with _damage_of(segment), store.storage.open(segment.path) as opened:
        table = pq.read_table(opened, columns=columns, partitioning=None, page_checksum_verification=True)
    return table.replace_schema_metadata(None)


def entries(arrays: pa.Table) -> int:
    """Entries of the longer of the two columns of values, and a value for each null."""
    lengths = (pc.sum(pc.list_value_length(arrays[name])).as_py() or 0 for name in ("values", "values_f64"))
    return int(arrays.num_rows + max(lengths))


def parts(store: Store, segments: Iterable[Segment]) -> Iterator[pa.Table]:
    """Their rows in order, in tables of about `PART_ROWS` rows or `PART_BYTES`.

    Raises:
        StoreDamaged: pages are.
    """
    batches: list[pa.RecordBatch] = []
    rows = size = 0
    for segment in segments:
        for batch in _batches(store, segment):
            batches.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if rows >= PART_ROWS or size >= PART_BYTES:
                yield pa.Table.from_batches(batches)
                batches, rows, size = [], 0, 0
    if batches:
        yield pa.Table.from_batches(batches)


def _batches(store: Store, segment: Segment) -> Iterator[pa.RecordBatch]:
    # On this thread alone: memory that others have given back is not used again by this one.
    with (
        _damage_of(segment),
        store.storage.open(segment.path) as opened,
        pq.ParquetFile(opened, page_checksum_verification=True, pre_buffer=False) as file,
    ):
        yield from file.iter_batches(READ_ROWS, use_threads=False)


@contextlib.contextmanager
def _damage_of(segment: Segment) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise StoreDamaged(f"{segment.path}: damaged: {str(error).splitlines()[0][:200]}") from None


def keys(table: pa.Table) -> list[tuple[str, int]]:
    """(cell_id, attempt) of each row."""
    return list(zip(table["cell_id"].to_pylist(), table["attempt"].to_pylist(), strict=True))
