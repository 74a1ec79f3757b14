"""The output and metrics of running cells, published every second or two: one file per attempt under `_live/`.

The worker replaces the file in one step; if the worker cannot reach the store, the driver does. The file is
removed once its attempt is recorded. If the launch is killed before that, the store's next owner removes it.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.store.storage.storage import Storage, read_at_most

FOLDER = "_live"
MAX_BYTES, MAX_UNPACKED = 16 * 2**20, 64 * 2**20
_NAME = re.compile(r"([0-9a-f]{24})-(\d{6,9})")


@dataclass(frozen=True)
class Curve:
    """The values that a cell logged under one name. A long curve lacks some of its points."""

    steps: Sequence[int]
    values: Sequence[float]
    times: Sequence[float]  # seconds since 1970, UTC


@dataclass(frozen=True)
class LiveState:
    """The output and the curves of an attempt so far."""

    cell_id: str
    attempt: int
    size: int = 0  # bytes printed
    end: bytes = b""  # the last of them
    curves: Mapping[str, Curve] = field(default_factory=dict)


def path_of(cell_id: str, attempt: int) -> str:
    """Return the path in the store of an attempt's state."""
    return f"{FOLDER}/{cell_id}-{attempt:06d}"


def encode(state: LiveState) -> bytes:
    """Encode a state as compressed JSON."""
    document = {
        "cell": state.cell_id,
        "attempt": state.attempt,
        "size": state.size,
        "end": base64.b85encode(state.end).decode(),
        "curves": {name: [list(c.steps), list(c.values), list(c.times)] for name, c in state.curves.items()},
    }
    return zlib.compress(json.dumps(document).encode(), 1)


def read(storage: Storage, cell_id: str, attempt: int) -> LiveState | None:
    """Read the live state of an attempt; None if the attempt has published none.

    Raises:
        StoreDamaged: raysweep did not write the file, or it is the state of another attempt.
    """
    path = path_of(cell_id, attempt)
    data = read_at_most(storage, path, MAX_BYTES)
    if data is None:
        return None
    try:
        unpacker = zlib.decompressobj()
        document: Any = json.loads(unpacker.decompress(data, MAX_UNPACKED))
        if not unpacker.eof or unpacker.unused_data:
            raise ValueError("cut, or longer than it was written")
        own = (document.get("cell", cell_id), document.get("attempt", attempt))  # earlier versions do not tell
        if own != (cell_id, attempt):
            raise ValueError("the state of another attempt")
        curves = {str(name): _curve(*parts) for name, parts in document["curves"].items()}
        return LiveState(cell_id, attempt, int(document["size"]), base64.b85decode(document["end"]), curves)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, zlib.error):
        raise StoreDamaged(f"{path}: torn or foreign; remove it") from None


def _curve(steps: list[Any], values: list[Any], times: list[Any]) -> Curve:
    if not len(steps) == len(values) == len(times) or not all(-(2**63) <= step < 2**63 for step in steps):
        raise ValueError("columns of different lengths, or a step beyond 64 bits")
    return Curve(list(map(int, steps)), list(map(float, values)), list(map(float, times)))


def read_all(storage: Storage, on_damage: Callable[[str, StoreDamaged], None]) -> list[LiveState]:
    """Read the live states of all attempts that have published one.

    `on_damage` is called with each damaged file's path and error. If it does not raise, the file is skipped.
    """
    states = []
    for match in filter(None, map(_NAME.fullmatch, storage.names(FOLDER))):
        try:
            states.append(read(storage, match[1], int(match[2])))
        except StoreDamaged as error:
            on_damage(f"{FOLDER}/{match[0]}", error)
    return [state for state in states if state is not None]
