"""Segments, the store's immutable Parquet files: their names, footers and rows.

`cells/00000003-00000007.parquet` is the eighth segment of generation 3, the fourth launch. Its appearance under
that name is the commit. A footer may have these keys:

- `raysweep.seal`: the segment has no rows, and occupies an earlier generation's next name.
- `raysweep.replaces`: the names of the segments that a compaction has merged into this one.
- `raysweep.replaced`: these names, and all names that those segments had replaced themselves. All stay listed,
  since a late write may restore a file that was deleted long ago.
- `raysweep.details`, in `attempts`: the number of arrays, texts and artifacts that each attempt recorded, so that
  a loss is noticed.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.store import checksums
from raysweep.orchestrator.store.schema import TABLES
from raysweep.orchestrator.store.storage.storage import Storage
from raysweep.orchestrator.store.untrusted import THRIFT_LIMITS, check_footer, max_values

NAME = re.compile(r"(\d{8})-(\d{8})\.parquet")
_SEAL, _REPLACES, _REPLACED = b"raysweep.seal", b"raysweep.replaces", b"raysweep.replaced"
_DETAILS = b"raysweep.details"
_MAX_COUNTS = 10_000
"""Maximum number of pairs of `DetailCounts` in a footer. A segment that needs more has none."""
_LAST = 99_999_999  # the largest number of eight digits
# Limits of `parts`: rows per read, rows per table, bytes per table.
READ_ROWS, PART_ROWS, PART_BYTES = 512, 8192, 8 * 2**20
_BLOCK_BYTES = 4 * 2**20  # read at once by `verify`
HINT = (
    "; `raysweep store check` lists all damage, `raysweep store repair` moves it aside, --skip-damaged reads the rest"
)
"""Advice after an error about a damaged file."""

T = TypeVar("T")
R = TypeVar("R")
OnDamage = Callable[[str, StoreDamaged], None]
Run = tuple[int, int, int]
"""Consecutive names of one generation: (its number, first sequence number, last sequence number)."""
DetailCounts = tuple[tuple[int, int], ...]
"""Numbers of rows in `COUNTED` tables that a segment's attempts recorded, run-length encoded.

A pair is (rows of an attempt, number of consecutive attempts with as many rows).
"""
UNKNOWN = -1
"""Stands for an unknown number of rows, such as that of an attempt recorded by an earlier version."""


@dataclass(frozen=True)
class Segment:
    """A segment's name and the content of its footer."""

    folder: str
    name: str
    epoch: int
    sequence: int
    rows: int
    size: int
    seal: bool
    replaces: tuple[Run, ...]  # all segments that it was merged from, directly or through others
    values: int = 0  # in the longest column
    pages: int = 0  # bytes before the footer
    checksum: int | None = None  # their CRC-32
    detail_counts: DetailCounts = ()  # of a segment of `attempts`

    @property
    def path(self) -> str:
        """The segment's path in the store: `folder/name`."""
        return f"{self.folder}/{self.name}"


def segment_name(epoch: int, sequence: int) -> str:
    """Format the file name of segment number `sequence` of a generation."""
    return f"{epoch:08d}-{sequence:08d}.parquet"


def encode(
    folder: str,
    tables: pa.Table | Iterable[pa.Table],
    *,
    seal: bool = False,
    replaces: Sequence[Segment] = (),
    replaced: Iterable[Run] = (),
    detail_counts: DetailCounts | None = None,
) -> io.BytesIO:
    """Encode a segment as Parquet with zstd and page checksums. Its name and checksums are blank until `finish`.

    Lists of floats have Parquet's encoding BYTE_STREAM_SPLIT, which makes them 20 % smaller and cheaper to write.

    Args:
        folder: the folder, which determines the schema.
        tables: the rows. Each of several tables becomes one row group, and they need not be in memory together.
        seal: whether the segment is a seal, which occupies the next name of a generation that has ended.
        replaces: the segments that a compaction has merged into this one.
        replaced: further names that this segment replaces.
        detail_counts: the counts for a segment of `attempts`; None: the counts of the segments in `replaces`.
    """
    metadata = {checksums.MARK: b"1"}
    if folder == "attempts":
        if detail_counts is None and replaces:
            detail_counts = repeated_runs(run for segment in replaces for run in segment.detail_counts)
        if detail_counts is not None and len(detail_counts) <= _MAX_COUNTS:
            metadata[_DETAILS] = json.dumps(detail_counts).encode()
    if seal:
        metadata[_SEAL] = b"1"
    runs = joined([*replaced, *(run for segment in replaces for run in _with_itself(segment))])
    if runs:
        metadata[_REPLACES] = json.dumps([segment.name for segment in replaces]).encode()
        metadata[_REPLACED] = json.dumps(runs).encode()
    schema = TABLES[folder].with_metadata(metadata)
    sink = io.BytesIO()
    options: dict[str, Any] = {}
    if folder == "arrays":
        encoding = dict.fromkeys(("values.list.element", "values_f64.list.element"), "BYTE_STREAM_SPLIT")
        options = {"use_dictionary": ["cell_id", "name"], "column_encoding": encoding}
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True, **options) as writer:
        for table in [tables] if isinstance(tables, pa.Table) else tables:
            writer.write_table(table.cast(TABLES[folder]).replace_schema_metadata(schema.metadata))
        writer.add_key_value_metadata(
            {checksums.NAME: folder.encode() + b"/" + checksums.BLANK_NAME, checksums.KEY: checksums.BLANK}
        )
    return sink


