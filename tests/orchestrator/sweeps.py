"""Small sweeps for tests."""

from __future__ import annotations

import json

from raysweep.orchestrator.sweep.spec import Sweep


def sweep_of(workload: str, more: str = "", seeds: str = "[0]", methods: list[str] | None = None) -> Sweep:
    """A sweep `s` of one workload."""
    grid = f"[[grid]]\nmethod = {json.dumps(methods or ['m'])}\n"
    return Sweep.from_text(f'name="s"\nworkload="{workload}"\nseeds={seeds}\n{more}\n{grid}')
