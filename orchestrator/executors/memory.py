"""Memory of this machine: how much there is, whether it runs out, and which processes were killed for lack of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
MIN_FREE = 0.05
"""Part of the memory that stays free: below it a worker is ended, as Ray does."""


def oom_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory so far; 0 if unknown.

    The count is that of this process's control group, or of the whole machine if the group has no count.
    """
    for folder, is_unified in group_folders("memory"):
        if (count := _count(folder / ("memory.events" if is_unified else "memory.oom_control"))) is not None:
            return count
    return _count(Path("/proc/vmstat")) or 0


def group_folders(controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield folders of this process's control group, and whether they are of the unified hierarchy (version 2)."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            base = _GROUPS / controller if controllers else _GROUPS
            for folder in (base / path.lstrip("/"), base):  # in a container, the group may lie at the base
                yield folder, not controllers


def limit_bytes() -> float:
    """Return the bytes of memory that this process and its siblings may use: the machine's, or its control group's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *(limit for limit, _ in _groups())])


def is_low() -> bool:
    """Tell whether the machine, or this process's control group, has less than `MIN_FREE` of its memory left."""
    numbers = dict(re.findall(r"^(\w+): +(\d+) kB$", _read(Path("/proc/meminfo")), re.MULTILINE))
    total, available = (int(numbers.get(name, 0)) for name in ("MemTotal", "MemAvailable"))
    return available < MIN_FREE * total or any(used > (1 - MIN_FREE) * limit for limit, used in _groups())


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants in bytes; 0 if unknown."""
    fields = _read(Path(f"/proc/{pid}/statm")).split()
    own = int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0
    return own + sum(resident_bytes(int(child)) for child in _read(Path(f"/proc/{pid}/task/{pid}/children")).split())


def _groups() -> Iterator[tuple[int, int]]:
    """Yield limit and use in bytes of each control group of this process that limits memory. Caches do not count."""
    for folder, is_unified in group_folders("memory"):
        names = ("memory.max", "memory.current") if is_unified else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, used = (_read(folder / name).strip() for name in names)
        if limit.isdecimal() and used.isdecimal():
            name = "inactive_file" if is_unified else "total_inactive_file"
            cache = re.search(rf"^{name} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
            yield int(limit), int(used) - (int(cache[1]) if cache else 0)


def killed_beside_another(message: str, pid: int) -> bool:
    """Tell from Ray's out-of-memory message whether a process used over four times the memory of process `pid`.

    Ray may kill several processes at once. Its message lists the largest ones as "PID MEM(GB) COMMAND".
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
