"""Small documents beside the tables: sources, environments, and changes of code that the user accepted.

Each document is written before rows refer to it. A file `FOLDER/STEM-DIGEST` holds one line of JSON, then the
compressed text. The line has the checksum of the text and the signature of the user who wrote it. STEM is the key of
the document, DIGEST the digest of the whole file. Each file is written only once.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable
from typing import TypeVar

from raysweep.orchestrator.code.source import Source, decoded, encoded
from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.store.segments import OnDamage, refuse
from raysweep.orchestrator.store.storage.storage import Storage, read_at_most
from raysweep.orchestrator.store.sweeps import is_own, sign

SOURCES, ENVIRONMENTS, ACCEPTED = FOLDERS = "_sources", "_environments", "_accepted"
MAX_BYTES, MAX_UNPACKED = 32 * 2**20, 64 * 2**20
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})")
_LINE = re.compile(rb"\{[^\n]{1,1000}\}\n")

T = TypeVar("T")


def write(storage: Storage, folder: str, stem: str, text: bytes) -> None:
    """Write a document durably, unless this user has already written one with the same stem.

    Args:
        storage: the store's storage.
        folder: the folder.
        stem: 16 hexadecimal characters, the key of the document.
        text: the document's content.
    """
    for name in storage.names(folder):
        if name.startswith(f"{stem}-"):
            try:
                if _read(storage, f"{folder}/{name}")[1]:
                    return
            except StoreDamaged:
                continue
    head = {"sha256": hashlib.sha256(text).hexdigest(), "signed": sign(_to_sign(folder, stem, text))}
    packed = json.dumps(head, sort_keys=True).encode() + b"\n" + zlib.compress(text)
    storage.prepare((folder,))
    storage.create(f"{folder}/{stem}-{hashlib.sha256(packed).hexdigest()[:16]}", packed)


def read(
    storage: Storage, folder: str, stem: str | None, parse: Callable[[bytes], T], on_damage: OnDamage = refuse
) -> list[tuple[T, bool]]:
    """Read the documents of a folder; if `stem` is not None, only those with this stem.

    Returns:
        For each document: (parsed document, whether this user on this machine wrote it).

    Raises:
        StoreDamaged: a document is damaged, and `on_damage` raises.
    """
    entries = []
    for name in storage.names(folder):
        path = f"{folder}/{name}"
        if stem is not None and not name.startswith(f"{stem}-"):
            continue
        try:
            text, own = _read(storage, path)
            try:
                entries.append((parse(text), own))
            except (ValueError, RecursionError) as error:
                raise StoreDamaged(f"{path}: torn or foreign: {str(error)[:200]}") from None
        except StoreDamaged as error:
            on_damage(path, error)
    return entries


def delete(storage: Storage, folder: str, selects: Callable[[bytes], bool]) -> int:
    """Remove the documents of a folder for whose text `selects` returns True, and return their number.

    Raises:
        StoreDamaged: a document of the folder is damaged.
    """
    selected = [f"{folder}/{name}" for name in storage.names(folder) if selects(_read(storage, f"{folder}/{name}")[0])]
    for path in selected:
        storage.delete(path)
    return len(selected)


def _read(storage: Storage, path: str) -> tuple[bytes, bool]:
    folder, _, name = path.partition("/")
    data = read_at_most(storage, path, MAX_BYTES) or b""
    try:
        line = _LINE.match(data)
        if line is None or (match := _NAME.fullmatch(name)) is None:
            raise ValueError("no such document")
        if hashlib.sha256(data).hexdigest()[:16] != match[2]:
            raise ValueError("another content than its name tells")
        head = json.loads(line[0])
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(data[line.end() :], MAX_UNPACKED)
        if not unpacker.eof or unpacker.unused_data or hashlib.sha256(text).hexdigest() != head["sha256"]:
            raise ValueError("wrong checksum")
    except (ValueError, KeyError, TypeError, RecursionError, zlib.error) as error:
        raise StoreDamaged(f"{path}: torn or foreign: {str(error)[:200]}") from None
    return text, is_own(_to_sign(folder, match[1], text), head.get("signed"))


def _to_sign(folder: str, stem: str, text: bytes) -> bytes:
    return f"{folder}/{stem}\n".encode() + text


def write_source(storage: Storage, digest: str, source: Source) -> None:
    """Record a source under its digest."""
    write(storage, SOURCES, digest, encoded(source))


def read_source(storage: Storage, digest: str, on_damage: OnDamage = refuse) -> tuple[Source, bool] | None:
    """Return the source of this digest, and whether this user on this machine recorded it; None if it is not recorded.

    Raises:
        StoreDamaged: the document is damaged or belongs to another digest, and `on_damage` raises.
    """

    def parse(text: bytes) -> Source:
        source = decoded(text)
        if source.digest() not in (None, digest):
            raise ValueError(f"it has another digest than {digest}")
        return source

    entries = read(storage, SOURCES, digest, parse, on_damage)
    return max(entries, key=lambda entry: entry[1], default=None)


def problems(storage: Storage) -> list[str]:
    """Describe each damaged document in one line."""
    lines = []
    for folder in FOLDERS:
        for name in storage.names(folder):
            try:
                text, _ = _read(storage, f"{folder}/{name}")
                if folder == SOURCES and decoded(text).digest() not in (None, name[:16]):
                    raise StoreDamaged(f"{folder}/{name}: torn or foreign: it has another digest")
            except FileNotFoundError:
                continue
            except ValueError as error:
                lines.append(f"{folder}/{name}: torn or foreign: {str(error)[:200]}")
            except StoreDamaged as error:
                lines.append(str(error))
    return lines
