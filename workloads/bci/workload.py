"""Neural decoding across sessions: Experiment 9 of the paper (Sec. 4.9, Table 12).

A network reads the spikes of session A, bin by bin, and decodes the finger's movement. It learns at every step by the
cell's rule. It continues on session B, recorded days or months later, without recalibration. PCA and z-scores
(`raysweep.workloads.bci.recordings.preprocess`) are fitted on A alone. A cell makes two passes over B:

- adapting: online learning continues. At B's first bin the network state and the influence are reset, since a new
  session is a new sequence. Weights and the optimiser's state are kept.
- frozen: the weights stay as they were at A's end, without learning. At B's first bin the network state is zero.

Errors are mean squared errors of predictions made before the update, over both coordinates of z-scored targets
(predicting A's mean has error 1 on A). The paper does not define its evaluation windows. Here `a_end` is the last
tenth of A, and `b_early`, `b_middle`, `b_late` are the thirds of B.

Metrics:

- `mse_a_end`, `mse_b_...`: errors on A and in the adapting pass over B. `frozen_b_...`: errors in the frozen pass.
- `r2_b_late`, `frozen_r2_b_late`: R^2 about the target's mean in the window, averaged over the two coordinates.
- `recovery_b_late`: Eq. 12 in percent, with all errors from this cell's weights,

    recovery = 100 (frozen_b_late - mse_b_late) / (frozen_b_late - mse_a_end)

  It is absent if the denominator, the drift, is not positive.
- `diverged` (0 or 1). If 1, `diverged_at` is the step along A and B. Windows of the adapting pass that end after
  this step are absent. If the step lies in A, the metrics of the frozen pass are absent too.
- `gap_days`: days from A to B, if both files have dates.
- `bins_a`, `bins_b`: number of bins used of each session.
- `seconds_per_step`: mean duration of a step of learning.

Baselines, which depend only on the data (`workloads.bci.recordings.decoders`):

- `ridge_frozen_b_late`: Wiener filter of 10 bins, fitted on A.
- `ridge_refit_b_late`: the same filter, fitted on B's first three minutes. The networks do not get such a
  recalibration. This metric is absent if the three minutes reach into the last third of B.
- `kalman_frozen_b_late`: Kalman filter, fitted on A.
- `mean_b_late`: A's mean.

With `adaptive = true` also decoders that adapt to B online (`workloads.bci.recordings.adaptive`), each in the three
thirds of B: `rls_b_...` (recursive least squares with forgetting), `online_ridge_b_...` (the same without
forgetting), `anew_b_...` (a ridge fitted on B as far as it has gone, from A's as a prior) and
`kalman_adaptive_b_...`. The forgetting factors `rls_forgetting` and `kalman_forgetting` are chosen on A.
`rls_hindsight_b_late` and `kalman_hindsight_b_late` are the errors with the factor that is best there.

Persistence is not a baseline: it would see the movement to be decoded.

Arrays: `mse_b` and `frozen_b` are the errors of the adapting and the frozen pass over B. Each value is the mean of 50
bins; an incomplete last group is dropped. The probes' measurements are arrays, too.

Differences from the paper: the paper has one frozen decoder per seed. Here each rule's own weights are frozen, so all
errors in Eq. 12 come from one network. The paper does not state its preprocessing of spikes before the PCA; here it
is counts in bins, not smoothed. Two controls are added: `session_a` = `session_b` (the halves of one session: no
gap), and `relabel` (B with its channels permuted: no drift).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_limits

from raysweep.workloads.arrays import Array
from raysweep.workloads.bci.recordings.adaptive import adaptive_baselines
from raysweep.workloads.bci.recordings.original import CHANNELS
from raysweep.workloads.bci.recordings.pair import (
    LATE,
    Pair,
    PairSettings,
    load_baselines,
    load_pair,
    session_at,
    windows_a,
    windows_b,
)
from raysweep.workloads.bci.recordings.preprocess import Target
from raysweep.workloads.bci.recordings.recording import USUAL_MS, digest, find
from raysweep.workloads.bci.recordings.sessions import KNOWN
from raysweep.workloads.interface import AddedLater, Cell, Context, Metrics
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
"""Number of bins whose errors are averaged into one value of the arrays `mse_b` and `frozen_b`."""
ADAPTIVE_US = 1500.0
"""Microseconds per bin of A and B that `cost` assumes for the adaptive baselines."""
USUAL_BINS = 12_000
"""Number of bins that `cost` assumes for a session that is not in `KNOWN`."""
Session = Annotated[str, Field(pattern=r"^\w+$")]


class Config(LearnerConfig):
    """The learner's settings, the two sessions, and the quantity to decode."""

    session_a: Session = Field(default="20160624_03", description="session to train on")
    session_b: Session = Field(
        default="20170131_02", description="session decoded afterwards; the same as session_a: its halves"
    )
    digest_a: str | None = Field(
        default=None, description="digest of session_a's data; None: from its file or our table"
    )
    digest_b: str | None = Field(
        default=None, description="digest of session_b's data; None: from its file or our table"
    )
    bin_ms: int = Field(default=USUAL_MS, ge=1, description="width of a bin")
    components: int = Field(default=40, ge=1, le=CHANNELS, description="principal components kept: the inputs")
    target: Target = Field(default="velocity", description="decoded quantity of the finger")
    limit: int | None = Field(default=None, ge=10, description="first bins of each session used; None: all")
    relabel: int | None = Field(default=None, ge=0, description="seed of a permutation of session_b's channels")
    adaptive: Annotated[bool, AddedLater(False)] = Field(
        default=False, description="also compute the decoders that adapt online, about 20 seconds"
    )


