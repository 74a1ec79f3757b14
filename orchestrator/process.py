"""Processes: which one this is, whether another lives, and signals held off during a commit."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_off() -> Iterator[None]:
    """What comes while the block runs comes when it has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return
    came: list[int] = []
    before: dict[int, Any] = {}
    try:
        for number in SIGNALS:
            before[number] = signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that was not set from Python can't be set again from it
                signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


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
