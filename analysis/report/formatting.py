"""Formatting of numbers and times, and the command that resumes, shared by the HTML page and Markdown."""

from __future__ import annotations

from datetime import datetime

from raysweep.analysis.rendering import ABSENT
from raysweep.orchestrator.text import at_store, shell_quoted


def number(value: float | None) -> str:
    """Format a number with four significant digits; a dash if it is absent."""
    return ABSENT if value is None else f"{value:.4g}"


def whole(value: int) -> str:
    """Format an integer with thousands separators, such as `12,345`."""
    return f"{value:,}"


def time(value: datetime) -> str:
    """Format a time to the minute, such as `2026-11-24 09:09 UTC`."""
    return f"{value:%Y-%m-%d %H:%M} UTC"


def with_interval(mean: float, low: float | None, high: float | None) -> str:
    """Format a mean with its interval, such as `0.12 [0.1, 0.14]`; the mean alone if an end is absent."""
    return number(mean) if low is None or high is None else f"{number(mean)} [{number(low)}, {number(high)}]"


def resume(store: str, where: str | None) -> str:
    """Build the command that runs the store's missing cells."""
    return f"raysweep resume{at_store(store)}" + (f" --where {shell_quoted(where)}" if where else "")
