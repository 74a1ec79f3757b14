"""A long cell's checkpoints: bytes that its next attempt goes on from, on this machine or another.

They lie in the store under `checkpoints/CELL/ATTEMPT-NUMBER-SOURCE-DIGEST`. The file holds the workload's bytes
and nothing else; its name says the rest, so that a torn file is known by its digest, and one that other
code wrote is not gone on from. Two are kept; the driver removes them when the cell's row is committed.

A worker that does not see the launch's store (a local path, from another machine) keeps them on its own
disk, where only a later attempt on that machine finds them; the driver is told, and warns.
"""

from __future__ import annotations

import hashlib
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.storage.scratch import scratch
from raysweep.orchestrator.store.storage.storage import Storage, open_storage
from raysweep.orchestrator.text import CELL_ID

FOLDER = "checkpoints"
KEPT = 2
_NAME = re.compile(r"(\d{6})-(\d{8})-([0-9a-f]{16})-([0-9a-f]{64})")


class CheckpointLocation(NamedTuple):
    """Where a launch keeps checkpoints.

    Args:
        location: the store's, absolute.
        proof: a file of the store that this very launch wrote, and `digest`, the sha256 of its bytes: a folder
            of the same name on another machine is not the store.
        host: the driver's.
    """

    location: str
    proof: str
    digest: str
    host: str = socket.gethostname()


class Preempted(BaseException):
    """Raised by `save` in a cell whose node is about to go. Not an `Exception`: a cell lets it through."""


class _Saved(NamedTuple):
    attempt: int
    number: int
    source: str
    digest: str

    @property
    def name(self) -> str:
        return f"{self.attempt:06d}-{self.number:08d}-{self.source}-{self.digest}"


class Checkpoint:
    """What a workload gets as `context.checkpoint`. Touches no disk before it is used.

    Args:
        home: None for a chunk that belongs to no store.
        cell_id: the cell.
        attempt: the attempt that runs.
        source: 16 hex characters of the workload's source; checkpoints of other code are not loaded.
    """

    def __init__(self, home: CheckpointLocation | None, cell_id: str, attempt: int, source: str) -> None:
        self._home, self._attempt, self._source = home, attempt, source
        self._folder = f"{FOLDER}/{cell_id}"
        self._opened: Storage | None = None
        self.draining = False  # the node will go away soon: `save` does not return
        self.used = False  # there is or was one, to be removed at success
        self.is_local = False  # kept on this machine's own disk, which no other sees

    def save(self, data: bytes) -> None:
        """Keep these bytes, durably, in place of the last but one that was kept.

        Does not return where the node is about to go: the cell is handed back, and goes on from here elsewhere.

        Raises:
            TypeError: not bytes.
            StoreWriteFailed: they could not be written; what was saved before is still there.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"checkpoint.save takes bytes, not {type(data).__name__}; serialise the state first")
        data = bytes(data)
        storage, digest = self._disk(), hashlib.sha256(data).hexdigest()
        self.used = True
        storage.prepare((self._folder,))
        before = _saved(storage, self._folder)
        new = _Saved(self._attempt, max((s.number for s in before), default=-1) + 1, self._source, digest)
        storage.create(f"{self._folder}/{new.name}", data)
        # In order of attempts: a late writer of an earlier one can't push out what a later one has saved.
        for old in sorted([*before, new])[:-KEPT]:
            storage.delete(f"{self._folder}/{old.name}")
        if self.draining:
            raise Preempted("the node is about to go; the cell goes on from its checkpoint elsewhere")

    def load(self) -> bytes | None:
        """The bytes last saved by any attempt at this cell; None at the first, or where none can be read."""
        storage = self._disk()
        found = _saved(storage, self._folder)
        self.used = self.used or bool(found)
        for saved in sorted(found, reverse=True):
            if saved.source != self._source:
                _say(f"checkpoint {saved.name}: written by other code than now runs; not gone on from")
                continue
            data = storage.read(f"{self._folder}/{saved.name}")
            if data is not None and hashlib.sha256(data).hexdigest() == saved.digest:
                _say(f"goes on from a checkpoint of attempt {saved.attempt}")
                return data
            _say(f"checkpoint {saved.name}: damaged; the one before is tried")
        return None

    def forget(self) -> None:
        """Remove those that the driver can't reach."""
        if self.is_local and self.used:
            self._disk().delete_folder(self._folder)

    def _disk(self) -> Storage:
        if self._opened is None:
            if self._home is None:
                raise RuntimeError("this cell runs outside a launch: there is no store to keep checkpoints in")
            try:
                store = open_storage(self._home.location)
                proof = store.read(self._home.proof)
            except InputError as error:  # a machine without credentials for the launch's bucket, say
                _say(f"checkpoints stay on this machine: {error}")
                proof = None
            self.is_local = proof is None or hashlib.sha256(proof).hexdigest() != self._home.digest
            self._opened = open_storage(str(local_folder(self._home))) if self.is_local else store
            if self.is_local:
                self._opened.prepare((FOLDER, "_tmp"))
        return self._opened


def _saved(storage: Storage, folder: str) -> list[_Saved]:
    matches = [m for name in storage.names(folder) if (m := _NAME.fullmatch(name))]
    return [_Saved(int(m[1]), int(m[2]), m[3], m[4]) for m in matches]


def local_folder(home: CheckpointLocation) -> Path:
    """Where a machine that does not see the store keeps its cells' checkpoints; the same for every launch."""
    key = hashlib.sha256(f"{home.host}:{home.location}".encode()).hexdigest()[:16]
    return scratch() / f"store-{key}"


def cells_with_checkpoints(storage: Storage) -> list[str]:
    """Ids of the cells that have any in the store."""
    return [name for name in storage.names(FOLDER) if CELL_ID.fullmatch(name)]


def cells_to_go_on(storage: Storage, sources: Mapping[str, str]) -> list[str]:
    """Ids of those of these cells that have one which the code that now runs them would go on from.

    Args:
        storage: the store's.
        sources: cell id -> its workload's `source_digest`.
    """
    return [c for c, source in sources.items() if any(s.source == source for s in _saved(storage, f"{FOLDER}/{c}"))]


def _say(line: str) -> None:
    sys.stderr.write(f"raysweep: {line}\n")  # into the cell's log
