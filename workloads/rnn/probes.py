r"""Measurements of a rule's influence and gradient at chosen steps, without effect on the training.

Spectrum (Section 5.1 of the paper): the singular values of J_t, restricted to the rows of the Q components that the
readout sees. These rows form a (Q n, P) matrix, P = G n m.

    sigma_1 >= ... >= sigma_N, N = Q n;  condition = sigma_1 / sigma_N;
    effective_rank = least r with sum_{i <= r} sigma_i^2 >= 0.95 sum_i sigma_i^2

If the step has one stage and Q = 1, `condition` and `effective_rank` are also measured for the immediate influence
I_t alone. The rows of I_t are orthogonal, so its condition number reflects unequal slopes of the units, not
propagation.

Alignment: cosine and ratio of norms between the rule's gradient and that of exact RTRL. The exact gradient is
computed by backpropagation through the same trajectory to its start, with the weights of each step. Cosine and ratio
are measured for each group of parameters (`all`, `W`, `U`, `b`, ...). They are also measured for the past parts of
the two gradients, G_t - I_t^T q_t, since the immediate part I_t^T q_t is exact in every rule that uses the true
learning signal q_t.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.rnn.linearization import Step, at_state, local_gradient, read_back

RANK_SHARE = 0.95
SINGULAR = 1e15
"""The condition number recorded for a singular matrix, since metrics are finite."""
ROUNDING = 1e-6
"""A past part whose norm is below this fraction of the whole gradient's norm is rounding error, and is set to zero."""
FORGOTTEN = 1e-14
"""Backpropagation to an earlier step stops when the adjoint's norm is below this fraction of its first value."""


class Recorded(NamedTuple):
    """A measured array.

    Entry i belongs to step `step + i * stride`. All singular values of a spectrum, however, belong to `step`.
    """

    name: str
    values: Array
    step: int
    stride: int = 1


class Schedule(NamedTuple):
    """The steps to measure: E - 1, 2 E - 1, ... for an interval of E steps; none if the interval is None.

    Spectrum and alignment have separate intervals.
    """

    spectrum_every: int | None = None
    alignment_every: int | None = None

    @property
    def any(self) -> bool:
        """Whether any step is measured."""
        return self.spectrum_every is not None or self.alignment_every is not None

    def spectrum(self, t: int) -> bool:
        """Tell whether the spectrum of step t is measured."""
        return self.spectrum_every is not None and (t + 1) % self.spectrum_every == 0

    def alignment(self, t: int) -> bool:
        """Tell whether the alignment of step t is measured."""
        return self.alignment_every is not None and (t + 1) % self.alignment_every == 0

    def next(self, t: int) -> int:
        """Return the first measured step from t on."""
        return min(t + every - 1 - t % every for every in self if every is not None)


