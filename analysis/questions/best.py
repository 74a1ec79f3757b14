"""`best`: all settings ordered by a metric, and the set of those that may be the best.

The set contains the best setting with a probability of 95 %. A setting stays in the set unless a test rejects the
hypothesis that this setting is the best. The test statistic is the largest of the setting's standardised paired
differences from all other settings. The distribution of the statistic comes from flipping the signs of all
differences of a seed together (Westfall and Young's max-T).

No further correction is needed. Each setting is tested against all others, not only against the one with the best
mean, so the choice of the best from the same data adds no error. Only a wrong rejection of the truly best setting
violates the 95 %, and that is a single test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raysweep.analysis.questions.compare import LEVEL, mean_interval
from raysweep.analysis.questions.permutation import SAMPLES, max_p
from raysweep.analysis.questions.sequential import difference
from raysweep.analysis.questions.settings import Cells, Outcomes, check_better, read
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.grammar.question import keys_of, labels, shown_value

_MAX_PRODUCTS = 4e9
"""Maximum multiplications of a call; if it is exceeded, fewer signs are drawn, but at least `_MIN_SAMPLES`."""
_MIN_SAMPLES = 499


@dataclass(frozen=True)
class Ranked:
    """A setting in the order of `best`.

    Args:
        setting: its name.
        mean: the mean of its values; None without values.
        interval: the 95 % t interval of the mean; None for fewer than two values.
        values: the number of its values.
        failed: the number of its failed cells.
        diverged: the number of its done cells without a value.
        pending: the number of its cells without an outcome.
        p: the p-value of the hypothesis that no other setting is better.
        may_be_best: whether this hypothesis is not rejected at 5 %.
    """

    setting: str
    mean: float | None
    interval: tuple[float, float] | None
    values: int
    failed: int
    diverged: int
    pending: int
    p: float
    may_be_best: bool


@dataclass(frozen=True)
class Best:
    """The settings in order: first those that may be the best, then the others; both groups are sorted by mean.

    Args:
        metric: the metric's name.
        better: "lower" or "higher".
        settings: the settings.
        shared: the keys and values that all settings share.
        left_out: for each setting without the metric, why it is left out.
    """

    metric: str
    better: str
    settings: tuple[Ranked, ...]
    shared: str
    left_out: tuple[str, ...] = ()

    @property
    def candidates(self) -> tuple[Ranked, ...]:
        """The settings that may be the best."""
        return tuple(entry for entry in self.settings if entry.may_be_best)

    def __repr__(self) -> str:
        rows = [f"{self.summary}:"]
        for entry in self.settings:
            mean = "no value" if entry.mean is None else f"{entry.mean:.4g}"
            interval = f" ({entry.interval[0]:.4g} to {entry.interval[1]:.4g})" if entry.interval else ""
            counts = [f"{entry.values} seeds"]
            counts += [f"{n} {name}" for name in ("failed", "diverged", "pending") if (n := getattr(entry, name))]
            mark = "*" if entry.may_be_best else " "
            rows.append(f"  {mark} {entry.setting}: {mean}{interval}, {', '.join(counts)}, p = {entry.p:.2g}")
        return "\n".join([*rows, *(f"left out: {line}" for line in self.left_out)])

    @property
    def summary(self) -> str:
        """One line with the metric and the number of settings that may be the best."""
        count = len(self.candidates)
        which = f"{count} of {len(self.settings)} settings may be the best (95 %)"
        return f"{self.metric} ({self.better} is better): {which}"


def best(store: str | Path | Store, metric: str, better: str = "lower", where: str | None = None) -> Best:
    """Order the settings of a store by a metric, and determine which may be the best.

    Args:
        store: a store, its folder or its address.
        metric: the metric's name.
        better: "lower" or "higher".
        where: an SQL predicate that selects cells.

    Raises:
        InputError: there is no store, no cell matches, or no cell has the metric.
    """
    check_better(better)
    cells = read(store if isinstance(store, Store) else Store(store), where)
    outcomes, without = _with_metric(cells, metric, better)
    if not outcomes:
        raise InputError([without[0], cells.by_setting.existing()])
    names = [cells.settings[i] for i in outcomes]
    ps = p_values(list(outcomes.values()))
    ranked = [
        _ranked(name, entry, p, better) for name, entry, p in zip(labels(names), outcomes.values(), ps, strict=True)
    ]
    sign = 1 if better == "lower" else -1
    ranked.sort(key=lambda r: (not r.may_be_best, np.inf if r.mean is None else sign * r.mean))
    shared = ", ".join(
        f"{key}={shown_value(names[0][key])}" for key in keys_of(names)
        if all(key in other and other[key] == names[0].get(key) for other in names)
    )  # fmt: skip
    return Best(metric, better, tuple(ranked), shared, tuple(without))


def _with_metric(cells: Cells, metric: str, better: str) -> tuple[dict[int, Outcomes], list[str]]:
    """Return the outcomes of each setting that has ended cells, and the reasons why settings are left out."""
    outcomes: dict[int, Outcomes] = {}
    problems: list[str] = []
    for i in range(len(cells.settings)):
        try:
            entry = cells.outcomes(i, metric, better)
        except InputError as error:
            problems += error.problems
            continue
        if entry.values:
            outcomes[i] = entry
    if not problems and not outcomes:
        problems = [f"none of the {len(cells.settings)} settings has an ended cell"]
    return outcomes, problems


def p_values(outcomes: Sequence[Outcomes]) -> list[float]:
    """Compute for each setting the p-value of the hypothesis that no other setting is better. See the module."""
    seeds = sorted({seed for entry in outcomes for seed in entry.values})
    matrix = np.array([[entry.values.get(seed, np.nan) for seed in seeds] for entry in outcomes])
    count = len(outcomes)
    if count == 1:
        return [1.0]
    samples = int(max(_MIN_SAMPLES, min(SAMPLES, _MAX_PRODUCTS / (count**2 * len(seeds)))))
    return [max_p(difference(matrix[i], matrix).T, samples) for i in range(count)]  # no difference from itself


def _ranked(name: str, entry: Outcomes, p: float, better: str) -> Ranked:
    sign = 1 if better == "lower" else -1
    values = np.array([sign * value for value in entry.values.values() if np.isfinite(value)])
    mean, interval = mean_interval(values)
    return Ranked(
        setting=name, mean=mean, interval=interval, values=values.size, failed=len(entry.failed),
        diverged=len(entry.diverged), pending=len(entry.pending), p=p, may_be_best=p > LEVEL,
    )  # fmt: skip
