"""`compare`: whether one setting is better than another, by how much, how certainly, and how many seeds it takes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from raysweep.analysis.questions.permutation import two_sided_p, weights
from raysweep.analysis.questions.sequential import difference
from raysweep.analysis.questions.settings import Cells, check_better, paired, read
from raysweep.analysis.statistics.distributions import t_quantile
from raysweep.analysis.statistics.inference import holm
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.grammar.question import Pairing, labels, pairings
from raysweep.orchestrator.text import join_first

Array = NDArray[np.float64]

LEVEL, POWER_Z = 0.05, 0.8416
"""Significance level of a test; quantile of the standard normal distribution for a power of 80 %."""
_MAX_FURTHER = 1_000_000


@dataclass(frozen=True)
class Comparison:
    """Two settings compared in one metric, paired by seed.

    Args:
        metric: the metric's name.
        better: "lower" or "higher".
        a: the first setting's name.
        b: the second setting's name.
        stratum: values that both settings share and that distinguish this comparison from others of the call; may
            be empty.
        also_differing: keys in which the two settings differ although the predicates do not name them.
        pairs: the number of seeds at which both settings have an outcome.
        a_better: the number of these seeds at which a is better; a failed or diverged cell is worse than any other.
        b_better: the number of these seeds at which b is better.
        failed: the numbers of failed cells in the pairs, of a and of b.
        diverged: the numbers of done cells without a value in the pairs, of a and of b.
        unpaired: the number of seeds at which only a has an outcome, and at which only b has.
        effect: the mean of a - b over the pairs in which both have a value; None if there are no such pairs.
        interval: the 95 % t interval of the effect; None for fewer than two of these pairs.
        p: two-sided p by sign-flip permutation over all pairs.
        p_holm: the p after Holm's correction over all comparisons of the call.
        further: the number of further seeds for a power of 80 %, if the true effect is the observed one; None if
            unknown.
    """

    metric: str
    better: str
    a: str
    b: str
    stratum: str
    also_differing: tuple[str, ...]
    pairs: int
    a_better: int
    b_better: int
    failed: tuple[int, int]
    diverged: tuple[int, int]
    unpaired: tuple[int, int]
    effect: float | None
    interval: tuple[float, float] | None
    p: float
    p_holm: float
    further: int | None

    @property
    def verdict(self) -> str:
        """`a is better`, `b is better` or `no difference shown`, at 5 % after Holm's correction."""
        if self.p_holm > LEVEL or self.a_better == self.b_better:
            return "no difference shown"
        return "a is better" if self.a_better > self.b_better else "b is better"

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Describe the comparison in lines of text."""
        at = f", at {self.stratum}" if self.stratum else ""
        head = f"{self.metric} ({self.better} is better){at}: a = {self.a}; b = {self.b}"
        if self.effect is None:
            effect = "  a - b: no seed at which both have a value"
        elif self.interval is None:
            effect = f"  a - b: {self.effect:.4g}, from one seed"
        else:
            effect = f"  a - b: {self.effect:.4g} (95 % interval {self.interval[0]:.4g} to {self.interval[1]:.4g})"
        holm_text = f", {self.p_holm:.2g} by Holm" if self.p_holm != self.p else ""
        ties = self.pairs - self.a_better - self.b_better
        lines = [
            head, effect,
            f"  seeds: {self.pairs}; a better at {self.a_better}, b at {self.b_better}, equal at {ties}",
            f"  p: {self.p:.2g}{holm_text}; {self.verdict}",
        ]  # fmt: skip
        for name, counts in (("failed", self.failed), ("diverged", self.diverged)):
            if any(counts):
                lines.append(f"  {name}: {counts[0]} of a, {counts[1]} of b (counted as worse than any value)")
        if any(self.unpaired):
            lines.append(f"  not paired: {self.unpaired[0]} seeds of a only, {self.unpaired[1]} of b only")
        if self.also_differing:
            lines.append(f"  a and b differ in {', '.join(self.also_differing)} as well")
        if self.p_holm > LEVEL:
            lines.append(f"  further seeds that would do: {'unknown' if self.further is None else self.further}")
        return lines


@dataclass(frozen=True)
class Comparisons:
    """The comparisons of one call, and settings that could not be compared."""

    entries: tuple[Comparison, ...]
    left_out: tuple[str, ...] = ()

    def __getitem__(self, index: int) -> Comparison:
        return self.entries[index]

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return "\n".join([*(repr(entry) for entry in self.entries), *(f"left out: {line}" for line in self.left_out)])


def compare(
    store: str | Path | Store,
    a: str,
    *others: str,
    metric: str | Sequence[str],
    better: str = "lower",
    where: str | None = None,
) -> Comparisons:
    """Compare the setting `a` with each of the others, paired by seed.

    If predicates select several settings, these are compared stratum by stratum. A key forms strata if its values
    vary and at least one value occurs on both sides, in `a` and in the other. A stratum is one combination of the
    values of all these keys. In a stratum, each side must have exactly one setting; a stratum with settings on only
    one side is left out.

    Args:
        store: a store, its folder or its address.
        a: an SQL predicate that selects the first setting, such as `method=sparse`.
        others: predicates that select the other settings.
        metric: one or several metrics.
        better: "lower" or "higher".
        where: an SQL predicate that cells of all settings have to match.

    Raises:
        InputError: a predicate is invalid, selects no cell or several settings that cannot be told apart, or no seed
            has cells of both settings.
    """
    check_better(better)
    if not others:
        raise InputError(f"{a!r}: nothing to compare with; give a second predicate, such as method=NAME")
    cells = read(store if isinstance(store, Store) else Store(store), where)
    sides = [cells.by_setting.select(predicate) for predicate in (a, *others)]
    metrics = [metric] if isinstance(metric, str) else list(metric)
    entries: list[tuple[Comparison, Array]] = []
    left_out: list[str] = []
    problems: list[str] = []
    for other, side in zip(others, sides[1:], strict=True):
        matched = pairings(sides[0], side, cells.settings)
        left_out += matched.left_out
        problems += [f"{a!r} with {other!r}: {line}" for line in matched.problems]
        for pair in () if matched.problems else matched.pairs:
            try:
                entries += [_comparison(cells, pair, name, better, f"{a} {other}") for name in metrics]
            except InputError as error:
                problems += [f"{a!r} with {other!r}: {line}" for line in error.problems]
    if problems:
        raise InputError([*problems, cells.by_setting.existing()])
    corrected = holm([entry.p for entry, _ in entries])
    return Comparisons(
        tuple(
            replace(entry, p_holm=p, further=0 if p <= LEVEL else _further(differences, LEVEL / len(entries)))
            for (entry, differences), p in zip(entries, corrected, strict=True)
        ),
        tuple(left_out),
    )


def _comparison(cells: Cells, pair: Pairing, metric: str, better: str, predicates: str) -> tuple[Comparison, Array]:
    """Return the comparison before Holm's correction, and differences a - b by seed, negative where a is better."""
    one, other = (cells.outcomes(i, metric, better) for i in (pair.a, pair.b))
    seeds = paired([one, other])
    names = [cells.settings[pair.a], cells.settings[pair.b]]
    a, b = labels(names)
    if not seeds:
        shown = [f"{n}: {join_first(sorted(o.values), 8) or 'none'}" for n, o in ((a, one), (b, other))]
        raise InputError(f"nothing to pair: no seed has ended cells of both; seeds of {shown[0]}; of {shown[1]}")
    values = [np.array([side.values[seed] for seed in seeds]) for side in (one, other)]
    differences = difference(*values)
    sign = 1.0 if better == "lower" else -1.0
    effect, interval = mean_interval(sign * differences[np.isfinite(values[0]) & np.isfinite(values[1])])
    chosen = set(seeds)
    comparison = Comparison(
        metric=metric, better=better, a=a, b=b, stratum=pair.stratum,
        also_differing=tuple(k for k in pair.differing if not re.search(rf"\b{re.escape(k)}\b", predicates)),
        pairs=len(seeds), a_better=int((differences < 0).sum()), b_better=int((differences > 0).sum()),
        failed=(len(one.failed & chosen), len(other.failed & chosen)),
        diverged=(len(one.diverged & chosen), len(other.diverged & chosen)),
        unpaired=(len(one.values) - len(seeds), len(other.values) - len(seeds)),
        effect=effect, interval=interval, p=two_sided_p(differences), p_holm=1.0, further=None,
    )  # fmt: skip
    return comparison, differences


def _further(differences: Array, level: float) -> int | None:
    """Return the number of further pairs for a power of 80 % at `level`, if they are like the pairs of `differences`.

    None if the mean difference is 0, if there are fewer than two pairs, or if more than `_MAX_FURTHER` are needed.
    """
    weight = weights(differences)
    mean = abs(float(weight.mean()))
    if weight.size < 2 or mean == 0:
        return None
    z = NormalDist().inv_cdf(1 - level / 2) + POWER_Z
    needed = math.ceil((z * float(weight.std(ddof=1)) / mean) ** 2)
    smallest = 1 + math.ceil(math.log2(1 / level))  # fewer pairs have no p this small
    further = max(needed, smallest) - weight.size
    return None if further > _MAX_FURTHER else max(1, further)


def mean_interval(values: Array) -> tuple[float | None, tuple[float, float] | None]:
    """Return the mean (None without values) and its 95 % t interval (None for fewer than two values)."""
    if not values.size:
        return None, None
    mean = float(values.mean())
    if values.size < 2:
        return mean, None
    half = t_quantile(1 - LEVEL / 2, values.size - 1) * float(values.std(ddof=1)) / math.sqrt(values.size)
    return mean, (mean - half, mean + half)