class Findings:
    """Collects the measurements of one run."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._spectra: list[Recorded] = []
        self._series: dict[str, list[float]] = {}
        self._first: dict[str, int] = {}

    def spectrum(self, t: int, influence: Array, step: Step, read: int) -> None:
        """Measure the spectrum of J_t and, if the step has one stage and Q = 1, of the immediate influence.

        Args:
            t: the step.
            influence: J_t (C n, P).
            step: the linearised step.
            read: Q, the number of components that the readout sees: the last Q. Only their rows of J_t are used.
        """
        n = step[-1].own.shape[2]
        sigma = singular_values(influence[-read * n :])
        self._spectra.append(Recorded("singular_values", sigma, t))
        self._put(t, "condition", condition(sigma))
        self._put(t, "effective_rank", float(effective_rank(sigma)))
        if len(step) == 1 and read == 1:
            alone = immediate_singular_values(step)
            self._put(t, "immediate_condition", condition(alone))
            self._put(t, "immediate_effective_rank", float(effective_rank(alone)))

    def alignment(
        self,
        t: int,
        gradient: Array,
        steps: Iterable[Step],
        signal: Array,
        groups: Callable[[Array], Mapping[str, Array]],
    ) -> None:
        """Compare a rule's gradient with that of exact RTRL, for each group of parameters.

        Args:
            t: the step.
            gradient: the rule's gradient (G, n, m).
            steps: the linearised steps of the sequence so far, newest first.
            signal: the learning signal q_t (Q, n).
            groups: splits a gradient (G, n, m) into named groups of parameters.
        """
        exact, immediate = exact_gradient(steps, signal)
        past = (gradient - immediate, exact - immediate)
        for part, whole in zip(past, (gradient, exact), strict=True):
            if np.linalg.norm(part) <= ROUNDING * np.linalg.norm(whole):
                part[...] = 0.0  # the difference of two roundings of the immediate part
        for prefix, (estimate, reference) in {"": (gradient, exact), "past_": past}.items():
            pairs = {"all": (estimate, reference)}
            reference_groups = groups(reference)
            pairs |= {name: (group, reference_groups[name]) for name, group in groups(estimate).items()}
            for name, (one, other) in pairs.items():
                cosine, ratio = compare(one.ravel(), other.ravel())
                self._put(t, f"{prefix}cosine_{name}", cosine)
                self._put(t, f"{prefix}ratio_{name}", ratio)

    def arrays(self) -> list[Recorded]:
        """Return all measurements, as arrays to record."""
        every = {True: self.schedule.alignment_every or 1, False: self.schedule.spectrum_every or 1}
        series = [
            Recorded(name, np.array(values), self._first[name], every["cosine" in name or "ratio" in name])
            for name, values in self._series.items()
        ]
        return [*self._spectra, *series]

    def _put(self, t: int, name: str, value: float) -> None:
        self._first.setdefault(name, t)
        self._series.setdefault(name, []).append(value)


def singular_values(influence: Array) -> Array:
    """Compute all n singular values of J (n, P), descending, in float64 from the n by n Gram matrix."""
    wide = influence.astype(np.float64)
    eigenvalues = np.linalg.eigvalsh(wide @ wide.T)[::-1]
    sigma: Array = np.sqrt(np.maximum(eigenvalues, 0.0))
    return sigma


def immediate_singular_values(step: Step) -> Array:
    """Compute the singular values of the immediate influence on h, descending, for a step with one stage.

    Unit i has the singular value sqrt(sum_g (gain[g, i] ||inputs_g||)^2).
    """
    (stage,) = step
    gain, inputs = stage.gain[-1].astype(np.float64), stage.inputs.astype(np.float64)
    squares = np.einsum("gi,gi,gl,gl->i", gain, gain, inputs, inputs)
    return np.sort(np.sqrt(squares))[::-1]


def condition(sigma: Array) -> float:
    """Compute the condition number sigma_1 / sigma_n, limited to `SINGULAR`."""
    return float(min(sigma[0] / sigma[-1], SINGULAR)) if sigma[-1] > 0 else SINGULAR


def effective_rank(sigma: Array, share: float = RANK_SHARE) -> int:
    """Return the least number of singular values that make up the fraction `share` of the sum of squares.

    Args:
        sigma: the singular values, descending.
        share: the fraction.

    Returns:
        The number; 0 for a zero matrix.
    """
    squares = np.cumsum(sigma**2)
    return int(np.searchsorted(squares, share * squares[-1]) + 1) if squares[-1] > 0 else 0


def exact_gradient(steps: Iterable[Step], signal: Array) -> tuple[Array, Array]:
    """Compute the gradient of exact RTRL and its immediate part, (G, n, m) each, by backpropagation.

    Args:
        steps: the linearised steps of the sequence so far, newest first.
        signal: the learning signal (Q, n) of the newest step.

    Raises:
        ValueError: there are no steps.
    """
    total: Array | None = None
    immediate: Array | None = None
    adjoint: Array = signal
    first = 0.0
    for step in steps:
        if total is None:
            adjoint = at_state(step, signal).astype(np.float64)
            first = float(np.linalg.norm(adjoint))
            immediate = local_gradient(step, adjoint)
            total = np.zeros_like(immediate)
        part, adjoint = read_back(step, adjoint)
        total += part
        if float(np.linalg.norm(adjoint)) <= FORGOTTEN * first:
            break
    if total is None or immediate is None:
        raise ValueError("an alignment needs at least one step of the sequence")
    return total, immediate


def compare(estimate: Array, reference: Array) -> tuple[float, float]:
    """Compute the cosine of two vectors, and ||estimate|| / ||reference||. Both are 0 if either vector is zero."""
    a, b = estimate.astype(np.float64), reference.astype(np.float64)
    norm_a, norm_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if norm_a == 0.0 or norm_b == 0.0:
        return 0.0, 0.0
    return float(a @ b) / (norm_a * norm_b), norm_a / norm_b
