"""Identity and liveness of processes, and deferral of signals during a commit."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command. A SIGHUP that the process ignored from its start, as under `nohup`, stays ignored."""
MAX_NOTE_BYTES = 2**20
"""Maximum size of a process note."""


def handle_signals(handler: Callable[[int, Any], None]) -> dict[int, Any]:
    """Use `handler` for `SIGNALS` from now on, and return the former handlers."""
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return {n: signal.signal(n, handler) for n in SIGNALS if n != signal.SIGHUP or not is_ignored}


@contextmanager
def signals_handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle `SIGNALS` with `handler` inside the block. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    before: dict[int, Any] = {}
    try:
        before = handle_signals(handler)
        yield
    finally:
        for number, former in before.items():
            if former is not None:  # a handler that was not set from Python cannot be restored from it
                signal.signal(number, former)


class Interrupts:
    """A signal handler that raises KeyboardInterrupt, and counts the signals.

    The count distinguishes a signal from a KeyboardInterrupt that users' code raises.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, number: int, frame: Any) -> None:
        """Count the signal, and raise KeyboardInterrupt."""
        self.count += 1
        raise KeyboardInterrupt


def is_signalled() -> bool:
    """Tell whether a KeyboardInterrupt that was caught in the main thread may come from a signal."""
    handler = signal.getsignal(signal.SIGINT)
    return not isinstance(handler, Interrupts) or handler.count > 0


@contextmanager
def held_off() -> Iterator[None]:
    """Defer `SIGNALS` to the end of the block. If several arrive, only the first is raised then."""
    deferred: list[int] = []
    try:
        with signals_handled(lambda number, frame: deferred.append(number)):
            yield
    finally:
        for number in deferred[:1]:
            signal.raise_signal(number)


def boot_id() -> str:
    """Return an identifier of the running kernel. Processes under the same kernel see each other's file locks."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.is_file() else socket.gethostname()


def this_process() -> dict[str, str | None]:
    """Return this process's PID namespace and start time, which a later process with the same PID does not share."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = None  # not Linux
    return {"space": space, "started": _started(os.getpid())}


def _started(pid: int) -> str | None:
    """Return a process's start time in clock ticks since boot; "" for a zombie; None if no process has this PID."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return "" if fields[0] in {b"Z", b"X"} else fields[19].decode()


def _is_alive(pid: Any, started: Any) -> bool:
    """Tell whether the process with this PID and start time is alive."""
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
        return True  # it belongs to another user
    return True


@dataclass(frozen=True)
class ProcessNote:
    """A JSON note that a process writes about itself, so that others can name it and check whether it is alive.

    Args:
        fields: `pid`, `host`, `boot` (see `boot_id`), `process` (see `this_process`), `started_at`, and fields that
            the writer adds, such as `command`. A note of another version may lack some of them.
    """

    fields: Mapping[str, Any]

    @classmethod
    def of_this_process(cls, **more: Any) -> ProcessNote:
        """Create a note about this process, with additional fields."""
        return cls(
            {
                "host": socket.gethostname(), "pid": os.getpid(), "boot": boot_id(), "process": this_process(),
                "started_at": datetime.now(UTC).isoformat(timespec="seconds"), **more,
            }
        )  # fmt: skip

    @classmethod
    def parse(cls, data: bytes) -> ProcessNote:
        """Parse a note from JSON. Raises ValueError if the data is incomplete or not a JSON object."""
        try:
            fields = json.loads(data)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(fields, dict):
            raise ValueError("not a JSON object")
        return cls(fields)

    @classmethod
    def read(cls, path: Path) -> ProcessNote:
        """Read a note from a local file. The note has no fields if the file is missing, incomplete or not a note."""
        try:
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size < MAX_NOTE_BYTES:  # reading a pipe would block
                return cls.parse(path.read_bytes())
        except (OSError, ValueError):
            pass
        return cls({})

    def to_json(self) -> bytes:
        """Encode the note as JSON."""
        return json.dumps(self.fields).encode()

    def is_of_this_kernel(self) -> bool:
        """Whether the process was started under this machine's running kernel, in any container."""
        return bool(self.fields.get("boot") == boot_id())

    def is_alive(self) -> bool | None:
        """Whether the process is alive; None if it runs on another machine or in another container."""
        process = self.fields.get("process")
        if not isinstance(process, dict) or not self.is_of_this_kernel():
            return None
        if process.get("space") != this_process()["space"]:
            return None
        return _is_alive(self.fields.get("pid"), process.get("started"))

    def __str__(self) -> str:
        command = self.fields.get("command")
        start = f"pid {self.fields.get('pid')} on {self.fields.get('host')}, since {self.fields.get('started_at')}"
        return f"{start}: {command}" if command else start
