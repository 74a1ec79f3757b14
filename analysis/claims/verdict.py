"""Numbers and verdict of a line, by the rules of `docs/verdicts.md`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from raysweep.analysis.cells.notes import named_seeds
from raysweep.analysis.claims.claim import Agreement, ByTests, Interval, Line, Share
from raysweep.analysis.claims.load import LineData
from raysweep.analysis.statistics.inference import (
    LEVEL,
    Estimate,
    estimate,
    fisher_p,
    holm,
    holm_level,
    seeds_needed,
    share_interval,
    share_p,
    zone_p,
)

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
CANNOT, NOT_RUN, BY_TESTS = "cannot be separated", "not run", "checked by tests"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, CANNOT, NOT_RUN, BY_TESTS)
MAX_NAMED = 10_000
"""Numbers of needed seeds above this one are not reported."""


@dataclass(frozen=True)
class Judged:
    """A line's number and p-value before Holm's correction."""

    ours: float | None = None
    lower: float | None = None
    upper: float | None = None
    p: float | None = None
    small: str = CANNOT
    """The verdict if p is at most `LEVEL`."""
    large: str = CANNOT
    """The verdict if p is above `LEVEL` even without Holm's correction."""
    verdict: str | None = None
    """The verdict if there is no p; otherwise None."""
    why: str = ""
    note: str = ""
    """Text appended to `why` for every verdict."""
    estimate: Estimate | None = None


class Settled(NamedTuple):
    """A line's verdict within its family."""

    verdict: str
    alone: str
    """The verdict without Holm's correction for the family's other lines."""
    why: str
    adjusted: float | None
    """Holm's adjusted p."""


def judge(line: Line, data: LineData) -> Judged:
    """The line's number, interval and p; also its verdict if that does not depend on the family."""
    if isinstance(line.judge, ByTests):
        return Judged(verdict=BY_TESTS, why=f"not computed from a store: {line.judge.test}; {line.judge.covers}")
    if data.lacking is not None:
        return Judged(verdict=NOT_RUN, why=data.lacking)
    if isinstance(line.judge, Interval):
        return _interval(line.judge, data)
    if isinstance(line.judge, Share):
        return _share(line.judge, data)
    return _agreement(line.judge, data)


def settle(line: Line, judged: Judged, p_values: Sequence[float], i: int) -> Settled:
    """The line's verdict with and without Holm's correction; the line is test i of the family's `p_values`."""
    if judged.verdict is not None:
        return Settled(judged.verdict, judged.verdict, judged.why + judged.note, None)
    if judged.p is None:
        raise ValueError(f"line {line.part!r} has neither a verdict nor a p-value")
    adjusted = holm(p_values)[i]
    alone = judged.small if judged.p <= LEVEL else judged.large
    verdict = judged.small if adjusted <= LEVEL else CANNOT if judged.p <= LEVEL else judged.large
    reasons = [judged.why, f"p = {judged.p:.2g}, by Holm over {len(p_values)} lines {adjusted:.2g}"]
    if verdict == CANNOT:
        reasons += [] if alone == CANNOT else [f"on its own: {alone}"]
        reasons.append(_would_do(line, judged, holm_level(p_values, i)))
    return Settled(verdict, alone, "; ".join(reasons) + judged.note, adjusted)


def _would_do(line: Line, judged: Judged, level: float) -> str:
    needed = None
    if isinstance(line.judge, Interval) and judged.estimate is not None:
        needed = seeds_needed(judged.estimate, line.judge.low, line.judge.high, level)
    elif isinstance(line.judge, Share) and judged.ours is not None:
        needed = _share_needed(line.judge, judged.ours, level)
    elif isinstance(line.judge, Agreement):
        return "more seeds with these properties are needed"
    if needed is None or needed > MAX_NAMED:
        return "no feasible number of seeds would decide it"
    return f"about {needed} seeds would decide it"


def _interval(criterion: Interval, data: LineData) -> Judged:
    diverged = [s for i, s in enumerate(data.seeds) if any(math.isnan(c[i]) for c in data.columns.values())]
    if diverged:
        return Judged(verdict=CANNOT, why=f"no number, as these diverged: {named_seeds(diverged)}")
    columns = data.columns if criterion.derive is None else criterion.derive(data.columns)
    complete = [c for c in columns.values() if c.size == len(data.seeds)]  # else seeds were left out on purpose
    empty = [s for i, s in enumerate(data.seeds) if any(math.isnan(c[i]) for c in complete)]
    if len(data.seeds) < 2:
        value = None if empty else _in_reader_scale(criterion, estimate(criterion.statistic, columns).value)
        return Judged(value, verdict=CANNOT, why="one seed has no interval")
    if empty:
        rest = {name: np.delete(c, [data.seeds.index(s) for s in empty]) for name, c in columns.items()}
        left = len(data.seeds) - len(empty)
        value = _in_reader_scale(criterion, estimate(criterion.statistic, rest).value) if left else None
        return Judged(
            value,
            verdict=CANNOT,
            why=f"{criterion.undefined} on {named_seeds(empty)}; the number is over the other {left}",
        )
    estimated = estimate(criterion.statistic, columns)
    low, high = estimated.interval()
    ends = [f"{criterion.to_reader(end):.3g}" if math.isfinite(end) else "" for end in (criterion.low, criterion.high)]
    zone = f"{ends[0]} to {ends[1]}" if all(ends) else f"at least {ends[0]}" if ends[0] else f"at most {ends[1]}"
    inside = criterion.low <= estimated.value <= criterion.high
    return Judged(
        ours=_in_reader_scale(criterion, estimated.value),
        lower=_in_reader_scale(criterion, low),
        upper=_in_reader_scale(criterion, high),
        p=zone_p(estimated, criterion.low, criterion.high),
        small=REPRODUCED if inside else NOT_REPRODUCED,
        why=f"{'inside' if inside else 'outside'} the zone ({zone})",
        note=_indistinct(criterion, data.trivial) if inside else "",
        estimate=estimated,
    )


