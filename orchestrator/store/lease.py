"""Ownership of a store: whether the owner lives, how it is replaced, generations and seals (see `writer`).

A *generation* is the ownership of one launch. Names of files and columns call it the epoch.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from raysweep.orchestrator.errors import StoreBusy, StoreDamaged
from raysweep.orchestrator.process import MAX_NOTE_BYTES, ProcessNote
from raysweep.orchestrator.store.schema import TABLES
from raysweep.orchestrator.store.segments import encode, inspect, inspected, listed, parse_name, segment_name
from raysweep.orchestrator.store.storage.storage import Lock, Storage, exists, read_at_most
from raysweep.orchestrator.text import CELL_ID

BEAT_S = 2.0
"""Seconds between heartbeats of an owner."""
DEAD_AFTER_S = 15.0
"""Seconds of silence, by the observer's clock, after which an owner on another machine is presumed dead."""
EPOCH_FILE = re.compile(r"[0-9]{8}\.json")
LAST_EPOCH = 99_999_999
MAX_BEAT_BYTES = 8 * 2**20
"""A larger heartbeat is not read."""
_POLL_S = 0.5


class Ownership(NamedTuple):
    """A store's owner, and its running cells by its last heartbeat: id -> progress (0 to 1; None: unknown)."""

    who: str
    running: Mapping[str, float | None]


def current_owner(storage: Storage, patience: float | None = None, *, locked: bool = False) -> Ownership | None:
    """Find the living owner of a store, without writing or locking anything; None if no owner is alive.

    Args:
        storage: the store's storage.
        patience: seconds without a heartbeat after which an owner on another machine counts as dead; by default 1.25
            times the interval of heartbeats.
        locked: whether this process has acquired the host-wide lock; then no owner on this machine is alive.

    Raises:
        StoreDamaged: the newest generation's file is incomplete or damaged.
    """
    epoch = newest_epoch(storage)
    if epoch is None or marked(storage, epoch, "released"):
        return None
    note = read_note(storage, epoch)
    if locked and storage.locks and note.is_of_this_kernel():
        return None
    alive = note.is_alive()
    if alive is None:
        alive = _beats(storage, epoch, 1.25 * BEAT_S if patience is None else patience)
    return Ownership(str(note), _running(storage, epoch)) if alive else None


def _beats(storage: Storage, epoch: int, patience: float) -> bool:
    """Tell whether the generation's heartbeat changes within `patience` seconds of this process's clock."""
    beat = f"_hb/{epoch:08d}"
    first, end = read_at_most(storage, beat, MAX_BEAT_BYTES), time.monotonic() + patience
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(_POLL_S, left))
        if marked(storage, epoch, "released"):
            return False
        if read_at_most(storage, beat, MAX_BEAT_BYTES) != first:
            return True
    return False


def _running(storage: Storage, epoch: int) -> dict[str, float | None]:
    """Return the running cells in the last heartbeat, with their progress (None in heartbeats of older versions)."""
    try:
        heartbeat = json.loads(read_at_most(storage, f"_hb/{epoch:08d}", MAX_BEAT_BYTES) or b"{}")
    except (ValueError, RecursionError):
        return {}  # half a heartbeat, on a disk without atomic renames; the next one follows in seconds
    cells = heartbeat.get("running") if isinstance(heartbeat, dict) else None
    if isinstance(cells, list):
        cells = dict.fromkeys(map(str, cells))
    return {
        cell_id: min(1.0, max(0.0, progress)) if isinstance(progress, int | float) else None
        for cell_id, progress in (cells.items() if isinstance(cells, dict) else ())
        if CELL_ID.fullmatch(cell_id)
    }


def wait_till_free(storage: Storage, wait: bool, report: Callable[[str], None] | None = None) -> None:
    """Check that no launch owns the store, or wait for that, before a launch on it prepares anything.

    Args:
        storage: the store's storage.
        wait: whether to wait for a living owner to end.
        report: called once with each owner that is waited for.

    Raises:
        StoreBusy: the store is owned, and `wait` is False.
    """
    _wait_while(lambda: current_owner(storage), storage, wait, report)


