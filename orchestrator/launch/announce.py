"""Launches of this user on this machine that are starting Ray: their store does not know of them yet."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from raysweep.orchestrator.errors import RaysweepError
from raysweep.orchestrator.process import boot_id, lives_here, this_process
from raysweep.orchestrator.store.holder import EPOCH_BYTES, describe
from raysweep.orchestrator.store.storage.scratch import scratch


@contextlib.contextmanager
def starting(store: str, command: str) -> Iterator[None]:
    """Announce a launch to watchers on this machine until it owns its store or has ended.

    Args:
        store: its location.
        command: as the user gave it.
    """
    path = None
    with contextlib.suppress(OSError, RaysweepError):  # a machine without room for a note launches as well
        path = _note(store, command)
    try:
        yield
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


def _note(store: str, command: str) -> Path:
    for path in _notes():
        if lives_here(_read(path)) is False:  # it was killed at it
            path.unlink(missing_ok=True)
    path = scratch() / f"starting-{os.getpid()}-{secrets.token_hex(4)}.json"
    about = {
        "store": store, "pid": os.getpid(), "host": socket.gethostname(), "boot": boot_id(), "process": this_process(),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"), "command": command,
    }  # fmt: skip
    path.write_text(json.dumps(about), encoding="utf-8")
    return path


def who_starts(store: str) -> str | None:
    """The launch that is about to take a store, as a message names it; None where none is known of."""
    for path in _notes():
        about = _read(path)
        if about.get("store") == store and lives_here(about):
            return describe(about)
    return None


def _notes() -> list[Path]:
    try:
        return sorted(scratch().glob("starting-*.json"))
    except (OSError, RaysweepError):
        return []  # no folder of this user's own here


def _read(path: Path) -> dict[str, object]:
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size >= EPOCH_BYTES:
            return {}  # another kind of file would make its reader wait
        about = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}  # just being written, or gone
    return about if isinstance(about, dict) else {}