def finish(encoded: io.BytesIO, name: str) -> bytes:
    """Add name and checksums to an encoded segment; return the file's bytes."""
    with encoded.getbuffer() as buffer:
        checksums.fill_in(buffer, name)
    return encoded.getvalue()


def parse_name(folder: str, name: str) -> tuple[int, int]:
    """Split a segment's name into generation and sequence number.

    Raises:
        StoreDamaged: the name is not a segment's.
    """
    match = NAME.fullmatch(name)
    if not match:
        raise StoreDamaged(
            f"{folder}/{name}: not a segment of this store (their names are EPOCH-NUMBER.parquet); "
            "move it elsewhere, or other readers take it for results"
        )
    return int(match[1]), int(match[2])


def listed(storage: Storage, folder: str) -> list[str]:
    """List the names in a folder that are segments or that another reader's glob would take for segments."""
    # Network disks leave hidden names of their own (.nfs0001), which no reader takes for data.
    return [n for n in storage.names(folder) if not n.startswith(".") or n.endswith(".parquet")]


def inspect(storage: Storage, folder: str, name: str) -> Segment:
    """Read a segment's footer.

    Raises:
        StoreDamaged: the file is incomplete, is not raysweep's, or has another schema; the message names it.
        FileNotFoundError: a compaction has merged the file away.
    """
    epoch, sequence = parse_name(folder, name)
    where = f"{folder}/{name}"
    try:
        with storage.open(where) as opened:
            size = opened.size()
            if size == 0:
                raise StoreDamaged(f"{where}: is empty (0 bytes){HINT}")
            pages, checksum = check_footer(opened, size)
            with pq.ParquetFile(opened, pre_buffer=False, **THRIFT_LIMITS) as file:
                values = max_values(file.metadata, folder, size)
                schema, rows = file.schema_arrow, file.metadata.num_rows
                metadata = file.metadata.metadata or {}
                if b"ARROW:schema" not in metadata or (checksum is None and checksums.MARK in (schema.metadata or {})):
                    raise ValueError("its footer is damaged (checksums or schema missing)")
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        reason = (str(error).splitlines() or ["too large"])[0][:200]
        raise StoreDamaged(f"{where}: torn or not Parquet: {reason}{HINT}") from None
    if not schema.remove_metadata().equals(TABLES[folder]):
        raise StoreDamaged(f"{where}: its schema differs from this version's {folder}: {_difference(schema, folder)}")
    if (own := metadata.get(checksums.NAME, where.encode())) != where.encode():
        raise StoreDamaged(f"{where}: holds another segment, which was written as {own.decode(errors='replace')}{HINT}")
    replaced = _replaced(metadata, folder, (epoch, sequence), where)
    counts = _detail_counts(metadata, rows, where) if folder == "attempts" else ()
    return Segment(
        folder, name, epoch, sequence, rows, size, _SEAL in metadata, replaced, values, pages, checksum, counts
    )


def refuse(path: str, error: StoreDamaged) -> None:
    """Raise the error about a damaged file.

    This is the default of `on_damage`. A function that returns may be given instead: then the file is left out.
    """
    raise error


def inspected(storage: Storage, folder: str, names: Sequence[str], on_damage: OnDamage = refuse) -> Iterator[Segment]:
    """Yield the segment of each name, in order. Several are read at once if that is faster on this storage.

    `on_damage` is called with each damaged file's path and error. If it does not raise, the file is left out.
    """
    outcomes = _each(storage, partial(_outcome, partial(inspect, storage, folder)), names)
    for name, outcome in zip(names, outcomes, strict=True):
        if isinstance(outcome, StoreDamaged):
            on_damage(f"{folder}/{name}", outcome)
        else:
            yield outcome


def verify(storage: Storage, segments: Sequence[Segment], on_damage: OnDamage = refuse) -> list[Segment]:
    """Verify every page of the segments against each segment's own checksum, and return the undamaged segments.

    Segments from older versions of raysweep have no such checksum. For them, Parquet's page checksums are verified.

    Args:
        storage: the store's storage.
        segments: the segments.
        on_damage: called with each damaged file's path and error.

    Raises:
        FileNotFoundError: a compaction has merged a file away.
    """
    return [segment for segment, _ in _undamaged(storage, segments, partial(_verify, storage), on_damage)]


