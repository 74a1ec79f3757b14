"""Neural decoding across sessions: Experiment 9 of the paper (Sec. 4.9, Table 12).

A network reads the spikes of session A, bin by bin, and decodes the finger's movement, learning at every step by the
cell's rule; then it meets session B, days or months later, with no recalibration. What is fitted beforehand (PCA,
z-scores: `raysweep.workloads.bci.recordings.preprocess`) is fitted on A alone. A cell makes two passes over B:

- adapting: the same online learning goes on. Network state and influence are zero again at B's first bin (a new
  session is a new sequence), weights and the optimiser's moments and step count go on from A (nothing is restarted).
- frozen: the weights as they are at A's end, state zero at B's first bin, nothing is learned.

Every error is that of the prediction made before the update at its step, on z-scored targets (1: what A's mean gets
on A), the mean over both coordinates. The paper does not say where its windows lie. Here `a_end` is the last tenth of
A; `b_early`, `b_middle`, `b_late` are the thirds of B.

Metrics: `mse_a_end`, `mse_b_...`, of the frozen pass `frozen_b_...`; `r2_b_late`, `frozen_r2_b_late`, mean R^2 of
the two coordinates about their own means in the window; `recovery_b_late`, Eq. 12 in percent, both terms from this
cell's own weights:

    recovery = 100 (frozen_b_late - mse_b_late) / (frozen_b_late - mse_a_end)

absent where the drift, its denominator, is not positive. `diverged` (0 or 1); `diverged_at`, the step along A and
B, only if so: then a window of the adapting run that it falls into or before is absent, and with a divergence in A all
that is frozen too. `gap_days` between the sessions, where files say their dates; `bins_a`, `bins_b`;
`seconds_per_step`.

Baselines, which depend on the data only (`workloads.bci.recordings.decoders`): `ridge_frozen_b_late` (Wiener filter
of 10 bins, fitted on A), `ridge_refit_b_late` (fitted on B's first three minutes: a recalibration, which the networks
do not get; absent where the late third begins earlier), `kalman_frozen_b_late` (fitted on A), `mean_b_late` (A's
mean). Persistence is none: it would be told the movement that is to be decoded.

Arrays: `mse_b` and `frozen_b`, means of 50 bins each over B, a rest at its end left out; what probes measured.

What differs from the paper: its frozen decoder is one a seed, while here each rule's own weights are frozen, so that
both terms of Eq. 12 come from one network; its preprocessing of spikes before the PCA is not given (here counts in
bins, not smoothed). Not in it: `session_a` = `session_b`, a session's halves, and `relabel`, B with its channels
permuted, the controls of drift and of nothing but relabelling.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_limits

from raysweep.workloads.arrays import Array
from raysweep.workloads.bci.recordings.original import CHANNELS
from raysweep.workloads.bci.recordings.pair import LATE, Pair, prepare, session_at, windows_a, windows_b
from raysweep.workloads.bci.recordings.preprocess import Target
from raysweep.workloads.bci.recordings.recording import USUAL_MS, digest, find
from raysweep.workloads.bci.recordings.sessions import KNOWN
from raysweep.workloads.interface import Cell, Context, Metrics
from raysweep.workloads.requirements import missing_module
from raysweep.workloads.rnn.learner import (
    LearnerConfig,
    beyond_the_end,
    build_learner,
    cost_of_step,
    learn_along,
    missing_compiler,
    settle_learner,
)
from raysweep.workloads.rnn.rules import RULES
from raysweep.workloads.rnn.streams.stream import Segment, Stream
from raysweep.workloads.rnn.training import Learner
from raysweep.workloads.rnn.windows import squared_errors

VERSION = "1"
METHODS = RULES
CURVE = 50
"""Bins whose mean is one point of a curve."""
USUAL_BINS = 12_000
"""Bins of a session that we know nothing of, for the order of a launch."""
Session = Annotated[str, Field(pattern=r"^\w+$")]


class Config(LearnerConfig):
    """A learner's settings, the two sessions and what is decoded."""

    session_a: Session = Field(default="20160624_03", description="trained on")
    session_b: Session = Field(default="20170131_02", description="met afterwards; the same: a session's halves")
    digest_a: str | None = Field(default=None, description="of session_a's data; None: its file's, or as tabled")
    digest_b: str | None = Field(default=None, description="of session_b's data; None: its file's, or as tabled")
    bin_ms: int = Field(default=USUAL_MS, ge=1, description="width of a bin")
    components: int = Field(default=40, ge=1, le=CHANNELS, description="principal components kept: the inputs")
    target: Target = Field(default="velocity", description="of the finger, what is decoded")
    limit: int | None = Field(default=None, ge=10, description="first bins of each session used; None: all")
    relabel: int | None = Field(default=None, ge=0, description="seed of a permutation of session_b's channels")


