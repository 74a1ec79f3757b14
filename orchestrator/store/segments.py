"""Segments: the store's immutable Parquet files, and what their names and footers say.

`cells/00000003-00000007.parquet` is the eighth segment of the third launch (epoch). Its appearance under
that name is the commit. Footers may carry `raysweep.seal` (a zero-row segment that occupies an earlier
epoch's next name), `raysweep.replaces` (the names a compaction has merged) and `raysweep.replaced` (these, and all that
those had replaced: a write that arrives late may bring back a name that was deleted long ago).
"""

from __future__ import annotations

import io
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.store.schema import TABLES
from raysweep.orchestrator.store.storage.storage import Storage

_NAME = re.compile(r"(\d{8})-(\d{8})\.parquet")
_SEAL, _REPLACES, _REPLACED = b"raysweep.seal", b"raysweep.replaces", b"raysweep.replaced"
_LAST = 99_999_999  # of eight digits
# What a footer may claim, several times more than the largest merged segment's does: readers allocate by it.
MAX_FOOTER = 16 * 2**20  # bytes
MAX_ROWS, MAX_VALUES, MAX_GROUPS, MAX_COLUMNS = 2**24, 2**28, 2**14, 2**8
_ROW_BYTES = 4  # at least, of cells and attempts: each has an id, and a time, of its own


Run = tuple[int, int, int]
"""Names of one epoch: the epoch, the first sequence number, the last."""


@dataclass(frozen=True)
class Segment:
    """One segment's name and footer."""

    folder: str
    name: str
    epoch: int
    sequence: int
    rows: int
    size: int
    seal: bool
    replaces: tuple[Run, ...]  # all that it was merged from, however often
    values: int = 0  # of the column that has most

    @property
    def path(self) -> str:
        """`folder/name`."""
        return f"{self.folder}/{self.name}"


def segment_name(epoch: int, sequence: int) -> str:
    """The file name of an epoch's n-th segment."""
    return f"{epoch:08d}-{sequence:08d}.parquet"


def encode(
    folder: str, tables: pa.Table | Iterable[pa.Table], *, seal: bool = False, replaces: Sequence[Segment] = ()
) -> bytes:
    """A segment's bytes: zstd, checksummed pages, float lists split by byte (20 % smaller, cheaper to write).

    Args:
        folder: whose schema.
        tables: its rows; of several, each becomes a row group, and is held no longer than that takes.
        seal: whether it occupies an ended epoch's next name.
        replaces: the segments that a compaction has merged into it.
    """
    metadata = {}
    if seal:
        metadata[_SEAL] = b"1"
    if replaces:
        metadata[_REPLACES] = json.dumps([segment.name for segment in replaces]).encode()
        metadata[_REPLACED] = json.dumps(joined(run for segment in replaces for run in _with_itself(segment))).encode()
    schema = TABLES[folder].with_metadata(metadata or None)
    sink = io.BytesIO()
    split = {
        "column_encoding": {
            "values.list.element": "BYTE_STREAM_SPLIT",
            "values_f64.list.element": "BYTE_STREAM_SPLIT",
        }
    }
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        write_page_checksum=True,
        **({"use_dictionary": ["cell_id", "name"], **split} if folder == "arrays" else {}),
    ) as writer:
        for table in [tables] if isinstance(tables, pa.Table) else tables:
            writer.write_table(table.cast(TABLES[folder]).replace_schema_metadata(schema.metadata))
    return sink.getvalue()


def parse_name(folder: str, name: str) -> tuple[int, int]:
    """(epoch, sequence) of a segment's name.

    Raises:
        StoreDamaged: it is not one.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise StoreDamaged(
            f"{folder}/{name}: not a segment of this store (those are EPOCH-NUMBER.parquet); "
            "a foreign file would be read as results: move it elsewhere"
        )
    return int(match[1]), int(match[2])


def listed(storage: Storage, folder: str) -> list[str]:
    """Names in a data folder that readers' globs would match or that may be segments."""
    # A network disk leaves hidden names (.nfs0001) of its own, which no reader takes for data.
    return [n for n in storage.names(folder) if not n.startswith(".") or n.endswith(".parquet")]


def inspect(storage: Storage, folder: str, name: str) -> Segment:
    """Read a segment's footer.

    Raises:
        StoreDamaged: it is torn, foreign or of another schema; the message names the file.
        FileNotFoundError: it is gone (merged by a compaction).
    """
    epoch, sequence = parse_name(folder, name)
    where = f"{folder}/{name}"
    try:
        with storage.open(where) as opened:
            size = opened.size()
            if size == 0:
                raise StoreDamaged(f"{where}: is empty (0 bytes); `raysweep store check` lists all damage")
            _check_footer(opened, size)
            limits = {"thrift_string_size_limit": MAX_FOOTER, "thrift_container_size_limit": 2**20}
            with pq.ParquetFile(opened, pre_buffer=False, **limits) as file:
                values = _checked_values(file.metadata, folder, size)
                schema, rows = file.schema_arrow, file.metadata.num_rows
                metadata = file.metadata.metadata or {}
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        reason = (str(error).splitlines() or ["too large"])[0][:200]
        raise StoreDamaged(f"{where}: torn or not Parquet: {reason}; `raysweep store check` lists all damage") from None
    if not schema.remove_metadata().equals(TABLES[folder]):
        raise StoreDamaged(f"{where}: another schema than this version's {folder}; {_difference(schema, folder)}")
    replaced = _replaced(metadata, folder, (epoch, sequence), where)
    return Segment(folder, name, epoch, sequence, rows, size, _SEAL in metadata, replaced, values)


