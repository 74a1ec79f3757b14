"""Checkpoints of long cells: bytes from which a cell's next attempt resumes, on this machine or another.

Checkpoints lie in the store under `checkpoints/CELL/ATTEMPT-NUMBER-SOURCE-DIGEST`. The file holds the workload's
bytes and nothing else. NUMBER counts the checkpoints of the cell. SOURCE is the digest of the workload's source: a
checkpoint of other code is not loaded. DIGEST, the digest of the bytes, reveals an incomplete file. At most two
checkpoints are stored per cell. The driver removes them when the cell's row is committed.

A worker may have no access to the launch's store, for example if the store is a folder on another machine. Then it
stores checkpoints on its own disk, and only a later attempt on the same machine finds them. The driver warns about
this.
"""

from __future__ import annotations

import functools
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
    """The place where a launch stores checkpoints.

    Args:
        location: the store's absolute path or address.
        proof: name of a file that only this launch wrote into the store. A folder of the same path on another machine
            lacks this file.
        digest: sha256 of that file's bytes.
        host: the driver's host.
    """

    location: str
    proof: str
    digest: str
    host: str = socket.gethostname()

    @property
    def epoch(self) -> int:
        """The launch's generation."""
        return int(re.sub(r"\D", "", self.proof) or 0)


@functools.lru_cache(maxsize=8)
def reachable(location: CheckpointLocation) -> tuple[Storage | None, str | None]:
    """Return (the launch's store, error message). The store is None if this machine cannot reach it.

    The message is None if there was no error. The result is cached in each process.
    """
    try:
        store = open_storage(location.location)
        proof = store.read(location.proof)
    except InputError as error:  # such as: no credentials for the launch's bucket on this machine
        return None, str(error)
    is_store = proof is not None and hashlib.sha256(proof).hexdigest() == location.digest
    return store if is_store else None, None


class Preempted(BaseException):
    """Ends a cell on a draining node, once its checkpoint is saved.

    It is not an `Exception`, so that a cell's `except Exception` does not catch it.
    """


class _Saved(NamedTuple):
    attempt: int
    number: int
    source: str
    digest: str

    @property
    def name(self) -> str:
        return f"{self.attempt:06d}-{self.number:08d}-{self.source}-{self.digest}"


class Checkpoint:
    """Loads and saves the checkpoints of one cell (`context.checkpoint`). Storage is opened at the first use.

    Args:
        location: the place of the checkpoints; None outside a launch.
        cell_id: the cell's id.
        attempt: the number of the running attempt.
        source: the workload's source digest, 16 hex characters. Checkpoints of other code are not loaded.
    """

    def __init__(self, location: CheckpointLocation | None, cell_id: str, attempt: int, source: str) -> None:
        self._location, self._attempt, self._source = location, attempt, source
        self._folder = f"{FOLDER}/{cell_id}"
        self._opened: Storage | None = None
        self.draining = False  # the node is draining: `save` does not return
        self.used = False  # a checkpoint exists or existed, to be removed at success
        self.is_local = False  # stored on this machine's own disk, which no other machine sees

    def save(self, data: bytes) -> None:
        """Store these bytes durably. Of the earlier checkpoints only the latest is kept.

        On a draining node this raises `Preempted` after the bytes are stored. The cell is queued again, and resumes
        from them on another node.

        Raises:
            TypeError: the argument is not bytes.
            StoreWriteFailed: the bytes could not be written; earlier checkpoints still exist.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"checkpoint.save takes bytes, not {type(data).__name__}; serialise the state first")
        data = bytes(data)
        storage, digest = self._storage(), hashlib.sha256(data).hexdigest()
        self.used = True
        storage.prepare((self._folder,))
        earlier = _saved(storage, self._folder)
        new = _Saved(self._attempt, max((s.number for s in earlier), default=-1) + 1, self._source, digest)
        storage.create(f"{self._folder}/{new.name}", data)
        # Sorted by attempt, so that a late writer of an earlier attempt cannot displace a later attempt's checkpoint.
        for old in sorted([*earlier, new])[:-KEPT]:
            storage.delete(f"{self._folder}/{old.name}")
        if self.draining:
            raise Preempted("the node is draining; the cell resumes from its checkpoint elsewhere")

    def load(self) -> bytes | None:
        """Load the newest undamaged checkpoint that the same code has saved for this cell; None if it has none."""
        storage = self._storage()
        checkpoints = _saved(storage, self._folder)
        self.used = self.used or bool(checkpoints)
        for saved in sorted(checkpoints, reverse=True):
            if saved.source != self._source:
                _log(f"checkpoint {saved.name}: written by other code; not loaded")
                continue
            data = storage.read(f"{self._folder}/{saved.name}")
            if data is not None and hashlib.sha256(data).hexdigest() == saved.digest:
                _log(f"resumed from a checkpoint of attempt {saved.attempt}")
                return data
            _log(f"checkpoint {saved.name}: damaged; trying the previous one")
        return None

    def forget(self) -> None:
        """Remove the cell's checkpoints from this machine's own disk. The driver cannot do this from its machine."""
        if self.is_local and self.used:
            self._storage().delete_folder(self._folder)

    def _storage(self) -> Storage:
        if self._opened is None:
            if self._location is None:
                raise RuntimeError("this cell runs outside a launch: there is no store for its checkpoints")
            store, problem = reachable(self._location)
            if problem is not None:
                _log(f"checkpoints stay on this machine: {problem}")
            self.is_local = store is None
            self._opened = open_storage(str(local_folder(self._location))) if store is None else store
            if self.is_local:
                self._opened.prepare((FOLDER, "_tmp"))
        return self._opened


def _saved(storage: Storage, folder: str) -> list[_Saved]:
    matches = [m for name in storage.names(folder) if (m := _NAME.fullmatch(name))]
    return [_Saved(int(m[1]), int(m[2]), m[3], m[4]) for m in matches]


def local_folder(location: CheckpointLocation) -> Path:
    """Return the folder for checkpoints on a machine that cannot reach the store. Launches on one store share it."""
    key = hashlib.sha256(f"{location.host}:{location.location}".encode()).hexdigest()[:16]
    return scratch() / f"store-{key}"


def cells_with_checkpoints(storage: Storage) -> list[str]:
    """Return the ids of the cells that have a checkpoint in the store."""
    return [name for name in storage.names(FOLDER) if CELL_ID.fullmatch(name)]


def resumable_cells(storage: Storage, sources: Mapping[str, str]) -> list[str]:
    """Return the ids of the cells with a checkpoint of their present code.

    `sources` maps a cell's id to the source digest of this code.
    """
    return [c for c, source in sources.items() if any(s.source == source for s in _saved(storage, f"{FOLDER}/{c}"))]


def _log(line: str) -> None:
    sys.stderr.write(f"raysweep: {line}\n")  # captured in the cell's log
