"""Computation of a line's number and verdict, by the rules of `docs/verdicts.md`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from raysweep.analysis.cells.notes import named_seeds
from raysweep.analysis.claims.claim import Agreement, ByTests, Claim, Interval, Line, Share
from raysweep.analysis.claims.load import LineData
from raysweep.analysis.paper.samples import Summary
from raysweep.analysis.statistics.inference import (
    LEVEL,
    MAX_SEEDS,
    Columns,
    Estimated,
    holm,
    holm_level,
    seeds_needed,
    spread_estimate,
    zone_p,
)
from raysweep.analysis.statistics.shares import difference_interval, difference_p, share_interval, share_p

REPRODUCED, NOT_REPRODUCED, MARGIN = "reproduced", "not reproduced", "on the margin"
CANNOT, PAPER_CANNOT, NOT_AT_HAND = "cannot be separated", "the paper cannot tell", "number not at hand"
NOT_RUN, BY_TESTS = "not run", "checked by tests"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, MARGIN, CANNOT, PAPER_CANNOT, NOT_AT_HAND, NOT_RUN, BY_TESTS)
LOST = "lost"
"""First word of a line's `paper` text if our copy of the paper has lost the number."""
RARE = 0.05
"""Largest share of failing seeds that counts as almost none. A claim that some seeds fail excludes such a share."""
PRECISE = 0.25
"""An interval is precise if its half-width is below this fraction of the zone's width."""
_SLACK = 1e-9


@dataclass(frozen=True)
class Judged:
    """A line's number, interval and verdict before the correction for the claim's other lines."""

    verdict: str
    why: str = ""
    ours: float | None = None
    lower: float | None = None
    upper: float | None = None
    p: float | None = None
    paper: tuple[float | None, float | None] = (None, None)
    """The interval of the paper's own seeds."""
    needed: Callable[[float], int | None] | None = None
    """Function from a level of significance to the number of seeds that would decide the line."""
    note: str = ""
    """Text that is appended to the reason, whatever the verdict is."""


class Settled(NamedTuple):
    """A line's verdict within its claim."""

    verdict: str
    alone: str
    """The verdict without Holm's correction for the claim's other lines."""
    why: str
    adjusted: float | None
    """Holm's adjusted p if the line is refuted on its own, otherwise the plain p; None if the line has no p."""


def judge(line: Line, data: LineData) -> Judged:
    """Judge a line on its own: compute its number, interval and verdict."""
    if isinstance(line.judge, ByTests):
        return Judged(BY_TESTS, f"not computed from a store: {line.judge.test}; {line.judge.covers}")
    if data.lacking is not None:
        return Judged(NOT_RUN, data.lacking)
    if isinstance(line.judge, Interval):
        judged = _interval(line.judge, data, line.sample)
    elif isinstance(line.judge, Share):
        judged = _share(line.judge, data)
    else:
        judged = _agreement(line.judge, data)
    if data.common:
        judged = replace(judged, note=f"{judged.note}. {data.common}")
    if line.paper.startswith(LOST):
        why = f"our copy of the paper has lost its number; {judged.why}"
        return replace(judged, verdict=NOT_AT_HAND, why=why, p=None, needed=None)
    return judged


def settle(judged: Judged, p_values: Sequence[float], i: int) -> Settled:
    """Return a line's verdict with and without Holm's correction.

    Args:
        judged: the line, judged on its own.
        p_values: for each tested line of the claim, the line's p if the line is refuted on its own, otherwise 1.
        i: the index of the line in `p_values`.
    """
    if judged.p is None:
        return Settled(judged.verdict, judged.verdict, judged.why + judged.note, None)
    reasons = [judged.why, f"p = {judged.p:.2g}"]
    verdict, adjusted, level = judged.verdict, judged.p, LEVEL
    if judged.verdict == NOT_REPRODUCED:
        adjusted, level = holm(p_values)[i], holm_level(p_values, i)
        reasons[1] += f", by Holm over the claim's {len(p_values)} lines {adjusted:.2g}" if len(p_values) > 1 else ""
        if adjusted > LEVEL:
            verdict = CANNOT
            reasons.append(f"on its own: {judged.verdict}")
    if verdict == CANNOT:
        needed = None if judged.needed is None else judged.needed(level)
        many = "no feasible number of" if needed is None else f"about {needed}"
        reasons.append(f"{many} seeds would decide it")
    return Settled(verdict, judged.verdict, "; ".join(reasons) + judged.note, adjusted)


