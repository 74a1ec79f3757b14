"""Cells in this process use as many threads as they have CPUs, as on a worker; afterwards all is as before."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.run.threads import threads

CELLS = """
    import os
    from threadpoolctl import threadpool_info

    def run(cell, context):
        return {
            "environment": float(os.environ["OMP_NUM_THREADS"]),
            "pools": max(float(pool["num_threads"]) for pool in threadpool_info()),
        }
"""


def pools() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info()]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch):
    """A process whose libraries may use two threads, as its environment says nothing."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(2):
        yield


def test_a_cell_inline_has_one_and_the_process_two_again(write, two) -> None:
    write("cells.py", CELLS)
    before = pools()
    assert max(before) == 2
    text = 'name="t"\nworkload="cells:run"\nseeds=[1, 2]\n[[grid]]\nmethod="m"\n'
    assert launch(Sweep.from_text(text), inline=True).exit_code == 0
    assert Store().sql("SELECT DISTINCT environment, pools FROM cells").rows() == [(1.0, 1.0)]
    assert "OMP_NUM_THREADS" not in os.environ
    assert pools() == before


def test_of_torch_too(two) -> None:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    with threads(1.0):
        assert torch.get_num_threads() == 1
    with threads(2.5):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before


def test_on_a_worker_nothing_is_limited_again(two, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with threads(1.0):
        assert os.environ["OMP_NUM_THREADS"] == "1"
