"""Who holds a store, as observers may find out: nothing is locked or written."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from raysweep.orchestrator.errors import StoreBusy, StoreDamaged
from raysweep.orchestrator.store.storage.storage import Storage, exists, read_at_most
from raysweep.orchestrator.text import CELL_ID

BEAT_S = 2.0
"""An owner's heartbeat."""
EPOCH_FILE = re.compile(r"[0-9]{8}\.json")
LAST_EPOCH = 99_999_999
EPOCH_BYTES, BEAT_BYTES = 2**20, 8 * 2**20
"""No more than these are read of what an owner writes of itself, and of its heartbeat."""


class Ownership(NamedTuple):
    """Who holds a store, and what its last heartbeat says runs: cell id -> how far, 0 to 1, where the cell tells."""

    who: str
    running: Mapping[str, float | None]


def current_owner(storage: Storage) -> Ownership | None:
    """Who holds the store; None: nobody.

    Raises:
        StoreDamaged: the newest epoch's file is torn.
    """
    epoch = newest_epoch(storage)
    if epoch is None or marked(storage, epoch, "released"):
        return None
    about = about_epoch(storage, epoch)
    alive, beat = lives_here(about), f"_hb/{epoch:08d}"
    if alive is False:
        return None
    if alive is None:  # another machine or container: does its heart beat?
        before = read_at_most(storage, beat, BEAT_BYTES)
        time.sleep(1.25 * BEAT_S)
        if read_at_most(storage, beat, BEAT_BYTES) == before:
            return None
    try:
        last = json.loads(read_at_most(storage, beat, BEAT_BYTES) or b"{}")
        running = last.get("running") if isinstance(last, dict) else None
    except (ValueError, RecursionError):
        running = None  # half a heartbeat on a disk without atomic renames; the next one is seconds away
    return Ownership(describe(about), _running(running))


def _running(said: object) -> dict[str, float | None]:
    """Of a heartbeat, whoever wrote it."""
    if isinstance(said, list):  # as versions before this one said it
        said = dict.fromkeys(map(str, said))
    found = said.items() if isinstance(said, dict) else ()
    return {
        cell_id: min(1.0, max(0.0, far)) if isinstance(far, int | float) else None
        for cell_id, far in found
        if CELL_ID.fullmatch(cell_id)
    }


def wait_till_free(storage: Storage, wait: bool, tell: Callable[[str], None] = lambda who: None) -> None:
    """Find a held store before anything is done for a launch on it.

    Args:
        storage: the store's.
        wait: till nobody holds it.
        tell: told once of each that is waited for.

    Raises:
        StoreBusy: it is held, and `wait` is False.
    """
    told = set()
    while (held := current_owner(storage)) is not None:
        if not wait:
            raise StoreBusy(busy(storage, held.who))
        if held.who not in told:
            told.add(held.who)
            tell(held.who)
        time.sleep(0.5)


def busy(storage: Storage, who: str) -> str:
    """What a second launch is told."""
    return f"store {storage} is held by another launch ({who}); wait for it (--wait), or end it first"


def newest_epoch(storage: Storage) -> int | None:
    """The number of the last launch that took the store."""
    return max(epochs(storage), default=None)


def epochs(storage: Storage) -> list[int]:
    """The numbers of the launches that ever took the store."""
    return [int(name[:8]) for name in storage.names("_epochs") if EPOCH_FILE.fullmatch(name)]


def marked(storage: Storage, epoch: int, what: str) -> bool:
    """Whether an epoch was `released` by its owner, or `sealed` by a later one."""
    return exists(storage, f"_epochs/{epoch:08d}.{what}")


def about_epoch(storage: Storage, epoch: int) -> dict[str, Any]:
    """What an owner has written of itself.

    Raises:
        StoreDamaged: the file is torn or foreign.
    """
    name = f"_epochs/{epoch:08d}.json"
    try:
        about = json.loads(read_at_most(storage, name, EPOCH_BYTES) or b"{}")
    except (ValueError, RecursionError):
        raise StoreDamaged(f"{name}: torn or foreign") from None
    if not isinstance(about, dict):
        raise StoreDamaged(f"{name}: torn or foreign")
    return about


def describe(about: Mapping[str, Any]) -> str:
    """An owner as a message names it."""
    return f"pid {about.get('pid')} on {about.get('host')}, since {about.get('started_at')}" + (
        f": {about['command']}" if about.get("command") else ""
    )


def boot_id() -> str:
    """One running kernel: processes that share it share its locks."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.is_file() else socket.gethostname()


def this_process() -> dict[str, str | None]:
    """What tells this process from a later one of the same number: its number space, and when it started."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = None  # not Linux
    return {"space": space, "started": _started(os.getpid())}


def _started(pid: int) -> str | None:
    """When a process started, in ticks since boot; "" for one that has ended and is not yet reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in {b"Z", b"X"} else fields[19].decode()


def lives_here(about: Mapping[str, Any]) -> bool | None:
    """Whether an owner that says it runs on this machine is alive; None where this process can't tell."""
    process = about.get("process")
    if not isinstance(process, dict) or about.get("boot") != boot_id():
        return None
    return lives(about.get("pid"), process.get("started")) if process.get("space") == this_process()["space"] else None


def lives(pid: Any, started: Any) -> bool:
    """Whether the process of this number that started then is alive."""
    if not isinstance(pid, int) or not 0 < pid < 2**31:
        return False
    now = _started(pid)
    if now is not None:
        return started in (None, now)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True
