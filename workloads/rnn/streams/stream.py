"""The interface of a stream: all data of one run, with its segments and naive predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array, Mask
from raysweep.workloads.rnn.component import Component


class Segment(NamedTuple):
    """A named segment of a stream: steps start <= t < stop.

    Its name, such as `pre`, is part of the names of metrics.
    """

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Stream:
    """The data of one run: T steps, float64.

    Args:
        inputs: (T, n_in)
        targets: (T, n_out)
        segments: the parts of the run over which metrics are computed.
        baselines: name -> naive predictions (T, n_out), which need no learning.
        graded: (T,) whether a step's prediction counts; empty: all do.
        begins: (T,) whether a step begins a new sequence; empty: only the first does.
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
    """A kind of stream, an entry of the registry.

    Args:
        build: (steps, generator, own settings by keyword) -> stream.
        defaults: the stream's own settings, which are fields of `Config`, with their defaults.
        problems: (steps, own settings) -> reasons why these values are impossible together, one line each.
        inputs: own settings -> n_in.
        classes: whether targets are one-hot. The loss must then be cross entropy, and accuracy is measured.
    """

    problems: Callable[[int, Mapping[str, Any]], list[str]] = lambda steps, settings: []
    inputs: Callable[[Mapping[str, Any]], int] = lambda settings: 1
    classes: bool = False


def shift_within(steps: int, settings: Mapping[str, Any]) -> list[str]:
    """Report a problem unless the shift leaves at least one step on both sides."""
    if settings["shift"] < steps:
        return []
    if steps == 1:
        return ["steps = 1 on a stream with a shift; valid: 2 or more"]
    return [f"shift = {settings['shift']} with steps = {steps}; valid: 1 to {steps - 1}"]


def whole_sequences(steps: int, length: int) -> list[str]:
    """Report a problem unless sequences of this length fill the run."""
    if steps % length == 0:
        return []
    return [f"steps = {steps} with sequences of {length} steps; valid: multiples of {length}"]