def conclude(claim: Claim, verdicts: Sequence[str]) -> str:
    """Return the verdict on a claim.

    It is the first of these verdicts that any line of the claim has: not reproduced, not run, cannot be separated, on
    the margin, reproduced, checked by tests. A line does not count if its number is lost or if the paper cannot tell.
    If no line counts, the verdict is that of the first line.

    Args:
        claim: the claim.
        verdicts: the verdict on each line of the claim; lines from another source than the claim's are ignored.
    """
    own = [
        verdict
        for line, verdict in zip(claim.lines, verdicts, strict=True)
        if (line.source or claim.source) == claim.source
    ]
    if NOT_REPRODUCED in own:
        return NOT_REPRODUCED
    telling = [verdict for verdict in own if verdict not in (PAPER_CANNOT, NOT_AT_HAND)]
    for verdict in (NOT_RUN, CANNOT, MARGIN, REPRODUCED, BY_TESTS):
        if verdict in telling:
            return verdict
    return own[0]


def estimated(criterion: Interval, columns: Columns) -> Estimated:
    """Estimate the criterion's statistic, with its interval.

    Args:
        criterion: the criterion.
        columns: the line's columns, already transformed by `criterion.derive` if the criterion has one.
    """
    if criterion.spread:
        return spread_estimate(*(columns[name] for name in criterion.spread))
    assert criterion.statistic is not None  # noqa: S101 - held by `Claim`
    return criterion.estimator(criterion.statistic, columns)


def paper_interval(criterion: Interval, sample: Columns | Summary | None) -> tuple[float, float] | None:
    """Return the interval of the paper's own seeds, in the statistic's scale; None without a sample of these seeds.

    It is (-inf, inf) if these seeds do not show that the criterion's premise holds.
    """
    if sample is None:
        return None
    if isinstance(sample, Summary):
        return sample.interval()
    columns = sample if criterion.derive is None else criterion.derive(sample)
    if criterion.premise is not None:
        gap = criterion.estimator(criterion.premise, columns)
        if gap.interval()[0] <= criterion.premise_above:
            return -math.inf, math.inf
    return estimated(criterion, columns).interval()


