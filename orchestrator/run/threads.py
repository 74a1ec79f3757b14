"""Limits on the thread pools of numerical libraries: a cell uses as many threads as it has CPUs.

There are two reasons. The last bits of a sum depend on the number of threads. And cells that run side by side
must not each use the whole machine.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_READ_AT_IMPORT = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
VARIABLES = (*_READ_AT_IMPORT, "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS")
"""Environment variables from which libraries read their number of threads, when they are imported."""


@contextmanager
def threads(cpus: float) -> Iterator[None]:
    """Limit thread pools to `max(1, cpus)` threads inside the block, also in libraries imported there.

    NUMBA_NUM_THREADS stays unchanged: numba refuses to compile if it has changed since its threads started.
    """
    count = max(1, int(cpus))
    with contextlib.ExitStack() as restore:
        if "torch" in sys.modules:
            torch: Any = sys.modules["torch"]
            restore.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(count)
        if "numba" in sys.modules:
            numba: Any = sys.modules["numba"]
            restore.callback(numba.set_num_threads, numba.get_num_threads())
            numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
        if any(os.environ.get(name) != str(count) for name in _READ_AT_IMPORT):  # on a worker they are already set
            from threadpoolctl import threadpool_limits

            restore.enter_context(threadpool_limits(count))
            restore.enter_context(environment(dict.fromkeys(_READ_AT_IMPORT, str(count))))
        yield


@contextmanager
def environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables inside the block, and restore them on exit. A value of None unsets a variable."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
