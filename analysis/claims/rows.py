"""The rows that most claims compare."""

from __future__ import annotations

from raysweep.analysis.cells.selection import Row

TRACES = Row("traces", "traces, decay 0.95", "traces", 0, {"decay": 0.95})
DECAY_0 = Row("decay_0", "traces, decay 0", "traces", 0, {"decay": 0.0})
FULL = Row("full", "full RTRL", "rtrl")
UORO = Row("uoro", "UORO", "uoro")


def sparse(k: int, selection: str = "ring") -> Row:
    """K sources a unit; `k4` for the ring, else the selection's name."""
    key = f"k{k}" if selection == "ring" else selection
    return Row(key, f"k = {k}, {selection}", "sparse_rtrl", k, {"selection": selection})


K4 = sparse(4)
