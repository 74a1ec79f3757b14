"""The key `inputs` of a sweep file: files that its cells read, such as configuration or data."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from raysweep.orchestrator.code.source import MAX_FILE
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.text import encodable, short_repr
from raysweep.workloads.registry import unknown_name

MAX_FILES, MAX_BYTES = 10_000, 2**30
"""Maximum number of the input files, and maximum of their total bytes.

There are limits because the files are read each time a launch is planned.
"""
SETTLED_NS = 2 * 10**9
"""Minimum age of a file's last change, in nanoseconds, for the file to be cached.

A file that changed more recently could change again and keep the same modification time.
"""
_KEYS = ("files", "identity")


@dataclass(frozen=True)
class Inputs:
    """The files that the cells of a sweep read.

    Args:
        patterns: the files, relative to the sweep file's folder; a folder stands for all files in it.
        identity: whether the files' content is part of each cell's id. If not, new content makes done cells
            "changed".
    """

    patterns: tuple[str, ...]
    identity: bool = False


class InputFile(NamedTuple):
    """A file that cells read: the SHA-256 of its content, and the content itself, which is None for a large file."""

    sha256: str
    content: bytes | None


def read_inputs(raw: Mapping[str, Any], problems: list[str]) -> Inputs | None:
    """Read the key `inputs` of a sweep file; None if it is missing or invalid. Problems are added to `problems`."""
    if "inputs" not in raw:
        return None
    value = raw["inputs"]
    table = value if isinstance(value, dict) else {"files": value}
    problems.extend(f"inputs: {unknown_name('key', key, _KEYS)}" for key in table if key not in _KEYS)
    identity = table.get("identity", False)
    if not isinstance(identity, bool):
        problems.append(f"inputs.identity: {short_repr(identity)} is neither true nor false")
    patterns = table.get("files")
    if not isinstance(patterns, list) or not patterns or not all(map(_is_pattern, patterns)):
        problems.append(
            f"inputs: {short_repr(value)} is not a list of files below the sweep file's folder, "
            'such as ["configs/*.yaml"]'
        )
        return None
    return Inputs(tuple(patterns), identity is True)


def _is_pattern(value: Any) -> bool:
    if not isinstance(value, str) or not value or len(value) > 1000 or not encodable(value):
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in value


def files_of(inputs: Inputs, folder: str) -> dict[str, InputFile]:
    """Find and read the input files; return path relative to the folder -> file.

    Raises:
        InputError: a pattern matches no file, a file cannot be read, or the files are too many or too large.
    """
    root = Path(folder)
    names: set[str] = set()
    problems = []
    for pattern in inputs.patterns:
        path = root / pattern
        paths = path.rglob("*") if path.is_dir() else root.glob(os.path.normpath(pattern))
        matched = {p.relative_to(root).as_posix() for p in paths if p.is_file() and "__pycache__" not in p.parts}
        if not matched:
            problems.append(f"inputs: {pattern!r} matches no file in {root}")
        names |= matched
    size = sum((root / name).stat().st_size for name in names)
    if len(names) > MAX_FILES or size > MAX_BYTES:
        problems.append(
            f"inputs: {len(names):,} files of {size / 2**20:,.0f} MiB; at most {MAX_FILES:,} files and "
            f"{MAX_BYTES / 2**20:,.0f} MiB are possible; name a file that lists their checksums instead"
        )
    if problems:
        raise InputError(problems)
    try:
        return {name: _read(root / name) for name in sorted(names)}
    except OSError as error:
        raise InputError(f"inputs: {error.filename}: {error.strerror}") from None


_read_before: dict[tuple[str, int, int, int], InputFile] = {}
"""Cache: (path, inode, size, modification time in ns) -> the file as it was read."""


def _read(path: Path) -> InputFile:
    stat = path.stat()
    key = str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns
    known = _read_before.get(key)
    if known is None:
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            text = file.read(MAX_FILE + 1)
            digest.update(text)
            while part := file.read(2**20):
                digest.update(part)
        known = InputFile(digest.hexdigest(), text if len(text) <= MAX_FILE else None)
        if time.time_ns() - stat.st_mtime_ns > SETTLED_NS:
            _read_before[key] = known
    return known
