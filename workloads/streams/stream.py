"""What a stream is: the data of one run, all of it, with its segments and naive predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from workloads.arrays import Array
from workloads.component import Component


class Segment(NamedTuple):
    """Steps start <= t < stop, by the name that metrics carry (`pre`, `post`)."""

    name: str
    start: int
    stop: int


class Stream(NamedTuple):
    """T steps of data, float64."""

    inputs: Array  # (T, n_in)
    targets: Array  # (T, n_out)
    segments: tuple[Segment, ...]
    baselines: Mapping[str, Array]  # name -> predictions (T, n_out) that need no learning


@dataclass(frozen=True)
class StreamKind(Component[Stream]):
    """A registry entry.

    Args:
        build: (steps, generator, own settings by keyword) -> stream.
        defaults: its settings in `Config`.
        problems: (steps, own settings) -> what makes them impossible together, one line each.
    """

    problems: Callable[[int, Mapping[str, Any]], list[str]] = lambda steps, settings: []
