"""Orders that other commands give to a running launch: files under `_control/`.

The launch's driver reads them every few seconds. EPOCH is the launch's generation. `EPOCH.paused` exists while the
launch is paused. Each `EPOCH-TOKEN.json` lists cells to cancel; the launch removes the file after the cells are
cancelled. Files of earlier generations have no effect and are removed.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Collection
from typing import NamedTuple

from raysweep.orchestrator.errors import RaysweepError, StoreDamaged
from raysweep.orchestrator.store.storage.storage import Storage, read_at_most
from raysweep.orchestrator.text import CELL_ID

FOLDER = "_control"
MAX_BYTES = 2**28
LOOK_S, LOOK_REMOTE_S = 1.0, 5.0
"""Seconds between two reads of `_control/` in a local store, and in a remote store, where each read is a request."""


class Orders(NamedTuple):
    """Orders to a launch: whether it is paused now, and the ids of cells to cancel."""

    paused: bool = False
    cancelled: frozenset[str] = frozenset()


def pause(storage: Storage, epoch: int) -> bool:
    """Pause the launch of a generation; return False if it was already paused."""
    storage.prepare((FOLDER,))
    return storage.create(_paused(epoch), b"")


def unpause(storage: Storage, epoch: int) -> bool:
    """Let a paused launch continue; return False if it was not paused."""
    was_paused = is_paused(storage, epoch)
    storage.delete(_paused(epoch))
    return was_paused


def is_paused(storage: Storage, epoch: int) -> bool:
    """Return whether the launch of a generation is paused."""
    return _paused(epoch).rpartition("/")[2] in storage.names(FOLDER)


def cancel(storage: Storage, epoch: int, cells: Collection[str]) -> str:
    """Order the launch of a generation to cancel cells, and return the path of the order's file.

    The launch removes the file when the cells are cancelled.
    """
    storage.prepare((FOLDER,))
    name = f"{FOLDER}/{epoch:08d}-{secrets.token_hex(8)}.json"
    storage.create(name, json.dumps(sorted(cells)).encode())
    return name


class Control:
    """Reads the orders of other commands for a launch.

    Args:
        storage: the store's storage.
        epoch: the launch's generation.
    """

    def __init__(self, storage: Storage, epoch: int) -> None:
        self._storage, self._prefix = storage, f"{epoch:08d}"
        self._looked, self._orders = -LOOK_REMOTE_S, Orders()
        self._handled: list[str] = []

    def look(self) -> Orders:
        """Return the orders; each cell to cancel is returned only once. The store is read every few seconds only."""
        pause = LOOK_REMOTE_S if self._storage.remote else LOOK_S
        self._orders = self._orders._replace(cancelled=frozenset())
        if time.monotonic() - self._looked >= pause:
            self._looked = time.monotonic()
            with contextlib.suppress(OSError, RaysweepError):  # such as of the network: the next look will tell
                self._orders = self._read()
        return self._orders

    def _read(self) -> Orders:
        for name in self._handled:  # only now have those cells been cancelled
            self._storage.delete(name)
        self._handled = []
        names = self._storage.names(FOLDER)
        own = [f"{FOLDER}/{name}" for name in names if name.startswith(f"{self._prefix}-")]
        old = [f"{FOLDER}/{name}" for name in names if not name.startswith(self._prefix)]
        cells = set[str]().union(*map(self._cells, own))
        self._handled = own + old
        return Orders(f"{self._prefix}.paused" in names, frozenset(cells))

    def _cells(self, name: str) -> set[str]:
        try:
            cells = json.loads(read_at_most(self._storage, name, MAX_BYTES) or b"[]")
        except (ValueError, RecursionError, StoreDamaged):
            return set()
        return {cell for cell in cells if isinstance(cell, str) and CELL_ID.fullmatch(cell)} if cells else set()


def _paused(epoch: int) -> str:
    return f"{FOLDER}/{epoch:08d}.paused"
