"""Sweeps of cells on Ray, recorded in a crash-safe Parquet store.

from raysweep import Store, Sweep, launch

launch(Sweep.load("paper/e1-sine"), store="results")
Store("results").sql("SELECT method, k, avg(mse_post_last_500) FROM cells GROUP BY ALL")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysweep.analysis.questions.best import best
    from raysweep.analysis.questions.compare import compare
    from raysweep.orchestrator.errors import InputError, StoreBusy
    from raysweep.orchestrator.launch.launch import launch
    from raysweep.orchestrator.store.reader import Store
    from raysweep.orchestrator.sweep.spec import Sweep

__all__ = ["InputError", "Store", "StoreBusy", "Sweep", "best", "compare", "launch"]

_MODULES = {
    "InputError": "raysweep.orchestrator.errors",
    "Store": "raysweep.orchestrator.store.reader",
    "StoreBusy": "raysweep.orchestrator.errors",
    "Sweep": "raysweep.orchestrator.sweep.spec",
    "best": "raysweep.analysis.questions.best",
    "compare": "raysweep.analysis.questions.compare",
    "launch": "raysweep.orchestrator.launch.launch",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that `raysweep --help` and workers load only what they need."""
    if name not in _MODULES:
        raise AttributeError(f"module 'raysweep' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
