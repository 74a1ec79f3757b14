"""Modules that a plain `pip install raysweep` leaves out, for the `lacks` of our own workloads."""

from __future__ import annotations

from importlib.util import find_spec


def missing_module(module: str, extra: str) -> str | None:
    """Installation command for a module if it is not installed; otherwise None. The module is not imported.

    Args:
        module: its import name.
        extra: the extra of raysweep that brings it.
    """
    if find_spec(module) is not None:
        return None
    return f"{module} is not installed: pip install 'raysweep[{extra}]'"