def take_over(storage: Storage, wait: bool) -> Lock:
    """Acquire the store's host-wide lock once no launch on any machine owns the store.

    Raises:
        StoreBusy: the store is owned, and `wait` is False.
    """
    locks: list[Lock] = []

    def owner() -> Ownership | None:
        lock = storage.try_lock()
        if lock is None:
            return current_owner(storage) or Ownership("which has just begun", {})
        try:
            ownership = current_owner(storage, DEAD_AFTER_S, locked=True)
        except BaseException:
            lock.release()
            raise
        if ownership is None:
            locks.append(lock)
        else:
            lock.release()
        return ownership

    _wait_while(owner, storage, wait, None)
    return locks[0]


def _wait_while(
    owner: Callable[[], Ownership | None], storage: Storage, wait: bool, report: Callable[[str], None] | None
) -> None:
    reported: set[str] = set()
    while (ownership := owner()) is not None:
        who = ownership.who
        if not wait:
            raise StoreBusy(f"store {storage} is owned by another launch ({who}); wait for it (--wait) or end it first")
        if report is not None and who not in reported:
            reported.add(who)
            report(who)
        time.sleep(_POLL_S)


# Generations


def newest_epoch(storage: Storage) -> int | None:
    """Return the number of the newest generation; None in a new store."""
    return max(epochs(storage), default=None)


def epochs(storage: Storage) -> list[int]:
    """Return the numbers of all generations."""
    return [int(name[:8]) for name in storage.names("_epochs") if EPOCH_FILE.fullmatch(name)]


def marked(storage: Storage, epoch: int, mark: str) -> bool:
    """Tell whether a generation is marked as `released` (by its owner) or `sealed` (by a later one)."""
    return exists(storage, f"_epochs/{epoch:08d}.{mark}")


def read_note(storage: Storage, epoch: int) -> ProcessNote:
    """Read the note that a generation's owner wrote about its process.

    Raises:
        StoreDamaged: the file is incomplete, or raysweep did not write it.
    """
    name = f"_epochs/{epoch:08d}.json"
    try:
        return ProcessNote.parse(read_at_most(storage, name, MAX_NOTE_BYTES) or b"{}")
    except ValueError:
        raise StoreDamaged(f"{name}: torn or foreign") from None


def new_epoch(storage: Storage, command: str) -> int:
    """Begin the next generation with a note about this process, and return its number.

    Raises:
        StoreBusy: another launch began it first.
        StoreDamaged: no larger number is possible.
    """
    # By the token, two owners that begin at the same time can tell their files apart.
    note = ProcessNote.of_this_process(token=secrets.token_hex(8), command=command)
    epoch = max(epochs(storage), default=-1) + 1
    if epoch > LAST_EPOCH:
        raise StoreDamaged(f"_epochs/{epoch - 1:08d}.json: foreign: its number is too high for a launch; remove it")
    if not storage.create(f"_epochs/{epoch:08d}.json", note.to_json()):
        raise StoreBusy(f"store {storage}: another launch took it at the same moment ({read_note(storage, epoch)})")
    return epoch


def seal(storage: Storage, folder: str, epoch: int) -> None:
    """Occupy a generation's next segment name with an empty segment, a seal.

    Repeated if its owner took the name first.
    """
    while True:
        names = [name for name in listed(storage, folder) if parse_name(folder, name)[0] == epoch]
        if names and inspect(storage, folder, names[-1]).seal:
            return
        following = parse_name(folder, names[-1])[1] + 1 if names else _merged_up_to(storage, folder, epoch)
        sealed = encode(folder, TABLES[folder].empty_table(), seal=True)
        storage.create(f"{folder}/{segment_name(epoch, following)}", sealed)


def _merged_up_to(storage: Storage, folder: str, epoch: int) -> int:
    """Return the first segment number that a generation never used, if compactions have removed all its files."""
    segments = inspected(storage, folder, listed(storage, folder))
    return max((last for s in segments for replaced, _, last in s.replaces if replaced == epoch), default=-1) + 1
