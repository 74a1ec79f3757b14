"""What a launch leaves on its driver's machine when it is killed: found and ended by the next one, if it is ours.

Each launch on Ray has a folder `launch-ID` in the user's scratch folder. `owner.json` there says which process
it is and, once it is known, which Ray session is its own. The folder of a process that no longer lives is a
leftover: of its session, agents may linger on (a killed driver takes its workers along, not its agents).
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
    """A launch's folder on its driver's machine.

    Args:
        launch: its id.
    """

    def __init__(self, launch: str) -> None:
        self.path = scratch() / f"launch-{launch}"
        self._launch = launch
        self.path.mkdir(mode=0o700)
        self.note()

    def note(self, session: str | None = None) -> None:
        """Write who it belongs to, and the Ray session that belongs to the launch alone."""
        temporary = self.path / "owner.new"
        temporary.write_bytes(ProcessNote.of_this_process(session=session).to_json())
        temporary.replace(self.path / _OWNER)

    def remove(self) -> None:
        """The launch has ended."""
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.rmtree(fault_folder(self._launch), ignore_errors=True)


def end_leftovers() -> list[str]:
    """End what dead launches have left on this machine; a line for each.

    A launch is dead if its process is, on this boot and in this container; of others nothing is known, and
    nothing is done. Only this user's processes that name a dead launch's own Ray session are ended.
    """
    done = []
    for folder in sorted(scratch().glob("launch-*")):
        note = ProcessNote.read(folder / _OWNER)
        if note.is_alive() is not False:
            continue
        session = note.fields.get("session")
        ended = _end_session(session) if isinstance(session, str) and _SESSION.fullmatch(session) else 0
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(fault_folder(folder.name.removeprefix("launch-")), ignore_errors=True)
        what = f", and {ended} of its processes were ended" if ended else ""
        done.append(f"a killed launch (pid {note.fields.get('pid')}) had left {folder}: removed{what}")
    return done


def _end_session(session: str) -> int:
    """End this user's processes that were started with this Ray session's folder."""
    word, ended = f"/{session}".encode(), 0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile, or not ours to look at
            names_it = any(part.endswith(word) or word + b"/" in part for part in _words(entry))
            if names_it and entry.stat().st_uid == os.getuid() and int(entry.name) != os.getpid():
                os.kill(int(entry.name), signal.SIGKILL)
                ended += 1
    return ended


def _words(entry: Path) -> list[bytes]:
    return (entry / "cmdline").read_bytes().split(b"\0")
