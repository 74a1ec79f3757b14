"""Notes about this user's launches on this machine that are starting Ray, before they own their stores."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from raysweep.orchestrator.errors import RaysweepError
from raysweep.orchestrator.process import ProcessNote
from raysweep.orchestrator.store.storage.scratch import scratch


@contextlib.contextmanager
def starting(store: str, command: str) -> Iterator[None]:
    """Announce inside the block that a launch on the store at the location `store` is starting."""
    path = None
    with contextlib.suppress(OSError, RaysweepError):  # a note that cannot be written does not stop the launch
        path = _note(store, command)
    try:
        yield
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


def _note(store: str, command: str) -> Path:
    for path in _notes():
        if ProcessNote.read(path).is_alive() is False:  # killed while starting
            path.unlink(missing_ok=True)
    path = scratch() / f"starting-{os.getpid()}-{secrets.token_hex(4)}.json"
    path.write_bytes(ProcessNote.of_this_process(store=store, command=command).to_json())
    return path


def who_starts(store: str) -> str | None:
    """Describe the launch on this machine that is about to own the store at this location, or return None."""
    for path in _notes():
        note = ProcessNote.read(path)
        if note.fields.get("store") == store and note.is_alive():
            return str(note)
    return None


def _notes() -> list[Path]:
    try:
        return sorted(scratch().glob("starting-*.json"))
    except (OSError, RaysweepError):
        return []  # this user has no scratch folder here
