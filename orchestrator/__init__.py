"""Sweeps of cells on Ray, recorded in a Parquet store that nothing gets lost from.

from orchestrator import Sweep, Store, launch

launch(Sweep.load("paper/e1-sine"), store="results")
Store("results").sql("SELECT method, k, avg(mse_post_last_500) FROM cells GROUP BY ALL")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.launcher import launch
    from orchestrator.spec import Sweep
    from orchestrator.store import Store

__all__ = ["Store", "Sweep", "launch"]

_HOME = {"Store": "orchestrator.store", "Sweep": "orchestrator.spec", "launch": "orchestrator.launcher"}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `raysweep --help` and a worker load only what they need."""
    if name not in _HOME:
        raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
