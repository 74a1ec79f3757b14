"""The resources of this machine that cells may use."""

from __future__ import annotations

import os

from raysweep.orchestrator.executors.memory import group_folders, limit_bytes


def this_machine() -> dict[str, float]:
    """Return the CPUs and the memory in bytes of this machine, by Ray's names. A container's limits count."""
    return {"CPU": float(cpus()), "memory": float(limit_bytes())}


def cpus() -> int:
    """Return how many CPUs this process may use: by its affinity, and by the quota of its control group."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([count, *_quotas()]))


def _quotas() -> list[int]:
    """Return the quotas of this process's control groups in whole CPUs. Groups without a quota are left out."""
    quotas = []
    for folder, is_unified in group_folders("cpu"):
        try:
            if is_unified:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except (OSError, ValueError):
            continue
        if quota.isdecimal():
            quotas.append(int(quota) // int(period))
    return quotas
