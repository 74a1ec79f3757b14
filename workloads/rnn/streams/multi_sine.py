r"""A sine with frequencies f_1 ... f_4 in turn. The task is to predict the next value (Experiment 2, Table 5).

    x_t = sin(phase_t),   y_t = x_{t+1},   t = 0, 1, ..., 4 S - 1
    jump:        phase_t = f_i t for (i - 1) S < t <= i S, i = 1 ... 4   (phase_0 = 0)
    continuous:  phase_0 = 0, phase_{t+1} = phase_t + f_i for (i - 1) S <= t < i S

So y_t has frequency f_i exactly if step t lies in segment i. The segments `seg1` ... `seg4` have S steps each. A shift
is the first step of seg2, seg3 or seg4. Units and phase are as in `sine`. n_in = n_out = 1, |x| <= 1, nothing is drawn.

Naive baselines: persistence, with mean squared error 2 sin(f / 2)^2 at frequency f (.0050, .0447, .0012 and .0199 at
the defaults); `rls2`, exact a few steps after each shift.

The paper states four regimes and three shifts. It leaves open the frequencies, S, the phase, and the window of "the
first shift point" (here `seg2_last_200`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from raysweep.workloads.rnn.streams.baselines import rls2
from raysweep.workloads.rnn.streams.sine import wave
from raysweep.workloads.rnn.streams.stream import Segment, Stream, StreamKind

REGIMES = 4


def multi_sine(
    steps: int,
    rng: np.random.Generator,
    segment: int,
    frequency_1: float,
    frequency_2: float,
    frequency_3: float,
    frequency_4: float,
    phase: Literal["jump", "continuous"],
) -> Stream:
    """Build the stream of four sines.

    Args:
        steps: T = 4 S.
        rng: not used; the signature is that of every stream.
        segment: S, steps per segment.
        frequency_1: radians per step in seg1.
        frequency_2: radians per step in seg2.
        frequency_3: radians per step in seg3.
        frequency_4: radians per step in seg4.
        phase: whether the phase jumps at a shift, or is continuous.
    """
    stops = [(i + 1) * segment for i in range(REGIMES)]
    x = wave(stops, [frequency_1, frequency_2, frequency_3, frequency_4], phase)
    return Stream(
        inputs=x[:-1],
        targets=x[1:],
        segments=tuple(Segment(f"seg{i + 1}", stop - segment, stop) for i, stop in enumerate(stops)),
        baselines={"persistence": x[:-1], "rls2": rls2(x)},
    )


def problems(steps: int, settings: Mapping[str, Any]) -> list[str]:
    """Report a problem unless the four segments fill the run."""
    segment = settings["segment"]
    if steps == REGIMES * segment:
        return []
    return [
        f"steps = {steps} with {REGIMES} segments of {segment}; "
        f"valid: steps = {REGIMES * segment}, or segment = steps / {REGIMES}"
    ]


MULTI_SINE = StreamKind(
    multi_sine,
    {
        "segment": 1000,
        "frequency_1": 0.1,
        "frequency_2": 0.3,
        "frequency_3": 0.05,
        "frequency_4": 0.2,
        "phase": "jump",
    },
    problems=problems,
)
