"""Recorded sweeps: what a launch asked for, as a file of the store under `_sweeps/`.

A store may come from a stranger: what is read back is checked in full, and says whether this user recorded it.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.store.signature import is_own, sign
from raysweep.orchestrator.store.storage.storage import Storage, read_at_most
from raysweep.orchestrator.sweep.cells import CELLS_SCHEMA, VARIANTS_SCHEMA, CellTable, merge
from raysweep.orchestrator.text import CELL_ID

MAX_BYTES, MAX_UNPACKED, MAX_HEAD = 512 * 2**20, 2 * 2**30, 16 * 2**20
"""Of a recorded sweep: five million cells take about 70 MiB, and 260 in memory; its head holds the sweep's file."""
_SIGNED = "signed"


@dataclass(frozen=True)
class RecordedSweep:
    """A sweep as a launch recorded it: `about` is its file and overrides, `table` its cells."""

    about: Mapping[str, Any]
    table: CellTable
    own: bool = False  # recorded by this user on this machine

    @property
    def key(self) -> tuple[str, str]:
        """Name and path: two files may give one name."""
        return self.about["name"], self.about["path"]


def known_cells(recorded: Sequence[RecordedSweep]) -> CellTable:
    """Every cell that any of these asked for, with the resources and limits of the last that did.

    Args:
        recorded: oldest first.
    """
    return merge([entry.table for entry in reversed(recorded)])


def sweep_bytes(about: Mapping[str, Any], table: CellTable) -> bytes:
    """A recorded sweep as bytes: the rest as JSON, its variants and its cells as Arrow files, a checksum."""
    frames = [_ipc(table.variants), _ipc(table.cells)]
    signed = {**about, _SIGNED: sign(_to_sign(about, frames))}
    parts = [json.dumps(signed, sort_keys=True).encode(), *frames]
    parts.append(_checksum(parts))
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def _to_sign(about: Mapping[str, Any], frames: Sequence[bytes]) -> bytes:
    rest = {name: value for name, value in about.items() if name != _SIGNED}
    return _checksum([json.dumps(rest, sort_keys=True).encode(), b"\0", *frames])


def _ipc(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_ipc(sink, compression="zstd")
    return sink.getvalue()


def _checksum(parts: Sequence[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def read_sweep(storage: Storage, name: str) -> RecordedSweep:
    """Read back what `sweep_bytes` wrote.

    Raises:
        StoreDamaged: the file is torn or foreign.
    """
    where = f"_sweeps/{name}"
    data = read_at_most(storage, where, MAX_BYTES) or b""
    parts: list[bytes] = []
    at = 0
    while at + 8 <= len(data) and len(parts) < _PARTS:
        size = int.from_bytes(data[at : at + 8], "little")
        parts.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    try:
        head, variants, cells, *checksum = parts
        if at != len(data) or checksum not in ([], [_checksum(parts[:3])]):  # the first ones had none
            raise ValueError("its checksum is another")
        about = _about(head)
        table = CellTable(_frame(variants, VARIANTS_SCHEMA), _frame(cells, CELLS_SCHEMA))
        _check(table)
    except (ValueError, KeyError, RecursionError, MemoryError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise StoreDamaged(f"{where}: torn or foreign: {said}") from None
    except OSError as error:  # of Arrow, too
        raise StoreDamaged(f"{where}: torn or foreign: {str(error)[:200]}") from None
    return RecordedSweep(about, table, is_own(_to_sign(about, [variants, cells]), about.get(_SIGNED)))


_PARTS = 5  # one more than there may be
_MAX_BATCHES = 10_000


def _about(head: bytes) -> dict[str, Any]:
    if len(head) > MAX_HEAD:
        raise ValueError(f"a head of {len(head):,} bytes")
    about = json.loads(head)
    if not isinstance(about, dict):
        raise ValueError("its head is no table")
    for name, kinds in {"name": (str,), "text": (str,), "path": (str, type(None)), "search": (list,)}.items():
        if not isinstance(about.get(name), kinds):
            raise ValueError(f"{name!r} is missing or of another kind")
    if not all(isinstance(folder, str) for folder in about["search"]):
        raise ValueError("'search' is no list of folders")
    return about


_PACKED = re.compile(rb"(.{8})(?:\x28\xb5\x2f\xfd|\x04\x22\x4d\x18)", re.DOTALL)
"""A compressed buffer of an Arrow file: how long it is unpacked, and the mark that zstd or lz4 begin with."""


def _frame(data: bytes, schema: Mapping[str, Any]) -> pl.DataFrame:
    # Not by polars, whose reader takes the file at its word: other offsets than it expects end the process.
    sizes = (int.from_bytes(found[1], "little") for found in _PACKED.finditer(data))
    if sum(size for size in sizes if size < 2**48) > MAX_UNPACKED:  # larger ones: by chance, or refused by Arrow
        raise ValueError(f"it unpacks to more than {MAX_UNPACKED:,} bytes")
    file = pa.ipc.open_file(pa.py_buffer(data))
    if file.num_record_batches > _MAX_BATCHES or file.schema.names != list(schema):
        raise ValueError(f"{file.num_record_batches:,} batches of other columns")
    batches, held = [], 0
    for number in range(file.num_record_batches):
        batches.append(file.get_batch(number))
        held += batches[-1].nbytes
        if held > MAX_UNPACKED:
            raise ValueError(f"it takes more than {MAX_UNPACKED:,} bytes in memory")
    table = pa.Table.from_batches(batches, file.schema)
    table.validate(full=True)
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame) or dict(frame.schema) != schema:
        raise ValueError("other columns")
    return frame


def _check(table: CellTable) -> None:
    """Raise ValueError for what no sweep can ask for."""
    variants, cells = table.variants, table.cells
    optional = ("k", "cost_hint", "memory_gib", "timeout_s", "source_digest")
    if variants.drop(optional).null_count().row(0) != (0,) * (variants.width - len(optional)):
        raise ValueError("a variant lacks a value")
    if variants["variant"].to_list() != list(range(variants.height)):
        raise ValueError("its variants are not numbered from 0")
    if cells.null_count().row(0) != (0,) * cells.width or not (cells["variant"] < variants.height).all():
        raise ValueError("a cell lacks its variant, seed or id")
    if not cells["cell_id"].str.contains(f"^{CELL_ID.pattern}$").all():
        raise ValueError("an id is no cell's (24 hex characters)")
    limits = {"cpus": 2.0**-20, "gpus": 0.0, "memory_gib": 2.0**-20, "timeout_s": 2.0**-20, "retries": 0}
    for name, least in limits.items():
        if not all(math.isfinite(v) and least <= v <= 1e9 for v in variants[name].drop_nulls()):
            raise ValueError(f"{name} is out of bounds")
    for text in variants["config"].unique():
        if not isinstance(json.loads(text), dict):
            raise ValueError("a config is no table")
