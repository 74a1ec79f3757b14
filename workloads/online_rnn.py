"""Online learning of a recurrent network on a stream: Experiments 1 and following of the paper.

A cell is one run of one learning rule (`method`, and its `k`) from one seed along one stream. It trains at
every step and is measured by what it predicted *before* the update.

Metrics: `mse_SEGMENT_WINDOW` over the stream's segments (`pre` and `post` the shift) and windows (`all`,
`last_500`, `last_200`; a window longer than its segment is absent); each naive baseline of the stream over
the same windows (`persistence_post_last_500`); `diverged` (0 or 1); `diverged_at`, the step, only if so: then
a window that it falls into or before is absent; `seconds_per_step`. Arrays: `loss`, and whatever the rule
reports of its steps.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from threadpoolctl import threadpool_limits

from workloads.arrays import Array
from workloads.component import fill, owners
from workloads.interface import Cell, Context, Metrics
from workloads.learner import (
    LearnerConfig,
    build_learner,
    cost_of_step,
    initial_theta,
    name_in,
    settle_learner,
)
from workloads.probes import Findings, Schedule
from workloads.rules import RULES
from workloads.seeds import Generators, generators
from workloads.streams import STREAMS
from workloads.streams.stream import Stream
from workloads.training import Learner, Trajectory, begin, train
from workloads.windows import squared_errors, window_means

VERSION = "2"
METHODS = RULES
STREAM_SETTINGS = owners(STREAMS)


class Config(LearnerConfig):
    """A learner's settings and its stream's; the defaults are the protocol `paper` on the sine."""

    stream: Annotated[str, AfterValidator(name_in(STREAMS))] = "sine"
    steps: int = Field(default=2000, ge=1)
    shift: int | None = Field(default=None, ge=1, description="first step of the stream's later half")
    frequency_before: float | None = Field(default=None, gt=0, description="radians a step")
    frequency_after: float | None = Field(default=None, gt=0, description="radians a step")
    phase: Literal["jump", "continuous"] | None = None


def settle(method: str, k: int | None, config: Config) -> tuple[int | None, Config]:
    """Fill in what follows from method and stream, refuse what has no effect or cannot be.

    Args:
        method: a name in `METHODS`.
        k: as the sweep has it.
        config: as validated.

    Returns:
        The k that is stored (`rtrl`: n, `traces`: 0) and the full config.

    Raises:
        ValueError: all that is wrong, one problem a line.
    """
    k, values, problems = settle_learner(method, k, config)
    found, wrong = fill("stream", config.stream, STREAMS, STREAM_SETTINGS, config)
    problems += wrong
    problems += STREAMS[config.stream].problems(config.steps, found)
    if config.window is not None and config.window > config.steps and "window" in values:
        problems.append(f"window = {config.window} with steps = {config.steps}; valid: 1 to {config.steps}")
    if problems:
        raise ValueError("\n".join(problems))
    return k, config.model_copy(update=values | found)


def cost(method: str, k: int | None, config: Config) -> float:
    """Relative cost of a settled cell."""
    return config.steps * cost_of_step(method, k, config, n_in=1)


def run(cell: Cell, context: Context) -> Metrics:
    """Train along the stream and measure."""
    config: Config = cell.config
    rngs = generators(cell.seed)
    kind = STREAMS[config.stream]
    stream = kind.build(config.steps, rngs.stream, **kind.settings(config))
    n_in, n_out = stream.inputs.shape[1], stream.targets.shape[1]
    learner = build_learner(cell.method, cell.k, config, n_in, n_out)
    theta = initial_theta(learner, config, n_in, n_out, rngs.weights)
    with threadpool_limits(1):  # how BLAS divides a product among threads would show in the last bits
        result = _train(learner, cell, theta, stream, rngs, context)

    done = len(result.losses)
    if done:
        context.array("loss", result.losses.astype("float32"))
    for name, values in result.info.items():
        context.array(name, values)
    for probed in result.probed:
        context.array(*probed)
    metrics = window_means("mse", squared_errors(result.predictions, stream.targets), stream.segments)
    for name, predictions in stream.baselines.items():
        metrics |= window_means(name, squared_errors(predictions, stream.targets), stream.segments)
    metrics["diverged"] = float(result.diverged_at is not None)
    if result.diverged_at is not None:
        metrics["diverged_at"] = float(result.diverged_at)
    metrics |= result.metrics
    metrics["seconds_per_step"] = result.seconds / max(done, 1)
    return metrics


def _train(
    learner: Learner, cell: Cell, theta: Array, stream: Stream, rngs: Generators, context: Context
) -> Trajectory:
    config: Config = cell.config
    schedule = Schedule(config.spectrum_every, config.alignment_every)
    if config.implementation == "fused":
        from workloads.fused.train import train_fused  # no compiler is imported while a sweep is planned

        return train_fused(
            learner, cell.method, cell.k, config, theta, stream, rngs, context.progress, schedule=schedule
        )
    begun = begin(learner, theta, config.hidden, stream.inputs.shape[1], rngs.mask)
    findings = Findings(schedule) if schedule.any else None
    return train(learner, begun, stream, rngs, context.progress, findings=findings)
