"""Online learning of a recurrent network on a stream: Experiments 1 to 6 of the paper.

A cell is one run of a learning rule (`method`, and its `k`) along a stream, from one seed. The network learns at
every step. Metrics use the prediction made *before* the update.

Metrics:

- `mse_SEGMENT_WINDOW` if targets are numbers; `cross_entropy_SEGMENT_WINDOW` and `accuracy_SEGMENT_WINDOW` if they
  are classes. The stream defines the segments: `pre` and `post` (before and after the shift), `seg1`, `seg2`, ..., or
  `all`. The windows of a segment are `all`, `last_500` and `last_200`: all of its graded steps, or the last 500 or
  200 of them. A window longer than its segment is absent.
- the stream's naive baselines over the same windows (`persistence_post_last_500`, `rls2_...`, `chance_accuracy_...`).
  If targets are numbers and the stream has no constant baseline, `constant_...` is added: the error of each window's
  best constant, which is known only in hindsight.
- `diverged` (0 or 1). If 1, `diverged_at` is the step, and windows of segments that end after this step are absent.
- `seconds_per_step`: mean duration of a step.

Arrays: `loss` (0 at steps that are not graded), the numbers that the rule reports at each step, and the probes'
measurements.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from threadpoolctl import threadpool_limits

from raysweep.workloads.arrays import Array
from raysweep.workloads.interface import AddedLater, Cell, Context, Metrics
from raysweep.workloads.rnn.component import owners, resolve
from raysweep.workloads.rnn.learner import (
    LearnerConfig,
    beyond_the_end,
    cost_of_step,
    learn_along,
    missing_compiler,
    name_in,
    settle_learner,
)
from raysweep.workloads.rnn.losses import LOSSES
from raysweep.workloads.rnn.rules import RULES
from raysweep.workloads.rnn.streams import STREAMS
from raysweep.workloads.rnn.streams.stream import Stream
from raysweep.workloads.rnn.windows import constant_means, scores, window_means
from raysweep.workloads.seeds import generators

VERSION = "2"
METHODS = RULES
STREAM_SETTINGS = owners(STREAMS)
CLASS_LOSS = "cross_entropy"
LATER = AddedLater(None)
OfMultiSine = Annotated[float | None, LATER, Field(gt=0, lt=math.pi, description="of multi_sine, radians a step")]


class Config(LearnerConfig):
    """Settings of learner and stream. The defaults are the protocol `paper` on the sine stream."""

    stream: Annotated[str, AfterValidator(name_in(STREAMS))] = "sine"
    steps: int = Field(default=2000, ge=1)
    shift: int | None = Field(default=None, ge=1, description="first step of the stream's later half")
    frequency_before: float | None = Field(default=None, gt=0, lt=math.pi, description="radians a step")
    frequency_after: float | None = Field(default=None, gt=0, lt=math.pi, description="radians a step")
    phase: Literal["jump", "continuous"] | None = None
    segment: Annotated[int | None, LATER] = Field(default=None, ge=1, description="of multi_sine: steps a frequency")
    frequency_1: OfMultiSine = None
    frequency_2: OfMultiSine = None
    frequency_3: OfMultiSine = None
    frequency_4: OfMultiSine = None
    dt: Annotated[float | None, LATER] = Field(default=None, gt=0, description="of lorenz: time between two states")
    sigma: Annotated[float | None, LATER] = Field(default=None, gt=0, description="of lorenz")
    beta: Annotated[float | None, LATER] = Field(default=None, gt=0, description="of lorenz")
    rho_before: Annotated[float | None, LATER] = Field(default=None, gt=0, description="of lorenz, up to the shift")
    rho_after: Annotated[float | None, LATER] = Field(default=None, gt=0, description="of lorenz, from the shift on")
    scale: Annotated[float | None, LATER] = Field(
        default=None, ge=1e-6, le=1e6, description="of lorenz: what states are divided by"
    )
    start: Annotated[float | None, LATER] = Field(
        default=None, description="of lorenz: each coordinate of the first state"
    )
    burn_in: Annotated[int | None, LATER] = Field(
        default=None, ge=0, le=10**7, description="of lorenz: steps left out before the first"
    )
    symbols: Annotated[int | None, LATER] = Field(default=None, ge=2, description="of copy: how many different ones")
    length: Annotated[int | None, LATER] = Field(
        default=None, ge=1, description="of copy, adding: symbols, steps a sequence"
    )
    delay: Annotated[int | None, LATER] = Field(
        default=None, ge=0, description="of copy: blank steps before the first recall"
    )


def settle(method: str, k: int | None, config: Config) -> tuple[int | None, Config]:
    """Fill in defaults that depend on method and stream. Refuse settings that have no effect or exclude one another.

    Args:
        method: a name in `METHODS`.
        k: the k that the sweep states, or None.
        config: the config, whose fields are valid one by one.

    Returns:
        The k to record, which is n for `rtrl` and 0 for `traces`, and the complete config.

    Raises:
        ValueError: all problems, one per line.
    """
    k, values, problems = settle_learner(method, k, config)
    own, stream_problems = resolve("stream", config.stream, STREAMS, STREAM_SETTINGS, config)
    problems += stream_problems
    kind = STREAMS[config.stream]
    problems += kind.problems(config.steps, own)
    if kind.classes != (config.loss == CLASS_LOSS):
        valid = [CLASS_LOSS] if kind.classes else [name for name in LOSSES if name != CLASS_LOSS]
        targets = f"stream {config.stream!r}, whose targets are {'classes' if kind.classes else 'numbers'}"
        problems.append(f"loss = {config.loss!r} on {targets}; valid: {', '.join(valid)}")
    problems += beyond_the_end(config.steps, values, config)
    if problems:
        raise ValueError("\n".join(problems))
    return k, config.model_copy(update=values | own)


def cost(method: str, k: int | None, config: Config) -> float:
    """Estimate the relative cost of a cell, given the k and config that `settle` returns."""
    kind = STREAMS[config.stream]
    return config.steps * cost_of_step(method, k, config, kind.inputs(kind.settings(config)))


def lacks(config: Config) -> str | None:
    """Return the installation command for numba if the cell needs it and it is not installed; otherwise None."""
    return missing_compiler(config)


def run(cell: Cell, context: Context) -> Metrics:
    """Train a network along the cell's stream, record arrays, and return the metrics."""
    config: Config = cell.config
    kind = STREAMS[config.stream]
    stream = kind.build(config.steps, generators(cell.seed).stream, **kind.settings(config))
    with threadpool_limits(1):  # the last bits of a BLAS product depend on the number of threads
        result = learn_along(cell, stream, context.progress)

    if len(result.losses):
        context.array("loss", result.losses.astype("float32"))
    for name, values in result.info.items():
        context.array(name, values)
    for probed in result.probed:
        context.array(*probed)
    return _measure(result.predictions, stream, kind.classes) | result.outcome()


def _measure(predictions: Array, stream: Stream, classes: bool) -> dict[str, float]:
    """Compute the mean of each score in each window, for the run and for the naive baselines."""
    segments, graded, targets = stream.segments, stream.graded, stream.targets
    metrics: dict[str, float] = {}
    for score, values in scores(predictions, targets, classes).items():
        metrics |= window_means(score, values, segments, graded)
    for baseline, guesses in stream.baselines.items():
        for score, values in scores(guesses, targets, classes).items():
            name = f"{baseline}_{score}" if classes else baseline
            metrics |= window_means(name, values, segments, graded)
    if not classes and "constant" not in stream.baselines:
        metrics |= constant_means(targets, segments, graded)
    return metrics