def settle(method: str, k: int | None, config: Config) -> tuple[int | None, Config]:
    """Fill in what follows from the method and the sessions, refuse what has no effect or cannot be.

    Args:
        method: a name in `METHODS`.
        k: as the sweep has it.
        config: as validated.

    Returns:
        The k that is stored and the full config, with both digests.

    Raises:
        ValueError: all that is wrong, one problem a line.
    """
    k, values, problems = settle_learner(method, k, config)
    if config.loss == "cross_entropy":
        problems.append("loss = 'cross_entropy' on movements, which are numbers; valid: mse, half_sse")
    digests = {}
    for setting, session, given in (
        ("digest_a", config.session_a, config.digest_a),
        ("digest_b", config.session_b, config.digest_b),
    ):
        try:
            digests[setting] = given or digest(session, config.bin_ms)
        except ValueError as error:
            problems.append(str(error))
    if config.session_a in KNOWN and config.session_b in KNOWN:
        problems += beyond_the_end(sum(_bins(config)), values, config)
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
    return k, config.model_copy(update=values | digests)


def cost(method: str, k: int | None, config: Config) -> float:
    """Relative cost of a settled cell."""
    return sum(_bins(config)) * cost_of_step(method, k, config, config.components)


def lacks(config: Config) -> str | None:
    """The first module or session file that is missing, and how to get it; None where all are there."""
    if missing := missing_module("sklearn", "paper") or missing_compiler(config):
        return missing
    try:
        for session in (config.session_a, config.session_b):
            find(session, config.bin_ms)
    except ValueError as error:
        return str(error)
    return None