def _interval(criterion: Interval, data: LineData, sample: Columns | Summary | None) -> Judged:
    diverged = [s for i, s in enumerate(data.seeds) if any(math.isnan(c[i]) for c in data.columns.values())]
    if diverged:
        return Judged(CANNOT, f"no number, as these diverged: {named_seeds(diverged)}")
    columns = data.columns if criterion.derive is None else criterion.derive(data.columns)
    complete = [c for c in columns.values() if c.size == len(data.seeds)]  # else seeds were left out on purpose
    empty = [s for i, s in enumerate(data.seeds) if any(math.isnan(c[i]) for c in complete)]
    if empty:
        return Judged(CANNOT, f"{criterion.undefined} on {named_seeds(empty)}")
    result = estimated(criterion, columns)
    if len(data.seeds) < 2:
        return Judged(CANNOT, "one seed has no interval", _reported(criterion, result.value))
    papers = paper_interval(criterion, sample)
    telling = papers is None or _within(papers, criterion.opposite or (criterion.low, criterion.high))
    p_premise = 0.0
    if criterion.premise is not None and telling:
        premise = criterion.estimator(criterion.premise, columns)
        if premise.interval()[0] <= criterion.premise_above:
            return _without_premise(criterion, premise)
        p_premise = premise.p_beyond(criterion.premise_above)
    low, high = criterion.low, criterion.high
    if papers is not None and criterion.number:
        low, high = min(low, papers[0]), max(high, papers[1])
    verdict = _placed(result.value, result.interval(), (low, high), criterion.margin)
    inside = low <= result.value <= high
    why = f"{'inside' if inside else 'outside'} the zone ({_range(criterion, low, high)})"
    if papers is not None and not telling:
        verdict = PAPER_CANNOT
        ends = _range(criterion, *papers)
        why = f"the paper's own seeds give {ends}, which holds the claim's opposite too; ours are {why}"
    return Judged(
        verdict,
        why,
        _reported(criterion, result.value),
        _reported(criterion, result.interval()[0]),
        _reported(criterion, result.interval()[1]),
        p=None if verdict == PAPER_CANNOT else max(zone_p(result, low, high), p_premise if inside else 0.0),
        paper=(None, None) if papers is None else (_reported(criterion, papers[0]), _reported(criterion, papers[1])),
        needed=lambda level: seeds_needed(result, low, high, level),
        note=_indistinct(criterion, data.trivial) if inside else "",
    )


def _without_premise(criterion: Interval, gap: Estimated) -> Judged:
    """Return the verdict on a recovery whose ceiling is not shown to be better than its floor."""
    low, high = gap.interval()
    least, p = criterion.premise_above, gap.p_beyond(criterion.premise_above)
    numbers = f"{gap.value:.3g} [{low:.3g}, {high:.3g}]"
    if high <= least:
        return Judged(NOT_REPRODUCED, f"{criterion.undefined} (mean gap {numbers})", p=p)
    needed = lambda level: seeds_needed(gap, least, math.inf, level)  # noqa: E731
    why = f"these seeds can't tell whether there is a gap{f' above {least:g}' if least else ''} ({numbers})"
    return Judged(CANNOT, why, p=p, needed=needed)


def _placed(value: float, ends: tuple[float, float], zone: tuple[float, float], margin: float) -> str:
    """Return the verdict on a line whose interval is `ends`: reproduced inside the zone, not reproduced outside.

    An interval that contains an end of the zone is on the margin if its half-width is below `PRECISE` times the
    zone's width. Otherwise it cannot be separated. In place of the width of an unbounded zone, 2 * `margin` is used.
    """
    if _within(ends, zone):
        return REPRODUCED
    if ends[1] < zone[0] or ends[0] > zone[1]:
        return NOT_REPRODUCED
    width = min(zone[1] - zone[0], 2 * margin) if math.isinf(zone[1] - zone[0]) else zone[1] - zone[0]
    return MARGIN if (ends[1] - ends[0]) / 2 < PRECISE * width else CANNOT


def _within(ends: tuple[float, float], zone: tuple[float, float]) -> bool:
    """Return whether an interval lies in a zone. The two may have an end in common."""
    slack = _SLACK * max(1.0, *(abs(end) for end in ends if math.isfinite(end)), 0.0)
    return zone[0] - slack <= ends[0] and ends[1] <= zone[1] + slack and ends[0] <= ends[1]


def _range(criterion: Interval, low: float, high: float) -> str:
    ends = [f"{criterion.to_reader(end):.3g}" if math.isfinite(end) else "" for end in (low, high)]
    if not any(ends):
        return "any number"
    return f"{ends[0]} to {ends[1]}" if all(ends) else f"at least {ends[0]}" if ends[0] else f"at most {ends[1]}"


