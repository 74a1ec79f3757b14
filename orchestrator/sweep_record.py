"""Recorded sweeps: what a launch asked for, as a file of the store under `_sweeps/`."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from orchestrator.cells import CELLS_SCHEMA, VARIANTS_SCHEMA, CellTable
from orchestrator.disk import Disk
from orchestrator.errors import StoreDamaged


@dataclass(frozen=True)
class RecordedSweep:
    """A sweep as a launch recorded it: `about` is its file and overrides, `table` its cells."""

    about: Mapping[str, Any]
    table: CellTable

    @property
    def key(self) -> tuple[str, str]:
        """Name and path: two files may give one name."""
        return self.about["name"], self.about["path"]


def sweep_bytes(about: Mapping[str, Any], table: CellTable) -> bytes:
    """A recorded sweep as bytes: the rest as JSON, its variants and its cells as Arrow files, a checksum."""
    parts = [json.dumps(about, sort_keys=True).encode(), _ipc(table.variants), _ipc(table.cells)]
    parts.append(_checksum(parts))
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def _ipc(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_ipc(sink, compression="zstd")
    return sink.getvalue()


def _checksum(parts: list[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def read_sweep(disk: Disk, name: str) -> RecordedSweep:
    """Read back what `sweep_bytes` wrote.

    Raises:
        StoreDamaged: the file is torn or foreign.
    """
    data = disk.read(f"_sweeps/{name}") or b""
    parts, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        parts.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    try:
        head, variants, cells, *checksum = parts
        if at != len(data) or checksum not in ([], [_checksum(parts[:3])]):  # the first ones had none
            raise ValueError("its checksum is another")
        about = json.loads(head)
        table = CellTable(pl.read_ipc(variants), pl.read_ipc(cells))
        if dict(table.variants.schema) != VARIANTS_SCHEMA or dict(table.cells.schema) != CELLS_SCHEMA:
            raise ValueError("other columns")
    except (ValueError, RecursionError, pl.exceptions.PolarsError, OSError) as error:
        raise StoreDamaged(f"_sweeps/{name}: torn or foreign: {error}") from None
    return RecordedSweep(about, table)
