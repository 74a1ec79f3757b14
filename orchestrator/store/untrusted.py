"""Checks of files that a stranger may have written, before memory is allocated for the sizes that they state.

The files are Parquet segments, whose footers are checked, and recorded sweeps. If a check fails, the function
raises ValueError or an exception of Arrow. The caller adds the name of the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.orchestrator.store import checksums
from raysweep.orchestrator.store.schema import DETAILS
from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.orchestrator.sweep.grammar.needs import edges
from raysweep.orchestrator.text import CELL_ID

# Segments

# Limits on a footer: several times the values of the largest merged segment.
MAX_FOOTER = 16 * 2**20  # bytes
MAX_ROWS, MAX_VALUES, MAX_GROUPS, MAX_COLUMNS = 2**24, 2**28, 2**14, 2**8
THRIFT_LIMITS = {"thrift_string_size_limit": MAX_FOOTER, "thrift_container_size_limit": 2**20}
"""Arguments for `pq.ParquetFile` that limit the memory for a footer."""
_MIN_ROW_BYTES = 4  # in cells and attempts, whose rows differ in id and time


def check_footer(file: pa.NativeFile, size: int) -> tuple[int, int | None]:
    """Check the end of a Parquet file: its magic bytes, the length of its footer, and the footer's checksum.

    Returns:
        The number of bytes before the footer, and their checksum (None in segments of versions before 0.1.0).
    """
    if size < 12:
        raise ValueError(f"only {size} bytes long")
    file.seek(size - 8)
    end = file.read(8)
    length = int.from_bytes(end[:4], "little")
    if end[4:] != b"PAR1":
        raise ValueError("no Parquet footer at its end")
    if length > min(size - 12, MAX_FOOTER):
        raise ValueError(f"claims a footer of {length:,} bytes in a file of {size:,} (at most {MAX_FOOTER:,})")
    file.seek(size - 8 - length)
    checksum = checksums.check_footer(file.read(length + 8))
    file.seek(0)
    return size - 8 - length, checksum


def max_values(metadata: pq.FileMetaData, folder: str, size: int) -> int:
    """Check all counts and offsets of a footer, and return the number of values in the longest column.

    Args:
        metadata: the footer.
        folder: the segment's folder.
        size: the file's size in bytes; all pages must lie within it.
    """
    groups, rows = metadata.num_row_groups, metadata.num_rows
    row_limit = MAX_ROWS if folder in DETAILS else min(MAX_ROWS, size // _MIN_ROW_BYTES)
    if not 0 <= rows <= row_limit or not 0 <= groups <= MAX_GROUPS or metadata.num_columns > MAX_COLUMNS:
        raise ValueError(f"claims {rows:,} rows in {groups:,} groups of {metadata.num_columns:,} columns")
    group_rows, values = 0, [0] * metadata.num_columns
    for number in range(groups):
        group = metadata.row_group(number)
        group_rows += group.num_rows
        if not 0 <= group.num_rows <= rows:
            raise ValueError(f"claims {group.num_rows:,} rows in one group, of {rows:,} in all")
        for index in range(metadata.num_columns):
            column = group.column(index)
            start = column.data_page_offset
            if column.dictionary_page_offset is not None and column.has_dictionary_page:
                start = min(start, column.dictionary_page_offset)
            length, count = column.total_compressed_size, column.num_values
            outside = not 0 <= start <= column.data_page_offset <= start + length <= size
            if column.file_path or outside or length < 0 or count < 0:
                raise ValueError(f"claims {length:,} bytes, {count:,} values at {start:,} of {column.file_path!r}")
            values[index] += count
    longest = max(values, default=0)
    if group_rows != rows or longest > MAX_VALUES:
        raise ValueError(f"claims {rows:,} rows, {group_rows:,} in its groups, and {longest:,} values in a column")
    return longest


# Recorded sweeps

# Five million cells take about 70 MiB in a file and 260 MiB in memory; the head holds the sweep file's text.
MAX_SWEEP, MAX_UNPACKED, MAX_HEAD = 512 * 2**20, 2 * 2**30, 16 * 2**20
_MAX_BATCHES = 10_000
_COMPRESSED = (b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
"""Magic numbers of zstd and lz4. In an Arrow file the eight bytes before are the unpacked length."""


def parse_head(head: bytes) -> dict[str, Any]:
    """Parse a recorded sweep's metadata from JSON, and check its fields."""
    if len(head) > MAX_HEAD:
        raise ValueError(f"its head has {len(head):,} bytes")
    metadata = json.loads(head)
    if not isinstance(metadata, dict):
        raise ValueError("its head is not a table")
    for name, kinds in {"name": (str,), "text": (str,), "path": (str, type(None)), "search": (list,)}.items():
        if not isinstance(metadata.get(name), kinds):
            raise ValueError(f"{name!r} is missing or of another type")
    if not all(isinstance(folder, str) for folder in metadata["search"]):
        raise ValueError("'search' is not a list of folders")
    return metadata