def settle(method: str, k: int | None, config: Config) -> tuple[int | None, Config]:
    """Fill in defaults that depend on method and sessions. Refuse settings that have no effect or exclude one another.

    Args:
        method: a name in `METHODS`.
        k: the k that the sweep states, or None.
        config: the config, whose fields are valid one by one.

    Returns:
        The k to record, and the complete config with both digests.

    Raises:
        ValueError: all problems, one per line.
    """
    k, values, problems = settle_learner(method, k, config)
    if config.loss == "cross_entropy":
        problems.append("loss = 'cross_entropy' on movements, which are numbers; valid: mse, half_sse")
    digests = {}
    for setting, session, requested in (
        ("digest_a", config.session_a, config.digest_a),
        ("digest_b", config.session_b, config.digest_b),
    ):
        try:
            digests[setting] = requested or digest(session, config.bin_ms)
        except ValueError as error:
            problems.append(str(error))
    if config.session_a in KNOWN and config.session_b in KNOWN:
        problems += beyond_the_end(sum(_bins(config)), values, config)
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
    return k, config.model_copy(update=values | digests)


def cost(method: str, k: int | None, config: Config) -> float:
    """Estimate the relative cost of a cell, given the k and config that `settle` returns."""
    bins = sum(_bins(config))
    return bins * (cost_of_step(method, k, config, config.components) + ADAPTIVE_US * config.adaptive)


def lacks(config: Config) -> str | None:
    """Name the first missing module or session file, and how to get it. None if nothing is missing."""
    if missing := missing_module("sklearn", "paper") or missing_compiler(config):
        return missing
    try:
        for session in (config.session_a, config.session_b):
            find(session, config.bin_ms)
    except ValueError as error:
        return str(error)
    return None


