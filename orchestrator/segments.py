"""Segments: the store's immutable Parquet files, and what their names and footers say.

`cells/00000003-00000007.parquet` is the eighth segment of the third launch (epoch). Its appearance under
that name is the commit. Footers may carry `raysweep.seal` (a zero-row segment that occupies an earlier
epoch's next name) or `raysweep.replaces` (the names a compaction has merged).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.disk import Disk
from orchestrator.errors import StoreDamaged
from orchestrator.schema import TABLES

_NAME = re.compile(r"(\d{8})-(\d{8})\.parquet")
_SEAL, _REPLACES = b"raysweep.seal", b"raysweep.replaces"


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
    replaces: tuple[str, ...]

    @property
    def path(self) -> str:
        """`folder/name`."""
        return f"{self.folder}/{self.name}"


def segment_name(epoch: int, sequence: int) -> str:
    """The file name of an epoch's n-th segment."""
    return f"{epoch:08d}-{sequence:08d}.parquet"


def encode(folder: str, table: pa.Table, *, seal: bool = False, replaces: Sequence[str] = ()) -> bytes:
    """A segment's bytes: zstd, checksummed pages, float lists split by byte (20 % smaller, cheaper to write)."""
    metadata = {}
    if seal:
        metadata[_SEAL] = b"1"
    if replaces:
        metadata[_REPLACES] = json.dumps(list(replaces)).encode()
    table = table.cast(TABLES[folder]).replace_schema_metadata(metadata or None)
    sink = io.BytesIO()
    split = {
        "column_encoding": {
            "values.list.element": "BYTE_STREAM_SPLIT",
            "values_f64.list.element": "BYTE_STREAM_SPLIT",
        }
    }
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        write_page_checksum=True,
        **({"use_dictionary": ["cell_id", "name"], **split} if folder == "arrays" else {}),
    ) as writer:
        writer.write_table(table)
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


def listed(disk: Disk, folder: str) -> list[str]:
    """Names in a data folder that readers' globs would match or that may be segments."""
    # A network disk leaves hidden names (.nfs0001) of its own, which no reader takes for data.
    return [n for n in disk.names(folder) if not n.startswith(".") or n.endswith(".parquet")]


def inspect(disk: Disk, folder: str, name: str) -> Segment:
    """Read a segment's footer.

    Raises:
        StoreDamaged: it is torn, foreign or of another schema; the message names the file.
        FileNotFoundError: it is gone (merged by a compaction).
    """
    epoch, sequence = parse_name(folder, name)
    where = f"{folder}/{name}"
    size = disk.size(where)
    if size == 0:
        raise StoreDamaged(f"{where}: is empty (0 bytes); `raysweep store check` lists all damage")
    try:
        with pq.ParquetFile(disk.locate(where)) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            metadata = file.metadata.metadata or {}
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise StoreDamaged(f"{where}: torn or not Parquet: {reason}; `raysweep store check` lists all damage") from None
    if not schema.remove_metadata().equals(TABLES[folder]):
        raise StoreDamaged(f"{where}: another schema than this version's {folder}; {_difference(schema, folder)}")
    return Segment(folder, name, epoch, sequence, rows, size, _SEAL in metadata, _replaced(metadata, folder, where))


def _difference(schema: pa.Schema, folder: str) -> str:
    ours, theirs = TABLES[folder], schema
    for field in ours:
        index = theirs.get_field_index(field.name)
        if index < 0:
            return f"column {field.name!r} is missing"
        if theirs.field(index).type != field.type:
            return f"column {field.name!r} is {theirs.field(index).type} instead of {field.type}"
    extra = [name for name in theirs.names if name not in ours.names]
    return f"columns {extra} are unknown" if extra else "its columns stand in another order"


def _replaced(metadata: dict[bytes, bytes], folder: str, where: str) -> tuple[str, ...]:
    raw = metadata.get(_REPLACES)
    if raw is None:
        return ()
    try:
        names = json.loads(raw)
        if not isinstance(names, list):
            raise ValueError("not a list")
        for name in names:
            parse_name(folder, str(name))  # names segments of this folder, and nothing outside it
    except (ValueError, RecursionError, StoreDamaged):
        raise StoreDamaged(f"{where}: its list of replaced segments is not one") from None
    return tuple(str(name) for name in names)


def live(segments: Sequence[Segment]) -> list[Segment]:
    """The segments that count: without those a finished or interrupted compaction has merged."""
    replaced = {name for segment in segments for name in segment.replaces}
    return [segment for segment in segments if segment.name not in replaced]
