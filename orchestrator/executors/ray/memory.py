"""Processes that were ended because a machine ran out of memory: by Ray's monitor, or by the faster kernel."""

from __future__ import annotations

import os
import re
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def oom_kills() -> int:
    """Number of processes that the kernel has ended for lack of memory so far; 0 if unknown.

    Counted are those of this process's control group, or, if it has no count, those of the machine.
    """
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, name = _GROUPS, "memory.events"
        elif "memory" in controllers.split(","):
            base, name = _GROUPS / "memory", "memory.oom_control"
        else:
            continue
        for folder in (base / path.lstrip("/"), base):  # in a container, the group may lie at the base
            if (count := _count(folder / name)) is not None:
                return count
    return _count(Path("/proc/vmstat")) or 0


def killed_beside_another(message: str, pid: int) -> bool:
    """Whether another process used far more memory than process `pid`, according to Ray's out-of-memory message.

    Ray kills several processes at once; the message lists "PID MEM(GB) COMMAND" of the largest.
    """
    used: dict[int, float] = {}
    for line in message.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0].isdecimal():
            try:
                used[int(words[0])] = float(words[1])
            except ValueError:
                continue
    others = [gib for other, gib in used.items() if other not in (pid, os.getpid())]
    return bool(pid and others) and used.get(pid, 0.0) < 0.25 * max(others)


def _count(path: Path) -> int | None:
    found = re.search(r"^oom_kill (\d+)$", _read(path), re.MULTILINE)
    return None if found is None else int(found.group(1))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
