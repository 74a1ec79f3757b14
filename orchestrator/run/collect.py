"""Artifacts: the files that a cell left in its folder are read, hashed and written to the store."""

from __future__ import annotations

import hashlib
import mimetypes
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from raysweep.orchestrator.run.messages import Artifact
from raysweep.orchestrator.store.artifacts import content_path, keep, problem_of
from raysweep.orchestrator.store.checkpoints import CheckpointLocation, reachable
from raysweep.orchestrator.sweep.grammar.outputs import Outputs
from raysweep.orchestrator.text import storable

MAX_SENT = 64 * 2**20
"""Maximum bytes of artifacts per attempt that a worker sends to the driver if it cannot reach the store."""
_MAX_ENTRIES = 1_000_000


def collect(
    folder: Path, outputs: Outputs, location: CheckpointLocation | None, cell_id: str, attempt: int
) -> tuple[Artifact, ...]:
    """Return the artifacts of a cell: the files in its folder that the sweep keeps.

    Their content is written to the store. If the store cannot be reached, the artifacts themselves carry it. Links,
    devices and pipes, files with unusable names, and files beyond the limits are listed without content.

    Raises:
        StoreWriteFailed: the store's disk is full.
    """
    storage = reachable(location)[0] if location is not None else None
    limit = int(outputs.max_mib * 2**20)
    if storage is None:
        limit = min(limit, MAX_SENT)
    artifacts: list[Artifact] = []
    size = 0
    for path, name in _files(folder):
        if not outputs.keeps(name):
            continue
        problem = problem_of(name)
        if problem is None and len(artifacts) >= outputs.max_files:
            problem = f"is beyond the limit of {outputs.max_files:,} files"
        if len(artifacts) > outputs.max_files:
            break  # one row tells that there are more
        content = _read(path, limit - size) if problem is None else problem
        if isinstance(content, str):
            artifacts.append(Artifact(storable(name)[:1000], _size(path), None, f"not kept: {content}"))
            continue
        size += len(content)
        digest = hashlib.sha256(content).hexdigest()
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        if storage is not None and location is not None:
            keep(storage, content_path(location.epoch, cell_id, attempt, digest), content)
            artifacts.append(Artifact(name, len(content), digest, kind))
        else:
            artifacts.append(Artifact(name, len(content), digest, kind, content))
    return tuple(artifacts)


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files and links below a folder, at most `_MAX_ENTRIES`, as (path, path relative to the folder)."""
    count = 0
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in sorted([*names, *links]):
            count += 1
            if count > _MAX_ENTRIES:
                return
            path = Path(parent, name)
            yield path, path.relative_to(folder).as_posix()


def _read(path: Path, room: int) -> bytes | str:
    """Return a file's content, or the reason why it cannot be an artifact. At most `room` bytes are allowed."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return "is a link" if path.is_symlink() else f"cannot be read: {error.strerror}"
    with open(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return "is not a regular file"
        content = opened.read(room + 1)
    return content if len(content) <= room else "is beyond the limit of MiB per cell"


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
