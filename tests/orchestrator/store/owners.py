"""Owners of stores that die."""

from __future__ import annotations

from raysweep.orchestrator.store import lease
from raysweep.orchestrator.store.owner import Owner
from raysweep.orchestrator.store.storage.storage import Storage


def let_go(owner: Owner) -> None:
    """Make others presume it dead, as if its machine were cut off from the network."""
    owner._lock.release()
    die(owner.storage, owner.epoch)


def die(storage: Storage, epoch: int) -> None:
    """Let the note of a generation's owner name a process that is not there."""
    fields = {**lease.read_note(storage, epoch).fields, "pid": 2**22 + 5}
    storage.replace(f"_epochs/{epoch:08d}.json", lease.note_bytes(epoch, fields))
