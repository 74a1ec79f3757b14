r"""A sine whose frequency changes once. The task is to predict the next value (Experiment 1 of the paper).

    x_t = sin(phase_t),   y_t = x_{t+1},   t = 0, 1, ..., T-1
    jump:        phase_t = frequency_before * t for t <= shift, frequency_after * t for t > shift
    continuous:  phase_0 = 0, phase_{t+1} = phase_t + (frequency_before for t < shift, else frequency_after)

Either way y_shift is the first target of the later frequency, so all targets in `pre` are predictable.

Units: frequencies are in radians per step, *without* a factor of 2 pi. (With this factor, the rule `traces` would not
fail, but in the paper it does. So the paper cannot have used the factor.) x is dimensionless, |x| <= 1. n_in = n_out
= 1. Nothing is drawn: seeds change the network only.

Naive baselines: persistence, z_t = x_t, with mean squared error 2 sin(f / 2)^2 (0.0050 before and 0.0447 after the
shift at the default frequencies); `rls2`, exact a few steps after the start and after the shift, since two past
values predict a sine.

The paper's text leaves open whether the phase jumps; the default is the literal reading, sin(f t).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.streams.baselines import rls2
from raysweep.workloads.rnn.streams.stream import Segment, Stream, StreamKind, shift_within


def wave(stops: Sequence[int], frequencies: Sequence[float], phase: Literal["jump", "continuous"]) -> Array:
    """Compute the series x_0 ... x_T, (T + 1, 1), with one frequency after another.

    Args:
        stops: the end of each frequency, ascending: frequency i is last used at x[stops[i]], the target of step
            stops[i] - 1. The last stop is T.
        frequencies: radians per step, one for each stop.
        phase: as for `sine`.
    """
    t = np.arange(stops[-1] + 1)
    angle: Array
    if phase == "jump":
        angle = np.array(frequencies)[np.searchsorted(stops, t)] * t
    else:
        starts = [0, *stops[:-1]]
        angle = np.zeros(len(t))
        for frequency, start, stop in zip(frequencies, starts, stops, strict=True):
            angle += frequency * np.clip(t - start, 0, stop - start)
    x: Array = np.sin(angle)[:, None]
    return x


def sine(
    steps: int,
    rng: np.random.Generator,
    shift: int,
    frequency_before: float,
    frequency_after: float,
    phase: Literal["jump", "continuous"],
) -> Stream:
    """Build the stream of a sine whose frequency changes once.

    Args:
        steps: T.
        rng: not used; the signature is that of every stream.
        shift: first step whose target has the later frequency, 0 < shift < steps.
        frequency_before: radians per step before the shift.
        frequency_after: radians per step from the shift on.
        phase: whether the phase jumps at the shift, or is continuous.
    """
    x = wave([shift, steps], [frequency_before, frequency_after], phase)
    return Stream(
        inputs=x[:-1],
        targets=x[1:],
        segments=(Segment("pre", 0, shift), Segment("post", shift, steps)),
        baselines={"persistence": x[:-1], "rls2": rls2(x)},
    )


SINE = StreamKind(
    sine,
    {"shift": 1000, "frequency_before": 0.1, "frequency_after": 0.3, "phase": "jump"},
    problems=shift_within,
)