def _indistinct(criterion: Interval, trivial: Mapping[str, float]) -> str:
    """A sentence on the trivial predictors that lie in the zone too; empty unless the statistic is a level."""
    if not criterion.level:
        return ""
    low, high = criterion.to_reader(criterion.low), criterion.to_reader(criterion.high)
    inside = [f"{name}, {value:.3g}" for name, value in trivial.items() if low <= value <= high]
    return f". Trivial predictors lie in the zone too ({'; '.join(inside)}): the level proves nothing" if inside else ""


def _share(criterion: Share, data: LineData) -> Judged:
    failing = criterion.failing(data.columns)
    count, n = int(failing.sum()), len(data.seeds)
    which = f"{count} of {n} seeds" + (
        f" ({named_seeds([s for s, f in zip(data.seeds, failing, strict=True) if f])})" if count else ""
    )
    low, high = share_interval(count, n)
    if n < 2:
        return Judged(count / n, verdict=CANNOT, why=f"{which}: one seed has no interval")
    if criterion.most:
        most = count / n > 0.5
        p = share_p(count, n, 0.5)
        small, large = REPRODUCED if most else NOT_REPRODUCED, CANNOT
        why = f"{'inside' if most else 'outside'} the zone (more than half): {which}"
    else:
        p = fisher_p(count, n, criterion.count, criterion.sample)
        small, large = NOT_REPRODUCED, REPRODUCED if count else CANNOT
        why = f"{which}, the paper {criterion.count} of {criterion.sample}: two samples, Fisher's test"
    return Judged(count / n, low, high, p, small, large, why=why)


def _share_needed(criterion: Share, share: float, level: float) -> int | None:
    """The least number of seeds at which the same share has an exact p of at most `level`; None: 1000 or more."""
    for n in range(2, 1000):
        count = round(share * n)
        if not criterion.most and fisher_p(count, n, criterion.count, criterion.sample) <= level:
            return n
        if criterion.most and share_p(count, n, 0.5) <= level and (count / n > 0.5) == (share > 0.5):
            return n
    return None


def _agreement(criterion: Agreement, data: LineData) -> Judged:
    left, right = criterion.left(data.columns), criterion.right(data.columns)
    n, count = len(data.seeds), int(left.sum())
    share = float((left == right).mean())
    names = [named_seeds([s for s, f in zip(data.seeds, flags, strict=True) if f]) for flags in (left, right)]
    sides = f"{criterion.text}: {names[0] or 'none'} against {names[1] or 'none'}"
    if n < 2:
        return Judged(share, verdict=CANNOT, why=f"{sides}; one seed can't decide")
    if not (left == right).all():
        return Judged(share, verdict=NOT_REPRODUCED, why=sides)
    if count in (0, n):
        return Judged(share, verdict=CANNOT, why=f"{sides}; no verdict without seeds of both kinds")
    chance = 1 / math.comb(n, count)
    why = f"the same seeds ({sides}; by chance 1 in {math.comb(n, count)})"
    return Judged(share, p=chance, small=REPRODUCED, why=why)


def _in_reader_scale(criterion: Interval, value: float) -> float | None:
    """A value in the reported scale; None if it is not finite."""
    number = criterion.to_reader(value) if not math.isnan(value) else math.nan
    return number if math.isfinite(number) and math.isfinite(value) else None


def command(line: Line, data: LineData, narrowing: Mapping[str, str], at: str = "") -> str | None:
    """The command that runs the line's cells, or that chooses one of several settings.

    Args:
        line: the line.
        data: its data.
        narrowing: experiment -> predicate, of all lines for which several settings fit; one choice serves them all.
        at: see `raysweep.analysis.cells.source.Source`.
    """
    if not line.cells:
        return f"python -m pytest {line.judge.test}" if isinstance(line.judge, ByTests) else None
    if data.narrowing:
        choices = {**narrowing, **data.narrowing}.items()
        where = " AND ".join(f"(experiment <> '{experiment}' OR {choice})" for experiment, choice in choices)
        return f'raysweep claims --where "{where}"{at}'
    return data.command or None


def pooled(line: Line) -> bool:
    """Whether a p-value can decide the line, which then counts as a test of its family."""
    return isinstance(line.judge, Interval | Agreement | Share)
