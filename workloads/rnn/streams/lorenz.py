r"""The Lorenz system, whose parameter rho changes once.

The task is to predict the next state (Experiment 2, Table 4).

    u' = sigma (v - u),   v' = u (rho - w) - v,   w' = u v - beta w                              (1)
    s_{t+1} = RK4(s_t, dt) with rho_before for t < shift + b, else rho_after                     (2)
    x_t = s_{t+b} / scale,   y_t = x_{t+1},   t = 0, 1, ..., T-1                                 (3)

b is the burn-in: the number of steps with rho_before that are left out before t = 0. The first state of all, s_0, is
(start, start, start). y_shift is the first target of the later rho, so all targets in `pre` are predictable. n_in =
n_out = 3. x is dimensionless, |x| < 3 at the defaults. Time is in units of the equations, dt per step. Nothing is
drawn: seeds change the network only.

At rho = 28 the system is chaotic. At 20 the chaos is transient (Sparrow 1982). At the defaults, the state goes from
wing to wing throughout the 1000 steps after the shift. Later it spirals into one of the two fixed points.

Naive baselines: persistence, with mean squared error .0021 after the shift; `rls2`, which predicts each coordinate
from its own last two values.

The paper states RK4, the shift and both rho; sigma and beta are the classical ones. It leaves open dt, scale, start,
burn-in and centring. All five were chosen so that the results come near Table 4: by default there is no burn-in, and
states are never centred.
"""

from __future__ import annotations

import math

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.streams.baselines import rls2
from raysweep.workloads.rnn.streams.stream import Segment, Stream, StreamKind, shift_within

State = tuple[float, float, float]


def flow(state: State, sigma: float, beta: float, rho: float) -> State:
    """Compute the time derivatives of the Lorenz system, the right-hand sides of (1)."""
    u, v, w = state
    return sigma * (v - u), u * (rho - w) - v, u * v - beta * w


def runge_kutta(state: State, dt: float, sigma: float, beta: float, rho: float) -> State:
    """Do one step of the fourth-order Runge-Kutta method, in Python floats, so that all machines round alike."""

    def along(slope: State, by: float) -> State:
        return state[0] + by * slope[0], state[1] + by * slope[1], state[2] + by * slope[2]

    first = flow(state, sigma, beta, rho)
    second = flow(along(first, dt / 2), sigma, beta, rho)
    third = flow(along(second, dt / 2), sigma, beta, rho)
    fourth = flow(along(third, dt), sigma, beta, rho)
    slopes = zip(first, second, third, fourth, strict=True)
    u, v, w = ((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in slopes)
    return along((u, v, w), dt)


def lorenz(
    steps: int,
    rng: np.random.Generator,
    shift: int,
    dt: float,
    sigma: float,
    beta: float,
    rho_before: float,
    rho_after: float,
    scale: float,
    start: float,
    burn_in: int,
) -> Stream:
    """Build the Lorenz stream.

    Args:
        steps: T.
        rng: not used; the signature is that of every stream.
        shift: first step whose target comes from the later rho, 0 < shift < steps.
        dt: time between two states.
        sigma: parameter of (1).
        beta: parameter of (1).
        rho_before: rho before the shift.
        rho_after: rho from the shift on.
        scale: the number that states are divided by.
        start: each coordinate of the first state.
        burn_in: number of steps left out before step 0.

    Raises:
        ValueError: the states overflow, since dt is too large for the method.
    """
    state = (start, start, start)
    states: list[State] = []
    for t in range(-burn_in, steps + 1):
        if t >= 0:
            states.append(state)
        state = runge_kutta(state, dt, sigma, beta, rho_before if t < shift else rho_after)  # (2)
        if not math.isfinite(sum(state)):
            raise ValueError(f"the Lorenz system overflows with dt = {dt}: too large a step for RK4; try 0.02")
    x: Array = np.array(states) / scale  # (3)
    return Stream(
        inputs=x[:-1],
        targets=x[1:],
        segments=(Segment("pre", 0, shift), Segment("post", shift, steps)),
        baselines={"persistence": x[:-1], "rls2": rls2(x)},
    )


LORENZ = StreamKind(
    lorenz,
    {
        "shift": 1000,
        "dt": 0.02,
        "sigma": 10.0,
        "beta": 8 / 3,
        "rho_before": 28.0,
        "rho_after": 20.0,
        "scale": 20.0,
        "start": 1.0,
        "burn_in": 0,
    },
    problems=shift_within,
    inputs=lambda settings: 3,
)
