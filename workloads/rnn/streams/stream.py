"""What a stream is: the data of one run, all of it, with its segments and naive predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array, Mask
from raysweep.workloads.rnn.component import Component


class Segment(NamedTuple):
    """Steps start <= t < stop, by the name that metrics carry (`pre`, `post`)."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Stream:
    """T steps of data, float64.

    Args:
        inputs: (T, n_in)
        targets: (T, n_out)
        segments: where windows lie.
        baselines: name -> predictions (T, n_out) that need no learning.
        graded: (T,) steps whose prediction counts; empty: all.
        begins: (T,) steps that begin a sequence of their own; empty: the first alone.
    """

    inputs: Array
    targets: Array
    segments: tuple[Segment, ...]
    baselines: Mapping[str, Array]
    graded: Mask = field(default_factory=lambda: np.ones(0, np.bool_))
    begins: Mask = field(default_factory=lambda: np.ones(0, np.bool_))

    def __post_init__(self) -> None:
        steps = len(self.inputs)
        if not self.graded.size:
            object.__setattr__(self, "graded", np.ones(steps, np.bool_))
        if not self.begins.size:
            object.__setattr__(self, "begins", np.arange(steps) == 0)


@dataclass(frozen=True)
class StreamKind(Component[Stream]):
    """A registry entry.

    Args:
        build: (steps, generator, own settings by keyword) -> stream.
        defaults: its settings in `Config`.
        problems: (steps, own settings) -> what makes them impossible together, one line each.
        inputs: own settings -> n_in.
        classes: whether targets are one-hot; then the loss must be cross entropy, and accuracy is measured.
    """

    problems: Callable[[int, Mapping[str, Any]], list[str]] = lambda steps, settings: []
    inputs: Callable[[Mapping[str, Any]], int] = lambda settings: 1
    classes: bool = False


def shift_within(steps: int, settings: Mapping[str, Any]) -> list[str]:
    """Problem unless the segments before and after a shift both hold a step."""
    if settings["shift"] < steps:
        return []
    if steps == 1:
        return ["steps = 1 on a stream with a shift; valid: 2 or more"]
    return [f"shift = {settings['shift']} with steps = {steps}; valid: 1 to {steps - 1}"]


def whole_sequences(steps: int, length: int) -> list[str]:
    """Problem unless sequences of that length fill the run."""
    if steps % length == 0:
        return []
    return [f"steps = {steps} with sequences of {length} steps; valid: multiples of {length}"]
