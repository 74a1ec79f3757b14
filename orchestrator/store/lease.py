"""Ownership of a store: liveness of the owner, replacement of a dead one, generations, and seals (see `writer`).

A *generation* is the ownership of one launch. In names of files and columns it is called the epoch.
"""

from __future__ import annotations

import json
import re
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from raysweep.orchestrator.errors import StoreBusy, StoreDamaged
from raysweep.orchestrator.process import MAX_NOTE_BYTES, ProcessNote
from raysweep.orchestrator.store.columns import empty
from raysweep.orchestrator.store.schema import TABLES
from raysweep.orchestrator.store.segments import (
    OnDamage,
    encode,
    finish,
    inspected,
    listed,
    parse_name,
    refuse,
    segment_name,
)
from raysweep.orchestrator.store.storage.storage import Lock, Storage, exists, read_at_most
from raysweep.orchestrator.text import CELL_ID, short_repr

BEAT_S = 2.0
"""Seconds between heartbeats of an owner."""
DEAD_AFTER_S = 15.0
"""Seconds of silence, by the observer's clock, after which an owner on another machine is presumed dead."""
EPOCH_FILE = re.compile(r"[0-9]{8}\.json")
LAST_EPOCH = 99_999_999
MAX_BEAT_BYTES = 8 * 2**20
"""Maximum size of a heartbeat file; a larger one is not read."""
_POLL_S = 0.5
_CHECKSUM = "crc32"


class Ownership(NamedTuple):
    """A store's owner, and the running cells in its last heartbeat: id -> progress (0 to 1; None if unknown)."""

    who: str
    running: Mapping[str, float | None]


def current_owner(
    storage: Storage, patience: float | None = None, *, locked: bool = False, on_damage: OnDamage = refuse
) -> Ownership | None:
    """Return the living owner of a store; None if it has none. Writes and locks nothing.

    Args:
        storage: the store's storage.
        patience: seconds of silence after which an owner on another machine is presumed dead; by default
            1.25 times `BEAT_S`.
        locked: whether this process has acquired the host-wide lock. If so, an owner under the same kernel as this
            process is dead.
        on_damage: called if the newest generation's file is damaged. If it does not raise, only the heartbeat shows
            whether the owner is alive.
    """
    epoch = newest_epoch(storage)
    if epoch is None or marked(storage, epoch, "released"):
        return None
    try:
        note = read_note(storage, epoch)
    except StoreDamaged as error:
        on_damage(f"_epochs/{epoch:08d}.json", error)
        note = ProcessNote({})
    if locked and storage.locks and note.is_of_this_kernel():
        return None
    alive = note.is_alive()
    if alive is None:
        alive = _beats(storage, epoch, 1.25 * BEAT_S if patience is None else patience)
    return Ownership(str(note), _running(storage, epoch)) if alive else None


def _beats(storage: Storage, epoch: int, patience: float) -> bool:
    """Tell whether the generation's heartbeat changes in the next `patience` seconds, by this process's clock."""
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
    if not isinstance(heartbeat, dict) or heartbeat.get("epoch", epoch) != epoch:
        return {}  # another generation's
    cells = heartbeat.get("running")
    if isinstance(cells, list):
        cells = dict.fromkeys(map(str, cells))
    return {
        cell_id: min(1.0, max(0.0, progress)) if isinstance(progress, int | float) else None
        for cell_id, progress in (cells.items() if isinstance(cells, dict) else ())
        if CELL_ID.fullmatch(cell_id)
    }


def wait_till_free(
    storage: Storage, wait: bool, report: Callable[[str], None] | None = None, on_damage: OnDamage = refuse
) -> None:
    """Wait until no launch owns the store. A launch calls this before it prepares anything in the store.

    Args:
        storage: the store's storage.
        wait: whether to wait for a living owner to end, instead of raising.
        report: called once for each owner that is waited for, with its description.
        on_damage: see `current_owner`.

    Raises:
        StoreBusy: the store is owned, and `wait` is False.
    """
    _wait_while(lambda: current_owner(storage, on_damage=on_damage), storage, wait, report)


