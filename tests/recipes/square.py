r"""A square wave whose half-period changes once; the next value is to be predicted.

    x_t = 1 where floor(t / half) is even, else -1;   y_t = x_{t+1}
    half = half_before for t <= shift, half_after for t > shift

x dimensionless, half-periods in steps. n_in = n_out = 1. Nothing is drawn. Naive baseline: persistence, z_t = x_t,
wrong at every switch only: mean squared error 4 / half.
"""

from __future__ import annotations

import numpy as np

from raysweep.workloads.rnn.streams.stream import Segment, Stream, StreamKind, shift_within


def square(steps: int, rng: np.random.Generator, shift: int, half_before: int, half_after: int) -> Stream:
    """The square wave.

    Args:
        steps: T.
        rng: not used; every stream gets one.
        shift: first step whose target has the later half-period.
        half_before: steps.
        half_after: steps.
    """
    t = np.arange(steps + 1)
    x = np.where(t // np.where(t <= shift, half_before, half_after) % 2, -1.0, 1.0)[:, None]
    return Stream(
        inputs=x[:-1],
        targets=x[1:],
        segments=(Segment("pre", 0, shift), Segment("post", shift, steps)),
        baselines={"persistence": x[:-1]},
    )


SQUARE = StreamKind(square, {"shift": 1000, "half_before": 10, "half_after": 4}, problems=shift_within)