def _unpacked(data: bytes) -> Iterator[int]:
    """Yield the unpacked length of each compressed buffer of an Arrow file."""
    for magic in _COMPRESSED:
        at = data.find(magic, 8)
        while at >= 0:
            yield int.from_bytes(data[at - 8 : at], "little")
            at = data.find(magic, at + 1)


def parse_frame(data: bytes, schema: Mapping[str, Any], later: Collection[str] = ()) -> pl.DataFrame:
    """Read an Arrow file and check its schema. Columns in `later` may be missing from the file, and are null then.

    pyarrow reads the file, because polars does not check it: invalid offsets crash the process.
    """
    # Larger sizes are chance matches, or refused by Arrow.
    if sum(size for size in _unpacked(data) if size < 2**48) > MAX_UNPACKED:
        raise ValueError(f"unpacks to more than {MAX_UNPACKED:,} bytes")
    file = pa.ipc.open_file(pa.py_buffer(data))
    expected = [name for name in schema if name in file.schema.names or name not in later]
    if file.num_record_batches > _MAX_BATCHES or file.schema.names != expected:
        raise ValueError(f"{file.num_record_batches:,} batches of other columns")
    batches, size = [], 0
    for number in range(file.num_record_batches):
        batches.append(file.get_batch(number))
        size += batches[-1].nbytes
        if size > MAX_UNPACKED:
            raise ValueError(f"takes more than {MAX_UNPACKED:,} bytes in memory")
    table = pa.Table.from_batches(batches, file.schema)
    table.validate(full=True)
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame) or dict(frame.schema) != {name: schema[name] for name in expected}:
        raise ValueError("other columns")
    return frame.with_columns(pl.lit(None, schema[name]).alias(name) for name in schema if name not in expected)


def check_cells(table: CellTable) -> None:
    """Check that a launch of a sweep could have recorded these cells."""
    variants, cells = table.variants, table.cells
    optional = ("k", "cost_hint", "memory_gib", "timeout_s", "source_digest", "custom", "needs")
    if variants.drop(optional).null_count().row(0) != (0,) * (variants.width - len(optional)):
        raise ValueError("a variant lacks a value")
    if variants["variant"].to_list() != list(range(variants.height)):
        raise ValueError("its variants are not numbered from 0")
    if cells.null_count().row(0) != (0,) * cells.width or not (cells["variant"] < variants.height).all():
        raise ValueError("a cell lacks its variant, seed or id")
    if not cells["cell_id"].str.contains(f"^{CELL_ID.pattern}$").all():
        raise ValueError("a cell id is not 24 hex characters")
    minima = {"cpus": 2.0**-20, "gpus": 0.0, "memory_gib": 2.0**-20, "timeout_s": 2.0**-20, "retries": 0}
    for name, minimum in minima.items():
        if not all(math.isfinite(v) and minimum <= v <= 1e9 for v in variants[name].drop_nulls()):
            raise ValueError(f"{name} is out of bounds")
    for text in variants["custom"].drop_nulls().unique():
        custom = json.loads(text)
        if not isinstance(custom, dict) or not all(isinstance(v, float) and 0 < v <= 1e9 for v in custom.values()):
            raise ValueError("custom resources are out of bounds")
    for text in variants["needs"].drop_nulls().unique():
        edges(text, 0)
    for text in variants["config"].unique():
        if not isinstance(json.loads(text), dict):
            raise ValueError("a config is not a table")