def _indistinct(criterion: Interval, trivial: Mapping[str, float]) -> str:
    """Return a sentence on the trivial predictors that also lie in the zone; empty if none does.

    It is also empty if the statistic is not an error or an accuracy (if `criterion.level` is false).
    """
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
    paper, sample = criterion.count, criterion.sample
    zone = share_interval(paper, sample)
    ends = share_interval(count, n)
    if n < 2:
        return Judged(CANNOT, f"{which}: one seed has no interval", count / n)
    low, high = difference_interval(count, n, paper, sample)
    why = f"{which}, the paper {paper} of {sample} ({zone[0]:.2g} to {zone[1]:.2g}); difference [{low:.2g}, {high:.2g}]"
    refuted = low > 0 or high < 0
    verdict = NOT_REPRODUCED if refuted else _placed(count / n, ends, zone, (zone[1] - zone[0]) / 2)
    if verdict == NOT_REPRODUCED and not refuted:
        verdict = CANNOT
    p: float | None = difference_p(count, n, paper, sample) if refuted else _inside_p(count, n, zone)
    if zone[0] <= RARE:
        verdict, p = PAPER_CANNOT, None
        why += f"; the paper's own share may be {RARE:.0%} or less"
    return Judged(
        verdict, why, count / n, *ends, p=p, paper=zone, needed=lambda level: _share_needed(criterion, count / n)
    )


def _inside_p(count: int, n: int, zone: tuple[float, float]) -> float:
    """Return the larger p of the two tests against the zone's ends. An end at 0 or 1 is not tested."""
    return max((share_p(count, n, end) for end in zone if 0 < end < 1), default=1.0)


def _share_needed(criterion: Share, share: float) -> int | None:
    """Return about the least number of seeds at which a share of this size would decide the line.

    At this number, the share's interval lies inside the interval of the paper's share, or the difference of the two
    shares is significant. None if more than `MAX_SEEDS` are needed.
    """
    zone = share_interval(criterion.count, criterion.sample)
    n = 2
    while n <= MAX_SEEDS:
        count = round(share * n)
        low, high = difference_interval(count, n, criterion.count, criterion.sample)
        if low > 0 or high < 0 or _within(share_interval(count, n), zone):
            return n
        n += max(1, n // 50)
    return None


def _agreement(criterion: Agreement, data: LineData) -> Judged:
    left, right = criterion.left(data.columns), criterion.right(data.columns)
    n, count = len(data.seeds), int(left.sum())
    share = float((left == right).mean())
    names = [named_seeds([s for s, f in zip(data.seeds, flags, strict=True) if f]) for flags in (left, right)]
    sides = f"{criterion.text}: {names[0] or 'none'} against {names[1] or 'none'}"
    if n < 2:
        return Judged(CANNOT, f"{sides}; one seed can't decide", share)
    if not (left == right).all():
        return Judged(NOT_REPRODUCED, f"{sides}; they agree on {int((left == right).sum())} of {n}", share)
    if count in (0, n):
        return Judged(CANNOT, f"{sides}; no verdict without seeds of both kinds", share)
    chance = 1 / math.comb(n, count)
    why = f"the same seeds ({sides}; by chance 1 in {math.comb(n, count)})"
    return Judged(REPRODUCED if chance <= LEVEL else CANNOT, why, share, p=chance)


def _reported(criterion: Interval, value: float) -> float | None:
    """Convert a value to the reported scale; None if it is not finite."""
    number = criterion.to_reader(value) if not math.isnan(value) else math.nan
    return number if math.isfinite(number) and math.isfinite(value) else None


def command(line: Line, data: LineData, narrowing: Mapping[str, str], at: str = "") -> str | None:
    """Return the shell command that runs the line's cells or its test; None if there is no such command.

    If the line's cells have several settings, return the command that computes the claims for one of these settings.

    Args:
        line: the line.
        data: the line's data.
        narrowing: experiment -> predicate that selects one setting, for all lines whose cells have several settings.
            The command contains all these predicates, so that it serves all lines.
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
    """Return whether a p-value can decide the line; the line then counts as a test of its claim."""
    return isinstance(line.judge, Interval | Agreement | Share)
