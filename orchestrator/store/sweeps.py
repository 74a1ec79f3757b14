"""Recorded sweeps: which cells each launch requested. Each is a file under `_sweeps/`, signed by its user.

A store may come from a stranger, and `resume` imports the modules that a recorded sweep names. So a launch signs its
records with a key that never leaves the user's own folder on this machine. A sweep without this signature is run only
if the user allows it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import io
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.store.storage.storage import Storage, read_at_most
from raysweep.orchestrator.store.untrusted import MAX_SWEEP, check_cells, parse_frame, parse_head
from raysweep.orchestrator.sweep.cells import (
    CELLS_SCHEMA,
    LATER,
    VARIANT,
    VARIANTS_SCHEMA,
    CellTable,
    merge,
    without_empty,
)
from raysweep.orchestrator.sweep.spec import Sweep

_SIGNED = "signed"
_MAX_PARTS = 4
_KEY_BYTES = 32


@dataclass(frozen=True)
class RecordedSweep:
    """A sweep as a launch recorded it. `metadata` holds its file's text and the overrides, `table` its cells."""

    metadata: Mapping[str, Any]
    table: CellTable
    own: bool = False  # recorded by this user on this machine

    @property
    def key(self) -> tuple[str, str]:
        """The sweep's name and path. The name alone is not unique, since two sweep files may have the same one."""
        return self.metadata["name"], self.metadata["path"]

    @functools.cached_property
    def requested(self) -> pl.DataFrame:
        """The requested cells: cell_id, seed, retries, the columns `cells.VARIANT`, and place.

        `place` is the position of the cell's seed among the seeds of this record, from 0.
        """
        wide = self.table.wide().select("cell_id", "seed", "retries", *VARIANT)
        seeds = wide.select(pl.col("seed").unique(maintain_order=True)).with_row_index("place")
        return wide.join(seeds, on="seed", maintain_order="left").with_columns(pl.col("place").cast(pl.Int64))

    def sweep(self) -> Sweep:
        """Return the sweep as its file defined it, without the overrides of its launch."""
        path = self.metadata["path"]
        return Sweep.from_text(self.metadata["text"], Path(path) if path else None)


def known_cells(recorded: Sequence[RecordedSweep]) -> CellTable:
    """Merge the cells of these sweeps, which begin with the oldest.

    A cell has the resources with which it was requested last.
    """
    return merge([entry.table for entry in reversed(recorded)])


def sweep_bytes(metadata: Mapping[str, Any], table: CellTable) -> bytes:
    """Encode a recorded sweep: metadata as JSON, variants and cells as Arrow files, and a checksum."""
    frames = [_ipc(without_empty(table.variants)), _ipc(table.cells)]
    signed = {**metadata, _SIGNED: sign(_to_sign(metadata, frames))}
    parts = [json.dumps(signed, sort_keys=True).encode(), *frames]
    parts.append(_checksum(parts))
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def _to_sign(metadata: Mapping[str, Any], frames: Sequence[bytes]) -> bytes:
    rest = {name: value for name, value in metadata.items() if name != _SIGNED}
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
    """Read a recorded sweep from the store.

    Raises:
        StoreDamaged: the file is incomplete, raysweep did not write it, or it holds the sweep of another file.
    """
    with _damage_of(name):
        metadata, variants, cells = _parts(storage, name)
        table = CellTable(parse_frame(variants, VARIANTS_SCHEMA, LATER), parse_frame(cells, CELLS_SCHEMA))
        check_cells(table)
    return RecordedSweep(metadata, table, is_own(_to_sign(metadata, [variants, cells]), metadata.get(_SIGNED)))


def is_own_record(storage: Storage, name: str) -> bool:
    """Tell whether this user wrote a recorded sweep. Its cells are not parsed: the signature covers them.

    Raises:
        StoreDamaged: the file is incomplete.
    """
    with _damage_of(name):
        metadata, variants, cells = _parts(storage, name)
    return is_own(_to_sign(metadata, [variants, cells]), metadata.get(_SIGNED))


def _parts(storage: Storage, name: str) -> tuple[dict[str, Any], bytes, bytes]:
    """Read the metadata of a recorded sweep, and the Arrow files of its variants and cells."""
    data = read_at_most(storage, f"_sweeps/{name}", MAX_SWEEP) or b""
    parts: list[bytes] = []
    at = 0
    while at + 8 <= len(data) and len(parts) <= _MAX_PARTS:
        size = int.from_bytes(data[at : at + 8], "little")
        parts.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    head, variants, cells, *checksum = parts
    if at != len(data) or checksum not in ([], [_checksum(parts[:3])]):  # the oldest files have no checksum
        raise ValueError("wrong checksum")
    metadata = parse_head(head)
    if not name.startswith(own := str(metadata.get("digest", ""))):  # files of earlier versions tell none
        raise ValueError(f"it holds the sweep that was recorded as {own}.arrow")
    return metadata, variants, cells


@contextlib.contextmanager
def _damage_of(name: str) -> Iterator[None]:
    where = f"_sweeps/{name}"
    try:
        yield
    except (ValueError, KeyError, RecursionError, MemoryError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        message = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise StoreDamaged(f"{where}: torn or foreign: {message}") from None
    except OSError as error:  # Arrow raises it, too
        raise StoreDamaged(f"{where}: torn or foreign: {str(error)[:200]}") from None


# Signatures


def sign(data: bytes) -> str | None:
    """Sign bytes with the user's key. Returns None if no key can be stored (no home folder, or a read-only one)."""
    key = _key(create=True)
    return None if key is None else hmac.new(key, data, hashlib.sha256).hexdigest()


def is_own(data: bytes, signature: object) -> bool:
    """Tell whether `signature` is this user's signature of these bytes."""
    key = _key(create=False)
    if key is None or not isinstance(signature, str) or not signature.isascii():
        return False
    return hmac.compare_digest(hmac.new(key, data, hashlib.sha256).hexdigest(), signature)


def key_path() -> Path | None:
    """Return the key file's path in `XDG_STATE_HOME` (default: `~/.local/state`); None without an absolute path."""
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:  # no such user's home
        return None
    return state / "raysweep" / "key" if state.is_absolute() else None


def _key(*, create: bool) -> bytes | None:
    path = key_path()
    if path is None:
        return None
    try:
        if create and not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_name(f"key.{secrets.token_hex(8)}")
            try:
                with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(secrets.token_bytes(_KEY_BYTES))
                os.link(temporary, path)  # two first launches at the same time use the same key
            except FileExistsError:
                pass
            finally:
                temporary.unlink(missing_ok=True)
        key = path.read_bytes()
    except OSError:
        return None
    return key if len(key) == _KEY_BYTES else None