def fetch(storage: Storage, segments: Sequence[Segment], on_damage: OnDamage = refuse) -> dict[str, bytes]:
    """Verify segments like `verify`, and return path -> bytes of the undamaged files.

    This saves fetching the bytes a second time.
    """
    fetched = _undamaged(storage, segments, partial(_fetch, storage), on_damage)
    return {segment.path: data for segment, data in fetched}


def _undamaged(
    storage: Storage, segments: Sequence[Segment], function: Callable[[Segment], R], on_damage: OnDamage
) -> Iterator[tuple[Segment, R]]:
    outcomes = _each(storage, partial(_outcome, function), segments)
    for segment, outcome in zip(segments, outcomes, strict=True):
        if isinstance(outcome, StoreDamaged):
            on_damage(segment.path, outcome)
        else:
            yield segment, outcome


def _outcome(function: Callable[[T], R], item: T) -> R | StoreDamaged:
    try:
        return function(item)
    except StoreDamaged as error:
        return error


def _fetch(storage: Storage, segment: Segment) -> bytes:
    data = storage.read(segment.path)
    if data is None:
        raise FileNotFoundError(segment.path)
    with _damage_of(segment), pa.BufferReader(data) as opened:
        _check_pages(segment, opened)
    return data


def _verify(storage: Storage, segment: Segment) -> None:
    with _damage_of(segment), storage.open(segment.path) as opened:
        _check_pages(segment, opened)


def _check_pages(segment: Segment, opened: pa.NativeFile) -> None:
    if opened.size() != segment.size:
        raise OSError(f"{opened.size():,} bytes long, after {segment.size:,} bytes a moment ago")
    if segment.checksum is None:
        with pq.ParquetFile(opened, page_checksum_verification=True, pre_buffer=False) as file:
            for _ in file.iter_batches(READ_ROWS, use_threads=False):
                pass
        return
    checksum, left = 0, segment.pages
    while left and (block := opened.read(min(left, _BLOCK_BYTES))):
        checksum, left = zlib.crc32(block, checksum), left - len(block)
    if checksum != segment.checksum:
        raise OSError("checksum mismatch in its pages")


