"""Taking a store over: its host's lock, a new epoch, seals on earlier ones. `writer` has the protocol."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from datetime import UTC, datetime

from raysweep.orchestrator.errors import StoreBusy, StoreDamaged
from raysweep.orchestrator.store.holder import (
    BEAT_BYTES,
    LAST_EPOCH,
    about_epoch,
    boot_id,
    busy,
    describe,
    epochs,
    lives_here,
    marked,
    newest_epoch,
    this_process,
)
from raysweep.orchestrator.store.schema import TABLES
from raysweep.orchestrator.store.segments import encode, inspect, inspected, listed, parse_name, segment_name
from raysweep.orchestrator.store.storage.storage import Lock, Storage, read_at_most

DEAD_AFTER_S = 15.0
"""A holder on another machine whose heart has not beaten for so long, by the observer's clock, is dead."""


def take_over(storage: Storage, wait: bool) -> Lock:
    """The host-wide lock of a store that nobody holds, here or elsewhere.

    Raises:
        StoreBusy: it is held, and `wait` is False.
    """
    while True:
        lock = storage.try_lock()
        if lock is not None:
            holder = _living_elsewhere(storage)
            if holder is None:
                return lock
            lock.release()
        else:
            holder = _holder(storage)
        if not wait:
            raise StoreBusy(busy(storage, holder))
        time.sleep(0.5)


def _holder(storage: Storage) -> str:
    epoch = newest_epoch(storage)
    if epoch is None or marked(storage, epoch, "released"):
        return "it has just begun"
    return describe(about_epoch(storage, epoch))


def _living_elsewhere(storage: Storage) -> str | None:
    """Who holds the store on another machine; None if nobody lives."""
    epoch = newest_epoch(storage)
    if epoch is None or marked(storage, epoch, "released"):
        return None
    about = about_epoch(storage, epoch)
    if about.get("boot") == boot_id() and storage.locks:
        return None  # this machine's lock would be held if it lived
    alive = lives_here(about)
    if alive is not None:
        return describe(about) if alive else None
    beat = f"_hb/{epoch:08d}"
    first, until = read_at_most(storage, beat, BEAT_BYTES), time.monotonic() + DEAD_AFTER_S
    while time.monotonic() < until:
        time.sleep(0.5)
        if read_at_most(storage, beat, BEAT_BYTES) != first:
            return describe(about)
        if marked(storage, epoch, "released"):
            return None
    return None


def new_epoch(storage: Storage, command: str) -> int:
    """Begin the next epoch, and say in it who does.

    Raises:
        StoreBusy: somebody else began it first.
        StoreDamaged: there is no next one.
    """
    about = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": boot_id(),
        "process": this_process(),
        "token": secrets.token_hex(8),  # of two owners that begin at once, each knows its own file
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }
    epoch = max(epochs(storage), default=-1) + 1
    if epoch > LAST_EPOCH:
        raise StoreDamaged(f"_epochs/{epoch - 1:08d}.json: foreign: no store has seen so many launches; remove it")
    if not storage.create(f"_epochs/{epoch:08d}.json", json.dumps(about).encode()):
        raise StoreBusy(f"store {storage}: another launch took it at the same moment ({_holder(storage)})")
    return epoch


def seal(storage: Storage, folder: str, epoch: int) -> None:
    """Occupy the epoch's next name. Whoever wins a name, the epoch ends in a seal."""
    while True:
        mine = [n for n in listed(storage, folder) if parse_name(folder, n)[0] == epoch]
        if mine and inspect(storage, folder, mine[-1]).seal:
            return
        following = parse_name(folder, mine[-1])[1] + 1 if mine else _merged_up_to(storage, folder, epoch)
        sealed = encode(folder, TABLES[folder].empty_table(), seal=True)
        storage.create(f"{folder}/{segment_name(epoch, following)}", sealed)


def _merged_up_to(storage: Storage, folder: str, epoch: int) -> int:
    """The first name an epoch without files never used, given what compactions say they merged."""
    everything = inspected(storage, folder, listed(storage, folder))
    return max((last for other in everything for of, _, last in other.replaces if of == epoch), default=-1) + 1