def _bins(config: Config) -> list[int]:
    """Of both sessions; of one that is not tabled as many as is usual."""
    return [
        min(KNOWN[session].bins * USUAL_MS // config.bin_ms if session in KNOWN else USUAL_BINS, config.limit or 10**9)
        for session in (config.session_a, config.session_b)
    ]


def run(cell: Cell, context: Context) -> Metrics:
    """Learn along A, then both ways along B, and measure."""
    config: Config = cell.config
    a = session_at(config.session_a, config.digest_a, find(config.session_a, config.bin_ms))
    b = session_at(config.session_b, config.digest_b, find(config.session_b, config.bin_ms))
    with threadpool_limits(1):  # how BLAS divides a product among threads would show in the last bits
        pair, naive = prepare(a, b, config.bin_ms, config.components, config.target, config.limit, config.relabel)
        metrics = {**_learn(cell, pair, context), **naive}
    if pair.gap_days is not None:
        metrics["gap_days"] = float(pair.gap_days)
    return metrics


def both_sessions(pair: Pair) -> Stream:
    """A, then B as a sequence of its own."""
    inputs = np.concatenate([pair.inputs_a, pair.inputs_b])
    begins = np.zeros(len(inputs), np.bool_)
    begins[[0, len(pair.inputs_a)]] = True
    return Stream(inputs, np.concatenate([pair.targets_a, pair.targets_b]), (), {}, begins=begins)


def frozen_predictions(learner: Learner, theta: Array, n: int, inputs: Array) -> Array:
    """What fixed weights predict along inputs (T, k), from the state zero: (T, n_out) float64."""
    architecture, parameters = learner.architecture, learner.layout.split(theta)
    state = np.zeros((architecture.components, n), theta.dtype)
    found = []
    with np.errstate(over="ignore", invalid="ignore"):  # linear networks may blow up on data they were not trained on
        for x in inputs.astype(theta.dtype):
            state, _ = architecture.forward(parameters, state, x)
            found.append(architecture.predict(parameters, state, x))
    return np.array(found, dtype=np.float64)


def recovery(frozen: float, adapting: float, target: float) -> float | None:
    """Eq. 12, in percent; None where nothing was lost.

    Args:
        frozen: MSE late in B without adaptation.
        adapting: MSE late in B.
        target: MSE at the end of A.
    """
    drift = frozen - target
    return 100 * (frozen - adapting) / drift if drift > 0 else None


def _learn(cell: Cell, pair: Pair, context: Context) -> dict[str, float]:
    """A and B in one run; where it came to A's end, B once more by the weights that it had there."""
    config: Config = cell.config
    bins_a, bins_b = len(pair.inputs_a), len(pair.inputs_b)
    metrics: dict[str, float] = {"bins_a": float(bins_a), "bins_b": float(bins_b)}
    whole = learn_along(cell, both_sessions(pair), context.progress, keep_at=bins_a)
    if whole.kept is not None:
        learner = build_learner(cell.method, cell.k, config, pair.inputs_a.shape[1], pair.targets_a.shape[1])
        frozen = frozen_predictions(learner, whole.kept, config.hidden, pair.inputs_b)
        metrics |= _measure("frozen", "frozen_r2", frozen, pair.targets_b, windows_b(bins_b))
        _curve(context, "frozen_b", squared_errors(frozen, pair.targets_b))
    for probed in whole.probed:
        context.array(*probed)
    adapting = whole.predictions[bins_a:]
    metrics |= _measure("mse", "r2", whole.predictions[:bins_a], pair.targets_a, windows_a(bins_a))
    metrics |= _measure("mse", "r2", adapting, pair.targets_b, windows_b(bins_b))
    _curve(context, "mse_b", squared_errors(adapting, pair.targets_b))
    if {f"frozen_{LATE}", f"mse_{LATE}"} <= metrics.keys():
        found = recovery(metrics[f"frozen_{LATE}"], metrics[f"mse_{LATE}"], metrics["mse_a_end"])
        if found is not None:
            metrics[f"recovery_{LATE}"] = found
    metrics["diverged"] = float(whole.diverged_at is not None)
    if whole.diverged_at is not None:
        metrics["diverged_at"] = float(whole.diverged_at)
    metrics |= whole.metrics
    metrics["seconds_per_step"] = whole.seconds / max(len(whole.losses), 1)
    return metrics


def _measure(error: str, r2: str, predictions: Array, targets: Array, windows: tuple[Segment, ...]) -> dict[str, float]:
    """MSE of each window that the predictions reach to its end; R^2 late in B."""
    errors = squared_errors(predictions, targets)
    metrics = {}
    for name, start, stop in windows:
        if stop > len(predictions) or not np.isfinite(errors[start:stop]).all():
            continue
        metrics[f"{error}_{name}"] = float(errors[start:stop].mean())
        variance = targets[start:stop].var(0)
        if name == LATE and (variance > 0).all():
            missed = np.mean((predictions[start:stop] - targets[start:stop]) ** 2, axis=0)
            metrics[f"{r2}_{name}"] = float(np.mean(1 - missed / variance))
    return metrics


def _curve(context: Context, name: str, errors: Array) -> None:
    points = len(errors) // CURVE
    if points:
        context.array(name, errors[: points * CURVE].reshape(points, CURVE).mean(1).astype("float32"), stride=CURVE)
