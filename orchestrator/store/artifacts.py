"""The content of artifacts, in files `files/EPOCH/CELL-ATTEMPT-DIGEST`. Rows of the table `artifacts` refer to them.

The files are written before the rows are committed, by a worker or by the driver. A file to which no row refers comes
from an interrupted commit, and is removed by the next owner of the store.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysweep.orchestrator.errors import InputError, StoreDamaged, StoreWriteFailed
from raysweep.orchestrator.store.storage.storage import Storage
from raysweep.orchestrator.text import encodable, short_repr

if TYPE_CHECKING:
    import polars as pl

FOLDER = "files"
MAX_PATH, MAX_BYTES = 1000, 4 * 2**30
"""Maximum number of bytes of an artifact's path, and of its content."""
NAME = re.compile(r"[0-9a-f]{24}-\d{6}-[0-9a-f]{64}")


def content_path(epoch: int, cell_id: str, attempt: int, digest: str) -> str:
    """Return the path in the store of an artifact's content."""
    return f"{FOLDER}/{epoch:08d}/{cell_id}-{attempt:06d}-{digest}"


def keep(storage: Storage, path: str, content: bytes) -> None:
    """Write an artifact's content durably. Artifacts of an attempt with equal content share one file."""
    storage.prepare((path.rpartition("/")[0],))
    storage.create(path, content)


def read_content(storage: Storage, row: Mapping[str, Any]) -> bytes:
    """Read the content to which a row of `artifacts` refers.

    Raises:
        StoreDamaged: the content is missing or differs from its digest, or raysweep did not write the row.
    """
    path, digest, size = named_by(row), row["sha256"], row["bytes"]
    present = _size(storage, path)
    if present is None:
        raise StoreDamaged(f"{path}: is missing: the content of {row['path']!r}")
    content = storage.read(path) if present == size else None
    if content is None or hashlib.sha256(content).hexdigest() != digest:
        raise StoreDamaged(f"{path}: damaged: differs from its digest")
    return content


def named_by(row: Mapping[str, Any]) -> str:
    """Return the path in the store of the content that a row of `artifacts` refers to. The row must have a digest.

    Raises:
        StoreDamaged: raysweep cannot have written the row.
    """
    epoch, cell_id, attempt, digest, size = (row[name] for name in ("epoch", "cell_id", "attempt", "sha256", "bytes"))
    if None in (epoch, cell_id, attempt, digest, size, row["path"]):
        raise StoreDamaged(f"artifacts: a row of cell {cell_id} lacks a value")
    path = content_path(epoch, cell_id, attempt, digest)
    if not NAME.fullmatch(path.rpartition("/")[2]) or not 0 <= size <= MAX_BYTES:
        raise StoreDamaged(f"{path}: foreign: no artifact has such a name or size")
    return path


def _size(storage: Storage, path: str) -> int | None:
    try:
        return storage.size(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def remove_unnamed(storage: Storage, epoch: int, rows: pl.DataFrame) -> None:
    """Remove a generation's artifact files to which no row of `artifacts` refers."""
    names = storage.names(f"{FOLDER}/{epoch:08d}")
    if not names:
        return
    columns = ("epoch", "cell_id", "attempt", "sha256")
    named = {content_path(*row) for row in rows.select(columns).iter_rows() if row[0] == epoch and row[3] is not None}
    for name in names:
        path = f"{FOLDER}/{epoch:08d}/{name}"
        if path not in named and NAME.fullmatch(name):
            try:
                storage.delete(path)
            except StoreWriteFailed:
                return  # the next owner tries again


def problem_of(path: str) -> str | None:
    """Return the reason why an artifact cannot have this path; None if it can. Valid paths are relative, with `/`."""
    parts = path.split("/")
    if not encodable(path) or any(ord(c) < 32 or ord(c) == 127 for c in path):
        return "has control characters or is not UTF-8"
    if any(part in ("", ".", "..") for part in parts) or "\\" in path:
        return "is not a plain relative path"
    if len(path.encode()) > MAX_PATH or any(len(part.encode()) > 255 for part in parts):
        return "is too long"
    return None


def save(content: bytes, folder: Path, path: str) -> bool:
    """Write an artifact under a folder. Returns False if the file already exists with this content.

    Links below the folder are not followed, since the store, and with it the path, may come from a stranger.

    Raises:
        InputError: the path is not a plain relative path, a part of it is a link or a file, or the file exists with
            other content.
    """
    if (problem := problem_of(path)) is not None:
        raise InputError(f"artifact {short_repr(path)}: {problem}; it is not written")
    target = folder
    for part in path.split("/")[:-1]:
        target = target / part
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise InputError(f"{target}: is a link or a file, but a folder is needed there; remove it")
        target.mkdir(exist_ok=True)
    target = target / path.rpartition("/")[2]
    try:
        file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        if not target.is_symlink() and target.is_file() and target.read_bytes() == content:
            return False
        raise InputError(f"{target}: exists with another content; give another --to, or remove it") from None
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror}") from None
    with open(file, "wb") as opened:
        opened.write(content)
    return True


def damage(storage: Storage, rows: pl.DataFrame) -> Iterator[tuple[dict[str, Any], StoreDamaged]]:
    """Yield each row whose content is missing or damaged, with an error that describes the damage."""
    for row in rows.iter_rows(named=True):
        try:
            if row["sha256"] is not None:
                read_content(storage, row)
        except StoreDamaged as error:
            yield row, error