def _bins(config: Config) -> list[int]:
    """Return the number of bins that a cell uses of each session; `USUAL_BINS` if a session is not in `KNOWN`."""
    return [
        min(KNOWN[session].bins * USUAL_MS // config.bin_ms if session in KNOWN else USUAL_BINS, config.limit or 10**9)
        for session in (config.session_a, config.session_b)
    ]


def run(cell: Cell, context: Context) -> Metrics:
    """Learn along session A, decode session B with and without learning, and return the metrics."""
    config: Config = cell.config
    a = session_at(config.session_a, config.digest_a, find(config.session_a, config.bin_ms))
    b = session_at(config.session_b, config.digest_b, find(config.session_b, config.bin_ms))
    settings = PairSettings(a, b, config.bin_ms, config.components, config.target, config.limit, config.relabel)
    with threadpool_limits(1):  # the last bits of a BLAS product depend on the number of threads
        pair = load_pair(settings)
        metrics = {**_learn(cell, pair, context), **load_baselines(settings)}
        if config.adaptive:
            metrics |= adaptive_baselines(pair, config.target)
    if pair.gap_days is not None:
        metrics["gap_days"] = float(pair.gap_days)
    return metrics


def both_sessions(pair: Pair) -> Stream:
    """Join the sessions into one stream: A, then B as a new sequence."""
    inputs = np.concatenate([pair.inputs_a, pair.inputs_b])
    begins = np.zeros(len(inputs), np.bool_)
    begins[[0, len(pair.inputs_a)]] = True
    return Stream(inputs, np.concatenate([pair.targets_a, pair.targets_b]), (), {}, begins=begins)


def frozen_predictions(learner: Learner, theta: Array, n: int, inputs: Array) -> Array:
    """Predict from inputs (T, k) with fixed weights, starting at state zero: (T, n_out) float64."""
    architecture, parameters = learner.architecture, learner.layout.split(theta)
    state = np.zeros((architecture.components, n), theta.dtype)
    predictions = []
    with np.errstate(over="ignore", invalid="ignore"):  # linear networks may diverge on data they were not trained on
        for x in inputs.astype(theta.dtype):
            state, _ = architecture.forward(parameters, state, x)
            predictions.append(architecture.predict(parameters, state, x))
    return np.array(predictions, dtype=np.float64)


def recovery(frozen: float, adapting: float, target: float) -> float | None:
    """Compute the recovery of Eq. 12, in percent. None if the frozen pass's error is not above `target`.

    Args:
        frozen: MSE of the frozen pass in the last third of B.
        adapting: MSE of the adapting pass in the last third of B.
        target: MSE at the end of A.
    """
    drift = frozen - target
    return 100 * (frozen - adapting) / drift if drift > 0 else None


def _learn(cell: Cell, pair: Pair, context: Context) -> dict[str, float]:
    """Learn along A and B in one run. If the run reaches B, also decode B with the weights from A's end."""
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
        recovered = recovery(metrics[f"frozen_{LATE}"], metrics[f"mse_{LATE}"], metrics["mse_a_end"])
        if recovered is not None:
            metrics[f"recovery_{LATE}"] = recovered
    return metrics | whole.outcome()


def _measure(error: str, r2: str, predictions: Array, targets: Array, windows: tuple[Segment, ...]) -> dict[str, float]:
    """Compute the MSE of each window that the predictions cover, and R^2 in the last third of B.

    `error` and `r2` are the prefixes of the metrics' names.
    """
    errors = squared_errors(predictions, targets)
    metrics = {}
    for name, start, stop in windows:
        if stop > len(predictions) or not np.isfinite(errors[start:stop]).all():
            continue
        metrics[f"{error}_{name}"] = float(errors[start:stop].mean())
        variance = targets[start:stop].var(0)
        if name == LATE and (variance > 0).all():
            errors_of_each = np.mean((predictions[start:stop] - targets[start:stop]) ** 2, axis=0)
            metrics[f"{r2}_{name}"] = float(np.mean(1 - errors_of_each / variance))
    return metrics


def _curve(context: Context, name: str, errors: Array) -> None:
    points = len(errors) // CURVE
    if points:
        context.array(name, errors[: points * CURVE].reshape(points, CURVE).mean(1).astype("float32"), stride=CURVE)
