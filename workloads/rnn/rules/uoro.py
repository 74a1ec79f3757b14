r"""UORO (Tallec and Ollivier 2018), unbiased online recurrent optimisation: influence as one random outer product.

    J_t[(c, i), (g, j, l)] ~ A_t[c, i] B_t[g, j, l]              A (C, n), B (G, n, m)                     (1)
    F   = D_t A_{t-1}                                            F (C, n); D_t the state Jacobian          (2)
    M   = nu^T I_t                                               M (G, n, m); nu (C, n) iid, mean 0,       (3)
                                                                 variance 1, new at every step
    A_t = rho0 F + rho1 nu,   B_t = B_{t-1} / rho0 + M / rho1                                              (4)
    rho0 = sqrt(||B_{t-1}|| / ||F||),   rho1 = sqrt(||M|| / ||nu||)                                        (5)
    G_t = (q_t . A_t) B_t                                        q_t (Q, n), the last Q components         (6)

The estimate is unbiased for constant weights. In A_t B_t the rhos cancel from the products F B and nu M, and the mean
of nu M is I_t. The other two products are odd in nu, so their mean is zero. So any positive rhos that are even in nu
are valid; those of (5) minimise the variance. A step only needs the product of D with a vector, and that of a vector
with I. So the rule is defined on every architecture, with any number of components, gates and stages. Time and memory
are G n m + R n^2 a step, with R recurrent gates.

Tanh RNN: M_jl = nu_j alpha d_j ahat_l. With one unit and one component, nu^T I_t is exact up to the sign of nu.

Sources differ in how they avoid division by zero in (5) (`uoro_variant`):

    guarded      no epsilon: where F or B_{t-1} is zero their product is, so it is left out; likewise nu and M.
                 Zero start, so A_1 = rho1 nu and B_1 = M / rho1. Not from a source.
    tallec       rho = sqrt((right + e) / (left + e)), e = 1e-5, zero start: the authors' Lua code.
    marschall    rho = sqrt(right / (left + e)) + e, ||nu|| = sqrt(C n) whatever nu is, A and B ~ N(0, 1) at
                 the start, and (2) by a finite difference, F = (f(s_{t-1} + e A) - s_t) / e: the code of
                 Marschall, Cho and Savin (2020) with its `epsilon`. The start adds D_t .. D_1 A_0 (x) B_0,
                 of mean zero over its draw only; the difference adds a bias of order e. That code states no
                 e; here it is the square root of the dtype's machine epsilon.
    sketched     rho = sqrt(right / max(left, e)) clipped to [e, 1 / e], e = 1e-7, zero start: the public
                 code `sketched-rtrl`.
    braintrace   as tallec with e = 1e-12: the public code `braintrace`.

`noise` is `sign`, +-1, or `gaussian`. Only `marschall` uses Tallec's finite difference of (2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.registry import Registry
from raysweep.workloads.rnn.linearization import local_gradient, push
from raysweep.workloads.rnn.rules.rule import Info, LearningRule, Observation, Rule, Shape


class RankOne(NamedTuple):
    """The two factors A and B of equation (1)."""

    A: Array  # (C, n)
    B: Array  # (G, n, m)


Pair = tuple[Array, Array]
"""The factors of an outer product."""


def norm(array: Array) -> float:
    """Compute the root of the sum of squares of an array of any shape."""
    return float(np.linalg.norm(array))


def balance(left: float, right: float, epsilon: float = 0.0) -> float:
    """Compute rho = sqrt(right / left) of equation (5) from two norms; 0 if either is zero. `epsilon` is unused."""
    return math.sqrt(right / left) if left and right else 0.0


def mix(rho0: float, kept: Pair, rho1: float, new: Pair) -> Pair:
    """Merge the products (pairs of factors) `kept` and `new` by equation (4). A rho of 0 leaves its product out."""
    return (
        rho0 * kept[0] + rho1 * new[0],
        (1 / rho0 if rho0 else 0.0) * kept[1] + (1 / rho1 if rho1 else 0.0) * new[1],
    )


def _added_to_both(left: float, right: float, epsilon: float) -> float:
    return math.sqrt((right + epsilon) / (left + epsilon))


def _added_to_the_root(left: float, right: float, epsilon: float) -> float:
    return math.sqrt(right / (left + epsilon)) + epsilon


def _clipped(left: float, right: float, epsilon: float) -> float:
    return min(max(math.sqrt(right / max(left, epsilon)), epsilon), 1 / epsilon)  # in this order a NaN stays one


class Variant(NamedTuple):
    """A way to keep equation (5) from dividing by zero."""

    balance: Callable[[float, float, float], float]
    """(norm of the factor that is added to A, norm of the factor that is added to B, epsilon) -> rho."""
    epsilon: float | None  # None: the square root of the dtype's machine epsilon
    difference: bool = False  # as Marschall: F by a finite difference, sqrt(C n) for ||nu||, a random start


UoroVariant = Literal["guarded", "tallec", "marschall", "sketched", "braintrace"]
VARIANTS: Registry[Variant] = Registry(
    "uoro_variant",
    {
        "guarded": Variant(balance, 0.0),
        "tallec": Variant(_added_to_both, 1e-5),
        "marschall": Variant(_added_to_the_root, None, difference=True),
        "sketched": Variant(_clipped, 1e-7),
        "braintrace": Variant(_added_to_both, 1e-12),
    },
)


def signs(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[np.floating[Any]]) -> Array:
    """Draw signs, +1 or -1 with equal probability."""
    drawn: Array = (1 - 2 * rng.integers(0, 2, shape)).astype(dtype)
    return drawn


def gaussians(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[np.floating[Any]]) -> Array:
    """Draw from N(0, 1), always in float64, and round to the dtype."""
    return rng.standard_normal(shape).astype(dtype)


Noise = Literal["sign", "gaussian"]
NOISES: Registry[Callable[[np.random.Generator, tuple[int, ...], np.dtype[np.floating[Any]]], Array]] = Registry(
    "noise", {"sign": signs, "gaussian": gaussians}
)


def uoro(uoro_variant: str = "guarded", noise: str = "sign", epsilon: float | None = None) -> Rule:
    """Build UORO.

    Args:
        uoro_variant: a name in `VARIANTS`.
        noise: a name in `NOISES`.
        epsilon: the epsilon of equation (5); None takes the variant's own.
    """
    variant, draw = VARIANTS[uoro_variant], NOISES[noise]
    if epsilon is not None:
        variant = variant._replace(epsilon=epsilon)

    def init(shape: Shape, rng: np.random.Generator) -> RankOne:
        A, B = (shape.components, shape.n), (shape.gates, shape.n, shape.m)
        if variant.difference:
            return RankOne(gaussians(rng, A, shape.dtype), gaussians(rng, B, shape.dtype))
        return RankOne(np.zeros(A, shape.dtype), np.zeros(B, shape.dtype))

    def update(seen: Observation, state: RankOne, rng: np.random.Generator) -> tuple[Array, RankOne, Info]:
        state = advance(seen, state, draw(rng, state.A.shape, state.A.dtype), variant)
        return contract(state, seen.signal), state, {}

    return Rule(init, update)


def advance(seen: Observation, state: RankOne, nu: Array, variant: Variant = VARIANTS["guarded"]) -> RankOne:
    """Advance the factors by one step, by equations (2) to (5), given the step's noise nu (C, n)."""
    A, B = state
    epsilon = float(np.finfo(A.dtype).eps) ** 0.5 if variant.epsilon is None else variant.epsilon
    F = _difference(seen, A, epsilon) if variant.difference else push(seen.step, A)  # (2)
    M = local_gradient(seen.step, nu)  # (3)
    rho0 = variant.balance(norm(F), norm(B), epsilon)  # (5)
    rho1 = variant.balance(math.sqrt(nu.size) if variant.difference else norm(nu), norm(M), epsilon)  # (5)
    return RankOne(*mix(rho0, (F, B), rho1, (nu, M)))  # (4)


def _difference(seen: Observation, A: Array, epsilon: float) -> Array:
    """Compute D A by a finite difference, with an error of order epsilon."""
    moved: Array = (seen.move(seen.before + epsilon * A) - seen.after) / epsilon
    return moved


def contract(state: RankOne, signal: Array) -> Array:
    """Compute the gradient G_t (G, n, m) from the learning signal q_t (Q, n), by equation (6)."""
    gradient: Array = (signal * state.A[-len(signal) :]).sum() * state.B
    return gradient


def cost(n: int, m: int, k: int | None, settings: Mapping[str, Any]) -> float:
    """Estimate the multiply-adds per step: the update of B, and the product of an (n, n) matrix with a vector."""
    return float(n) * (m + n)


UORO = LearningRule(
    uoro, {"uoro_variant": "guarded", "noise": "sign"}, gradient="unbiased", draws_noise=True, cost=cost
)
