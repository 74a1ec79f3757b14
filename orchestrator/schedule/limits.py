"""Limits for stopping a launch or a method early, and for calling a cell slow. Has few imports, for a fast start."""

from __future__ import annotations

from typing import NamedTuple

MAX_ALIKE = 20
"""Default number of cells of a method that may fail with the same signature before the method is stopped."""
NODE_WAIT_MIN = 30.0
"""Minutes for which cells wait for a node that fits them before the launch stops, if no other cells run."""
SLOW_FACTOR, SLOW_S = 5.0, 60.0
"""A cell is slow after more than SLOW_FACTOR times its variant's average, and more than SLOW_S seconds."""


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
