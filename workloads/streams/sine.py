r"""A sine whose frequency changes once; the next value is to be predicted (Experiment 1 of the paper).

    x_t = sin(phase_t),   y_t = x_{t+1},   t = 0, 1, ..., T-1
    jump:        phase_t = frequency_before t for t <= shift, frequency_after t for t > shift
    continuous:  phase_0 = 0, phase_{t+1} = phase_t + (frequency_before for t < shift, else frequency_after)

Either way y_shift is the first target of the later frequency: `pre` holds none that could not be foreseen.

Units: frequencies in radians a step, *without* a factor of 2 pi (with it traces do not fail, so the paper
cannot have had it); x dimensionless, |x| <= 1. n_in = n_out = 1. Nothing is drawn: seeds change the network
only.

Naive baseline: persistence, z_t = x_t, with mean squared error 2 sin(f / 2)^2: 0.0050 before and 0.0447 after
the shift at the default frequencies. (Two past values predict a sine exactly.)

The paper's text leaves open whether the phase jumps; the default is the literal reading, sin(f t).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from workloads.streams.stream import Segment, Stream, StreamKind


def sine(
    steps: int,
    rng: np.random.Generator,
    shift: int,
    frequency_before: float,
    frequency_after: float,
    phase: Literal["jump", "continuous"],
) -> Stream:
    """The sine stream.

    Args:
        steps: T.
        rng: not used; every stream gets one.
        shift: first step whose target has the later frequency, 0 < shift < steps.
        frequency_before: radians a step.
        frequency_after: radians a step.
        phase: whether the phase jumps at the shift or goes on.
    """
    t = np.arange(steps + 1)
    angle: npt.NDArray[np.float64]
    if phase == "jump":
        angle = np.where(t <= shift, frequency_before, frequency_after) * t
    else:
        angle = frequency_before * np.minimum(t, shift) + frequency_after * np.maximum(t - shift, 0)
    x = np.sin(angle)[:, None]
    return Stream(
        inputs=x[:-1],
        targets=x[1:],
        segments=(Segment("pre", 0, shift), Segment("post", shift, steps)),
        baselines={"persistence": x[:-1]},
    )


def problems(steps: int, settings: Mapping[str, Any]) -> list[str]:
    """Both segments must hold a step."""
    if settings["shift"] < steps:
        return []
    return [f"shift = {settings['shift']} with steps = {steps}; valid: 1 to {steps - 1}"]


SINE = StreamKind(
    sine,
    {"shift": 1000, "frequency_before": 0.1, "frequency_after": 0.3, "phase": "jump"},
    problems=problems,
)