def _each(storage: Storage, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield a function's results in order. Several are computed at once if that is faster on this storage."""
    if storage.readers == 1 or len(items) < 2:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(storage.readers)
    try:
        yield from pool.map(function, items)
    finally:  # without a wait: the generator may be finalised in one of the pool's own threads
        pool.shutdown(wait=False, cancel_futures=True)


def _difference(schema: pa.Schema, folder: str) -> str:
    expected = TABLES[folder]
    for field in expected:
        index = schema.get_field_index(field.name)
        if index < 0:
            return f"column {field.name!r} is missing"
        if schema.field(index).type != field.type:
            return f"column {field.name!r} is {schema.field(index).type} instead of {field.type}"
    extra = [name for name in schema.names if name not in expected.names]
    first = ", ".join(repr(name[:60]) for name in extra[:5])
    return f"{len(extra):,} unknown columns: {first}" if extra else "its columns are in another order"


def _replaced(metadata: dict[bytes, bytes], folder: str, segment: tuple[int, int], where: str) -> tuple[Run, ...]:
    """Read a footer's list of replaced segments, as runs (generation, first number, last number).

    Raises:
        StoreDamaged: the list is invalid, or names a segment that is not an earlier one of this folder.
    """
    if _REPLACES not in metadata:
        return ()
    try:
        names, runs = json.loads(metadata[_REPLACES]), json.loads(metadata.get(_REPLACED, b"[]"))
        if not isinstance(names, list) or not isinstance(runs, list):
            raise ValueError("not a list")
        direct = [parse_name(folder, str(name)) for name in names]
        replaced = joined([*((epoch, n, n) for epoch, n in direct), *map(_parse_run, runs)])
        if any((epoch, last) >= segment or last >= _LAST for epoch, _, last in replaced):
            raise ValueError("itself, later ones, or the last name, which is a seal's")
        return replaced
    except (ValueError, RecursionError, StoreDamaged):
        raise StoreDamaged(f"{where}: its list of replaced segments is invalid") from None


def _detail_counts(metadata: dict[bytes, bytes], rows: int, where: str) -> DetailCounts:
    if _DETAILS not in metadata:
        return ((UNKNOWN, rows),) if rows else ()
    try:
        counts = tuple((int(count), int(length)) for count, length in json.loads(metadata[_DETAILS]))
        if any(count < UNKNOWN or length < 1 for count, length in counts) or sum(n for _, n in counts) != rows:
            raise ValueError("other numbers than rows")
        return counts
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise StoreDamaged(f"{where}: its numbers of arrays are invalid") from None


def run_lengths(values: Iterable[int]) -> DetailCounts:
    """Run-length encode numbers as pairs (number, how often it is repeated)."""
    return tuple((value, len(list(group))) for value, group in groupby(values))


def repeated_runs(runs: Iterable[tuple[int, int]]) -> DetailCounts:
    """Join neighbouring pairs (number, count) with equal numbers into one pair, with the sum of their counts."""
    return tuple((value, sum(n for _, n in group)) for value, group in groupby(runs, itemgetter(0)))


def _parse_run(run: object) -> Run:
    if isinstance(run, list) and [type(number) for number in run] == [int] * 3:
        epoch, first, last = run
        if 0 <= epoch <= _LAST and 0 <= first <= last:
            return epoch, first, last
    raise ValueError("not a run")


def _with_itself(segment: Segment) -> Iterator[Run]:
    yield segment.epoch, segment.sequence, segment.sequence
    yield from segment.replaces


def joined(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Sort runs of segment numbers, and join those that overlap or touch."""
    union: list[Run] = []
    for epoch, first, last in sorted(runs):
        if union and union[-1][0] == epoch and first <= union[-1][2] + 1:
            union[-1] = epoch, union[-1][1], max(last, union[-1][2])
        else:
            union.append((epoch, first, last))
    return tuple(union)


def replaced_by(segments: Iterable[Segment]) -> Callable[[Segment], bool]:
    """Return a function that tells whether a segment was merged into one of `segments`, directly or through others."""
    runs = joined(run for segment in segments for run in segment.replaces)

    def is_replaced(segment: Segment) -> bool:
        index = bisect_right(runs, (segment.epoch, segment.sequence, _LAST)) - 1
        return index >= 0 and runs[index][0] == segment.epoch and segment.sequence <= runs[index][2]

    return is_replaced


def live(segments: Sequence[Segment]) -> list[Segment]:
    """Select the segments that no compaction has replaced. Files of replaced segments may still exist."""
    is_replaced = replaced_by(segments)
    return [segment for segment in segments if not is_replaced(segment)]


# Rows


def read_segment(storage: Storage, segment: Segment, columns: list[str] | None = None) -> pa.Table:
    """Read all rows of a segment. `columns` selects columns; None reads all.

    Raises:
        StoreDamaged: its pages are damaged.
    """
    _verify(storage, segment)
    # `pq.read_table` would import pyarrow.dataset and pandas: 0.3 s.
    with (
        _damage_of(segment),
        storage.open(segment.path) as opened,
        pq.ParquetFile(opened, page_checksum_verification=True, pre_buffer=False) as file,
    ):
        table = file.read(columns)
    return table.replace_schema_metadata(None)


def entries(arrays: pa.Table) -> int:
    """Return an upper bound on the number of values in the longest column of a table of arrays.

    A list that is null or empty counts as one value.
    """
    import pyarrow.compute as pc  # takes 0.05 s, which most commands need not spend

    lengths = (pc.sum(pc.list_value_length(arrays[name])).as_py() or 0 for name in ("values", "values_f64"))
    return int(arrays.num_rows + max(lengths))


def parts(storage: Storage, segments: Iterable[Segment], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Read segments in order, as tables of about `PART_ROWS` rows or `PART_BYTES` bytes.

    `columns` selects columns; None reads all.

    Raises:
        StoreDamaged: pages of a segment are damaged.
    """
    batches: list[pa.RecordBatch] = []
    rows = size = 0
    for segment in segments:
        for batch in _batches(storage, segment, columns):
            batches.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if rows >= PART_ROWS or size >= PART_BYTES:
                yield pa.Table.from_batches(batches)
                batches, rows, size = [], 0, 0
    if batches:
        yield pa.Table.from_batches(batches)


def _batches(storage: Storage, segment: Segment, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    _verify(storage, segment)
    # Without Arrow's threads: memory that one thread has freed is not reused by another.
    with (
        _damage_of(segment),
        storage.open(segment.path) as opened,
        pq.ParquetFile(opened, page_checksum_verification=True, pre_buffer=False) as file,
    ):
        for group in range(file.num_row_groups):  # a batch of several is in memory twice
            yield from file.iter_batches(READ_ROWS, [group], columns and list(columns), use_threads=False)


@contextlib.contextmanager
def _damage_of(segment: Segment) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise StoreDamaged(f"{segment.path}: damaged: {str(error).splitlines()[0][:200]}{HINT}") from None


def keys(table: pa.Table) -> list[tuple[str, int]]:
    """Return the pair (cell_id, attempt) of each row."""
    return list(zip(table["cell_id"].to_pylist(), table["attempt"].to_pylist(), strict=True))
