"""How many threads the libraries that cells use run: as many as a cell has CPUs, whatever the machine has.

Sums over threads differ in their last bits with the number of threads; and cells beside one another would each take
the whole machine.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_AT_LOADING = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
VARIABLES = (*_AT_LOADING, "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS")
"""What libraries read when they are loaded."""


@contextmanager
def threads(cpus: float) -> Iterator[None]:
    """Let libraries that are loaded meanwhile, and those that are, use this many, at least one; and as before again.

    Not numba by its variable: it refuses to compile where that has changed since its threads began.
    """
    count = max(1, int(cpus))
    with contextlib.ExitStack() as afterwards:
        if "torch" in sys.modules:
            torch: Any = sys.modules["torch"]
            afterwards.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(count)
        if "numba" in sys.modules:
            numba: Any = sys.modules["numba"]
            afterwards.callback(numba.set_num_threads, numba.get_num_threads())
            numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
        if any(os.environ.get(name) != str(count) for name in _AT_LOADING):  # not on a worker, which began with them
            from threadpoolctl import threadpool_limits

            afterwards.enter_context(threadpool_limits(count))
            afterwards.enter_context(environment(dict.fromkeys(_AT_LOADING, str(count))))
        yield


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables for libraries that are loaded, and processes that are started, meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
