"""Removal of what killed launches left on the driver's machine. The same user's next launch does it.

Each launch on Ray has a folder `launch-ID` in the user's scratch folder. Its `owner.json` names the driver's process
and, once Ray runs, the Ray session that the launch started. If that process is dead, the folder is a leftover.
Processes of its Ray session may then still run: workers die with the driver, but Ray's agents do not.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
from pathlib import Path

from raysweep.orchestrator.executors.ray.worker import fault_folder
from raysweep.orchestrator.process import ProcessNote
from raysweep.orchestrator.store.storage.scratch import scratch

_OWNER = "owner.json"
_SESSION = re.compile(r"session_[\w.-]{20,100}")


class LaunchFolder:
    """A launch's folder on the driver's machine; `launch` is the launch's id."""

    def __init__(self, launch: str) -> None:
        self.path = scratch() / f"launch-{launch}"
        self._launch = launch
        self.path.mkdir(mode=0o700)
        self.note()

    def note(self, session: str | None = None) -> None:
        """Record this process as the owner, with the Ray session that the launch started."""
        temporary = self.path / "owner.new"
        temporary.write_bytes(ProcessNote.of_this_process(session=session).to_json())
        temporary.replace(self.path / _OWNER)

    def remove(self) -> None:
        """Remove the folder and the launch's fault files, which hold the stacks of dying workers."""
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.rmtree(fault_folder(self._launch), ignore_errors=True)


def end_leftovers() -> list[str]:
    """Remove what dead launches left on this machine, and return one line per such launch.

    A launch is dead if its process ran in this boot and container and has ended. Other launches are left alone. Only
    those of this user's processes are ended that name the Ray session of a dead launch.
    """
    lines = []
    for folder in sorted(scratch().glob("launch-*")):
        note = ProcessNote.read(folder / _OWNER)
        if note.is_alive() is not False:
            continue
        session = note.fields.get("session")
        ended = _end_session(session) if isinstance(session, str) and _SESSION.fullmatch(session) else 0
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(fault_folder(folder.name.removeprefix("launch-")), ignore_errors=True)
        what = f", and ended {ended} of its processes" if ended else ""
        lines.append(f"removed {folder}, left by a killed launch (pid {note.fields.get('pid')}){what}")
    return lines


def _end_session(session: str) -> int:
    """End this user's processes that name the Ray session `session`, and return their number."""
    word, ended = f"/{session}".encode(), 0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
            names_it = any(part.endswith(word) or word + b"/" in part for part in _words(entry))
            if names_it and entry.stat().st_uid == os.getuid() and int(entry.name) != os.getpid():
                os.kill(int(entry.name), signal.SIGKILL)
                ended += 1
    return ended


def _words(entry: Path) -> list[bytes]:
    return (entry / "cmdline").read_bytes().split(b"\0")
