"""Which metric an experiment's result is about, and whether lower or higher values of it are better."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from raysweep.orchestrator.sweep.grammar.question import Question

_LOWER = frozenset((
    "loss", "error", "err", "errors", "mse", "rmse", "mae", "nll", "perplexity", "ppl", "regret", "wer", "cer", "fid",
    "distance", "divergence", "bpc", "risk",
))  # fmt: skip
_HIGHER = frozenset((
    "acc", "accuracy", "auc", "f1", "r2", "score", "reward", "return", "precision", "recall", "iou", "bleu", "rouge",
    "psnr", "ssim", "likelihood", "recovery", "success", "correct", "gain",
))  # fmt: skip
_COSTS = frozenset(("cost", "seconds", "time", "latency", "energy", "diverged", "failures"))
"""Words of which lower is better, too, but which are rarely what an experiment is about."""


class Direction(NamedTuple):
    """Whether lower or higher values of a metric are better ("lower", "higher"), and how this is known."""

    metric: str
    better: str
    reason: str


def direction_of(name: str) -> str | None:
    """Guess from a metric's name whether lower or higher values are better; None if the name does not tell."""
    for word in reversed(_words(name)):  # `accuracy_loss` is a loss
        if word in _LOWER or word in _COSTS:
            return "lower"
        if word in _HIGHER:
            return "higher"
    return None


def is_outcome(name: str) -> bool:
    """Return whether a metric's name tells that it is an outcome, such as a loss, rather than a cost or anything."""
    words = _words(name)
    return direction_of(name) is not None and not any(word in _COSTS for word in words)


def choose(
    names: Sequence[str], requested: Sequence[str], better: str | None, questions: Iterable[Question]
) -> Direction | None:
    """Choose the metric of an experiment's result; None if the experiment has no metric.

    Requested metrics come first, then those of declared questions, then outcomes by name.

    Args:
        names: the metrics of the experiment that have a table, in order.
        requested: the metrics that were requested by name.
        better: the direction that was requested, or None.
        questions: the questions of the experiment's sweeps.
    """
    of_question = {q.metric: q.better for q in questions if q.metric in names}
    candidates = [name for name in requested if name in names] or [*of_question] or [*filter(is_outcome, names)]
    candidates = candidates or list(names)
    if not candidates:
        return None
    name = candidates[0]
    if better is not None:
        return Direction(name, better, "as requested")
    if name in of_question:
        return Direction(name, of_question[name], "as the sweep's question says")
    guess = direction_of(name)
    if guess is not None:
        return Direction(name, guess, "by its name")
    return Direction(name, "lower", "assumed; --maximize reverses it")


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
