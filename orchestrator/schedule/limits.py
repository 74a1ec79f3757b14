"""When a launch or a method is stopped early, and when a cell counts as slow. Light: the command line imports it."""

from __future__ import annotations

from typing import NamedTuple

MAX_ALIKE = 20
"""Cells of one method that fail alike before the method is stopped."""
NODE_WAIT_MIN = 30.0
"""Minutes that cells wait for an autoscaler to bring a node, once nothing else runs."""
SLOW_FACTOR, SLOW_S = 5.0, 60.0
"""A cell is slow after this many times its expected seconds, and after this many seconds at least."""


class Limits(NamedTuple):
    """When to stop submitting. Running cells still complete. None: no limit."""

    failures: int | None = None  # cells that have used up their attempts
    seconds: float | None = None  # since the launch began
    alike: int | None = None  # cells of a method that fail alike, which stop that method only
    node_seconds: float | None = None  # waiting for a missing node, once nothing else runs
