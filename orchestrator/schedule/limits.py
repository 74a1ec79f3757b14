"""Limits for stopping a launch or a method early, and for calling a cell slow. Has few imports, for a fast start."""

from __future__ import annotations

from typing import NamedTuple

MAX_ALIKE = 20
"""Default number of cells that have to fail with the same signature before their method is stopped."""
NODE_WAIT_MIN = 30.0
"""Minutes that cells wait for a node on which they fit. Then the launch stops, unless other cells are running."""
SLOW_FACTOR, SLOW_S = 5.0, 60.0
"""A running cell is slow after SLOW_S seconds, but not before SLOW_FACTOR times the average time of its variant."""


class Limits(NamedTuple):
    """Limits of a launch. None means no limit.

    At a limit the launch submits no more cells, and running cells complete. But `alike` stops only one method, and
    `parallel` only limits the number of cells that run at once.
    """

    failures: int | None = None  # cells that have used up their attempts
    seconds: float | None = None  # since the launch began
    alike: int | None = None  # cells of one method that fail alike; stops that method only
    node_seconds: float | None = None  # without a node that fits a demand; stops unless other cells run
    parallel: int | None = None  # cells that run at once; it stops nothing
    cpu_seconds: float | None = None  # of all attempts: seconds times CPUs
    gpu_seconds: float | None = None  # of all attempts: seconds times GPUs
