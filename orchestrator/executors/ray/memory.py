"""Detection of processes that were killed, by Ray's monitor or by the kernel, because a machine ran out of memory."""

from __future__ import annotations

import os
import re
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def oom_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory so far; 0 if unknown.

    The count is that of this process's control group, or of the whole machine if the group has no count.
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
    """Return whether Ray's out-of-memory message lists a process with over four times the memory of process `pid`.

    Ray may kill several processes at once. Its message lists the largest ones as "PID MEM(GB) COMMAND". The caller's
    process does not count.
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
    match = re.search(r"^oom_kill (\d+)$", _read(path), re.MULTILINE)
    return None if match is None else int(match.group(1))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