def inspected(storage: Storage, folder: str, names: Sequence[str]) -> Iterator[Segment]:
    """Read the footers of these, in this order, several at once where that is quicker; as `inspect`."""
    if storage.readers == 1 or len(names) < 2:
        yield from (inspect(storage, folder, name) for name in names)
        return
    with ThreadPoolExecutor(storage.readers) as pool:
        yield from pool.map(partial(inspect, storage, folder), names)


def _check_footer(file: pa.NativeFile, size: int) -> None:
    """Raise ValueError for a footer that is none of ours, before it is read."""
    if size < 12:
        raise ValueError(f"of {size} bytes")
    file.seek(size - 8)
    end = file.read(8)
    length = int.from_bytes(end[:4], "little")
    if end[4:] != b"PAR1":
        raise ValueError("no Parquet footer is at its end")
    if length > min(size - 12, MAX_FOOTER):
        raise ValueError(f"a footer of {length:,} bytes, in a file of {size:,}; {MAX_FOOTER:,} are plenty")
    file.seek(0)


def _checked_values(metadata: pq.FileMetaData, folder: str, size: int) -> int:
    """The most values that a column has.

    Raises:
        ValueError: it claims what no segment can hold, or what lies elsewhere than in its file.
    """
    groups, rows = metadata.num_row_groups, metadata.num_rows
    most = MAX_ROWS if folder == "arrays" else min(MAX_ROWS, size // _ROW_BYTES)
    if not 0 <= rows <= most or not 0 <= groups <= MAX_GROUPS or metadata.num_columns > MAX_COLUMNS:
        raise ValueError(f"it claims {rows:,} rows in {groups:,} groups of {metadata.num_columns:,} columns")
    counted, values = 0, [0] * metadata.num_columns
    for number in range(groups):
        group = metadata.row_group(number)
        counted += group.num_rows
        if not 0 <= group.num_rows <= rows:
            raise ValueError(f"it claims {group.num_rows:,} rows of {rows:,} in one group")
        for at in range(metadata.num_columns):
            column = group.column(at)
            begins = column.data_page_offset
            if column.dictionary_page_offset is not None and column.has_dictionary_page:
                begins = min(begins, column.dictionary_page_offset)
            held, here = column.total_compressed_size, column.num_values
            outside = not 0 <= begins <= column.data_page_offset <= begins + held <= size
            if column.file_path or outside or held < 0 or here < 0:
                raise ValueError(f"it claims {held:,} bytes, {here:,} values at {begins:,} of {column.file_path!r}")
            values[at] += here
    longest = max(values, default=0)
    if counted != rows or longest > MAX_VALUES:
        raise ValueError(f"it claims {rows:,} rows, {counted:,} in its groups, and {longest:,} values of a column")
    return longest


def _difference(schema: pa.Schema, folder: str) -> str:
    ours, theirs = TABLES[folder], schema
    for field in ours:
        index = theirs.get_field_index(field.name)
        if index < 0:
            return f"column {field.name!r} is missing"
        if theirs.field(index).type != field.type:
            return f"column {field.name!r} is {theirs.field(index).type} instead of {field.type}"
    extra = [name for name in theirs.names if name not in ours.names]
    some = ", ".join(repr(name[:60]) for name in extra[:5])
    return f"{len(extra):,} columns are unknown: {some}" if extra else "its columns stand in another order"


def _replaced(metadata: dict[bytes, bytes], folder: str, own: tuple[int, int], where: str) -> tuple[Run, ...]:
    if _REPLACES not in metadata:
        return ()
    try:
        names, runs = json.loads(metadata[_REPLACES]), json.loads(metadata.get(_REPLACED, b"[]"))
        if not isinstance(names, list) or not isinstance(runs, list):
            raise ValueError("not a list")
        direct = [parse_name(folder, str(name)) for name in names]  # of this folder, and nothing outside it
        found = joined([*((epoch, n, n) for epoch, n in direct), *map(_checked_run, runs)])
        if any((epoch, last) >= own or last >= _LAST for epoch, _, last in found):
            raise ValueError("later ones, or itself, or none that a seal may follow")  # what is merged was there before
        return found
    except (ValueError, RecursionError, StoreDamaged):
        raise StoreDamaged(f"{where}: its list of replaced segments is not one") from None


def _checked_run(run: object) -> Run:
    if isinstance(run, list) and [type(number) for number in run] == [int] * 3:
        epoch, first, last = run
        if 0 <= epoch <= _LAST and 0 <= first <= last:
            return epoch, first, last
    raise ValueError("no run")


def _with_itself(segment: Segment) -> Iterator[Run]:
    yield segment.epoch, segment.sequence, segment.sequence
    yield from segment.replaces


def joined(runs: Iterable[Run]) -> tuple[Run, ...]:
    """The same names in as few runs as there can be, in order."""
    found: list[Run] = []
    for epoch, first, last in sorted(runs):
        if found and found[-1][0] == epoch and first <= found[-1][2] + 1:
            found[-1] = epoch, found[-1][1], max(last, found[-1][2])
        else:
            found.append((epoch, first, last))
    return tuple(found)


def replaced_by(segments: Iterable[Segment]) -> Callable[[Segment], bool]:
    """Whether these were merged from a segment, at whatever time: it counts no more."""
    runs = joined(run for segment in segments for run in segment.replaces)

    def is_replaced(segment: Segment) -> bool:
        at = bisect_right(runs, (segment.epoch, segment.sequence, _LAST)) - 1
        return at >= 0 and runs[at][0] == segment.epoch and segment.sequence <= runs[at][2]

    return is_replaced


def live(segments: Sequence[Segment]) -> list[Segment]:
    """The segments that count: without those that a compaction has merged, not deleted yet or come back since."""
    is_replaced = replaced_by(segments)
    return [segment for segment in segments if not is_replaced(segment)]