def take_over(storage: Storage, wait: bool, on_damage: OnDamage = refuse) -> Lock:
    """Acquire the host-wide lock of a store, once no launch on any machine owns the store.

    Raises:
        StoreBusy: the store is owned, and `wait` is False.
    """
    locks: list[Lock] = []

    def owner() -> Ownership | None:
        lock = storage.try_lock()
        if lock is None:
            return current_owner(storage, on_damage=on_damage) or Ownership("which has just begun", {})
        try:
            ownership = current_owner(storage, DEAD_AFTER_S, locked=True, on_damage=on_damage)
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
    """Read the note that a generation's owner wrote about its process. Without a file, the note has no fields.

    Raises:
        StoreDamaged: the file is incomplete, raysweep did not write it, or it is the note of another generation.
    """
    name = f"_epochs/{epoch:08d}.json"
    data = read_at_most(storage, name, MAX_NOTE_BYTES)
    try:
        note = ProcessNote({}) if data is None else ProcessNote.parse(data)
    except ValueError:
        raise StoreDamaged(f"{name}: torn or foreign") from None
    if data is not None and not note.fields.keys() & {"pid", "repaired_by"}:
        raise StoreDamaged(f"{name}: foreign: it names no process")
    # Notes of earlier versions have neither a checksum nor their generation.
    if note.fields.get(_CHECKSUM, expected := _checksum(note.fields)) != expected:
        raise StoreDamaged(f"{name}: damaged: checksum mismatch")
    if (own := note.fields.get("epoch", epoch)) != epoch:
        raise StoreDamaged(f"{name}: holds the note of generation {short_repr(own)}")
    return note


def note_bytes(epoch: int, fields: Mapping[str, Any]) -> bytes:
    """Encode the note of a generation, with its number and a checksum."""
    numbered = {**fields, "epoch": epoch}
    return ProcessNote({**numbered, _CHECKSUM: _checksum(numbered)}).to_json()


def _checksum(fields: Mapping[str, Any]) -> int:
    rest = {name: value for name, value in fields.items() if name != _CHECKSUM}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def new_epoch(storage: Storage, command: str) -> int:
    """Begin the next generation with a note about this process, and return its number.

    Raises:
        StoreBusy: another launch began the same generation first.
        StoreDamaged: the newest generation has the largest possible number.
    """
    epoch = max(epochs(storage), default=-1) + 1
    if epoch > LAST_EPOCH:
        raise StoreDamaged(f"_epochs/{epoch - 1:08d}.json: foreign: its number is too high for a launch; remove it")
    # By the token, two owners that begin at the same time can tell their files apart.
    note = ProcessNote.of_this_process(token=secrets.token_hex(8), command=command)
    if not storage.create(f"_epochs/{epoch:08d}.json", note_bytes(epoch, note.fields)):
        raise StoreBusy(f"store {storage}: another launch took it at the same moment ({read_note(storage, epoch)})")
    return epoch


def seal(storage: Storage, folder: str, epoch: int, on_damage: OnDamage = refuse) -> None:
    """Create a seal under the next segment name of an earlier generation, so that its owner can commit no more.

    If the owner takes this name first, the seal gets the name after it. `on_damage` is called with the path and the
    error of each damaged file. If it does not raise, the file does not count as a seal.
    """
    while True:
        numbers = sorted(n for e, n in _numbers(storage, folder, on_damage) if e == epoch)
        if numbers:
            last = list(inspected(storage, folder, [segment_name(epoch, numbers[-1])], on_damage))
            if last and last[0].seal:
                return
            following = numbers[-1] + 1
        else:
            following = _merged_up_to(storage, folder, epoch, on_damage)
        name = segment_name(epoch, following)
        storage.create(f"{folder}/{name}", finish(encode(folder, empty(TABLES[folder]), seal=True), name))


def _numbers(storage: Storage, folder: str, on_damage: OnDamage) -> Iterator[tuple[int, int]]:
    """Yield the generation and the sequence number of each segment."""
    for name in listed(storage, folder):
        try:
            yield parse_name(folder, name)
        except StoreDamaged as error:
            on_damage(f"{folder}/{name}", error)


def _merged_up_to(storage: Storage, folder: str, epoch: int, on_damage: OnDamage) -> int:
    """Return the first unused sequence number of a generation whose segments have all been merged away.

    It is known because merged segments record the names that they replaced.
    """
    segments = inspected(storage, folder, listed(storage, folder), on_damage)
    return max((last for s in segments for replaced, _, last in s.replaces if replaced == epoch), default=-1) + 1
