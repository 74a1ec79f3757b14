"""Removal of leftovers of killed launches from the driver's machine, by the same user's next launch.

Each launch has a folder `launch-ID` in the user's scratch folder. It contains the code for the workers, the folder of
an embedded Ray's session, and a file `owner.json` that names the driver's process. If that process is dead, the
launch's folder is a leftover. Processes of the session may still run then: workers die with the driver, but Ray's
agents do not.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
from pathlib import Path

from raysweep.orchestrator.executors.worker import fault_folder
from raysweep.orchestrator.process import ProcessNote
from raysweep.orchestrator.store.storage.scratch import scratch

_OWNER = "owner.json"
STAGE = "stage"
"""Name of the folder, in a launch's folder, with the code for its workers."""
_SESSION = re.compile(r"session_[\w.-]{20,100}")
_MAX_SOCKET = 107 if sys.platform == "linux" else 103
"""Maximum length of a socket's path."""
_LONGEST = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"


class LaunchFolder:
    """A launch's folder on the driver's machine; `launch` is the launch's id."""

    def __init__(self, launch: str) -> None:
        self.path = scratch() / f"launch-{launch}"
        self._launch = launch
        self._session: Path | None = None
        self.path.mkdir(mode=0o700)
        self.note()

    def note(self, session: Path | None = None) -> None:
        """Record in the folder that this process owns it, and which Ray session the launch has started."""
        self._session = session
        temporary = self.path / "owner.new"
        note = ProcessNote.of_this_process(session=None if session is None else str(session))
        temporary.write_bytes(note.to_json())
        temporary.replace(self.path / _OWNER)

    def for_ray(self) -> Path | None:
        """Return this folder as the place for an embedded Ray's session, since no other user can enter it.

        Return None if the paths of Ray's sockets in it would be too long. Ray then chooses a folder.
        """
        return self.path if len(str(self.path / _LONGEST)) <= _MAX_SOCKET else None

    def end_processes(self) -> None:
        """Start a shell that kills the processes of the launch's Ray session after a second.

        By then this process has ended. If the session's processes were killed earlier, Ray's threads would crash this
        process.
        """
        pids = _processes(_places(self.path, self._session))
        if pids:
            nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
            words = ["sh", "-c", f"sleep 1; kill -9 {' '.join(map(str, pids))}"]
            os.posix_spawn("/bin/sh", words, {"PATH": os.defpath}, file_actions=nowhere)

    def remove(self) -> None:
        """Remove the folder, the session's folder and the launch's fault files."""
        _remove(self.path, self._session)


def end_leftovers() -> list[str]:
    """Remove leftovers of dead launches from this machine, and return a line of text about them.

    The result is a list with this line; it is empty if there were none. A launch is dead if its driver's process ran
    in this boot and container and has ended. The launch's folder is removed. Processes of this user whose command
    lines name the launch's Ray session are killed.
    """
    launches = ended = 0
    for folder in sorted(scratch().glob("launch-*")):
        note = ProcessNote.read(folder / _OWNER)
        if note.is_alive() is not False:
            continue
        session = _session(note)
        ended += _kill(_processes(_places(folder, session)))
        _remove(folder, session)
        launches += 1
    if not launches:
        return []
    what = "a launch that was killed" if launches == 1 else f"{launches} launches that were killed"
    return [f"cleaned up after {what}" + (f" ({ended} processes)" if ended else "")]


def _session(note: ProcessNote) -> Path | None:
    """Return the folder of a launch's Ray session; None unless the note names an existing folder of this user."""
    named = note.fields.get("session")
    path = Path(named) if isinstance(named, str) else None
    if path is None or not path.is_absolute() or ".." in path.parts or not _SESSION.fullmatch(path.name):
        return None
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid():
            return path
    return None


def _places(folder: Path, session: Path | None) -> list[bytes]:
    """Return prefixes of paths that occur in the command lines of a launch's processes."""
    return [os.fsencode(path) for path in (folder / "session_", folder / STAGE, session) if path is not None]


def _processes(places: list[bytes]) -> list[int]:
    """Return the PIDs of this user's processes whose command lines contain one of the paths, except this process."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
            words = (entry / "cmdline").read_bytes()
            names_it = any(place in words for place in places)
            if names_it and entry.stat().st_uid == os.getuid() and int(entry.name) != os.getpid():
                pids.append(int(entry.name))
    return pids


def _kill(pids: list[int]) -> int:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


def _remove(folder: Path, session: Path | None) -> None:
    for path in (session, folder, fault_folder(folder.name.removeprefix("launch-"))):
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)
