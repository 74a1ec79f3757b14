"""Controls of the ledger: verdicts on simulated numbers for which each line is known to be true, or to be false.

The numbers of simulated seeds are drawn from a normal distribution (of logs for errors) with the mean and covariance
of the paper's five seeds. For *true* lines they are used unchanged. For *false* lines the numbers of one row are
shifted first, so that the line's statistic leaves its range: it is then as far outside the nearest end of the range
as the paper's number is inside. The range is `Interval.opposite`, or the zone if that is None.

Two kinds of lines are treated differently. If the statistic is a spread, the row's deviations from its mean are
scaled instead of shifted. If it is a share of seeds, each seed has the property with the paper's share as probability
in true lines, and no seed has it in false lines.

A line is included if the paper prints its seeds and these seeds can tell the claim from its opposite.
`benchmarks/ledger.py` makes the table in `docs/verdicts.md`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from raysweep.analysis.claims import CLAIMS
from raysweep.analysis.claims.claim import Claim, Interval, Line, Share
from raysweep.analysis.claims.load import LineData
from raysweep.analysis.claims.verdict import (
    NOT_REPRODUCED,
    PAPER_CANNOT,
    REPRODUCED,
    estimated,
    judge,
    pooled,
    settle,
)
from raysweep.analysis.statistics.distributions import bisect
from raysweep.analysis.statistics.inference import Array, Columns

LINEAR = ("E7-threshold", "E8-fisher", "E9-bci")
"""Claims whose seeds are drawn on the linear scale, not as logs: accuracies and differences of errors."""
_REACH = 20.0
Verdicts = dict[tuple[str, str], list[str]]
"""(claim id, part of the line) -> the verdict of each draw."""


def operating(seeds: int, draws: int, *, false: bool) -> Verdicts:
    """Return the verdicts on simulated seeds for every line that the controls include (see the module's docstring).

    Args:
        seeds: the number of seeds per draw.
        draws: the number of draws per line.
        false: whether the seeds are drawn such that the line is false.
    """
    verdicts: Verdicts = {}
    for at, (claim, line) in enumerate(_lines()):
        rng = np.random.default_rng([at, seeds, int(false)])
        tests = sum(pooled(other) for other in claim.lines)
        draw = _share(line.judge, false) if isinstance(line.judge, Share) else _columns(claim, line, false)
        judged_line = replace(line, judge=_counted(line.judge)) if isinstance(line.judge, Share) else line
        drawn = []
        for _ in range(draws):
            data = LineData(dict(draw(rng, seeds)), tuple(range(seeds)), seeds, None)
            judged = judge(judged_line, data)
            p = judged.p if judged.verdict == NOT_REPRODUCED and judged.p is not None else 1.0
            drawn.append(settle(judged, [p, *[1.0] * (tests - 1)], 0).verdict)
        verdicts[claim.id, line.part] = drawn
    return verdicts


def kind(claim: str, part: str) -> str:
    """Return the kind of a line, as the tables of `docs/verdicts.md` name it."""
    criterion = next(line.judge for line in CLAIMS[claim].lines if line.part == part)
    if isinstance(criterion, Share):
        return "share"
    assert isinstance(criterion, Interval)  # noqa: S101 - `_lines` has no others
    if criterion.spread:
        return "spread" if criterion.number else "more stable"
    if not criterion.number:
        return "sign, ratio"
    return "recovery" if criterion.premise is not None else "level"


def _lines() -> Iterator[tuple[Claim, Line]]:
    for claim in CLAIMS.values():
        for line in claim.lines:
            criterion = line.judge
            if isinstance(criterion, Share) and judge(_told(line), _own(criterion)).verdict != PAPER_CANNOT:
                yield claim, line
            elif isinstance(criterion, Interval) and isinstance(line.sample, Mapping):
                own = LineData(dict(line.sample), tuple(range(next(iter(line.sample.values())).size)), 1, None)
                if judge(line, own).verdict == REPRODUCED:
                    yield claim, line


def _told(line: Line) -> Line:
    assert isinstance(line.judge, Share)  # noqa: S101 - its only caller's case
    return replace(line, judge=_counted(line.judge))


def _counted(criterion: Share) -> Share:
    return replace(criterion, failing=lambda columns: columns["fails"] > 0)


def _own(criterion: Share) -> LineData:
    fails = np.arange(criterion.sample) < criterion.count
    return LineData({"fails": fails.astype(np.float64)}, tuple(range(criterion.sample)), 1, None)


Draw = Callable[[np.random.Generator, int], Columns]


def _share(criterion: Share, false: bool) -> Draw:
    share = 0.0 if false else criterion.paper
    return lambda rng, n: {"fails": (rng.random(n) < share).astype(np.float64)}


def _columns(claim: Claim, line: Line, false: bool) -> Draw:
    """Build a function that draws seeds like the paper's or, if `false`, seeds for which the line is false."""
    assert isinstance(line.sample, Mapping)  # noqa: S101 - held by `_lines`
    linear = claim.id in LINEAR
    names = list(line.sample)
    sample = np.stack([line.sample[name] if linear else np.log(line.sample[name]) for name in names])
    own = _falsified(line, names, sample, linear) if false else sample
    centre = own.mean(-1, keepdims=True)
    spread = (own - centre) / math.sqrt(own.shape[-1] - 1)

    def draw(rng: np.random.Generator, n: int) -> Columns:
        values = centre + spread @ rng.normal(size=(own.shape[-1], n))
        return {name: row if linear else np.exp(row) for name, row in zip(names, values, strict=True)}

    return draw


def _falsified(line: Line, names: list[str], sample: Array, linear: bool) -> Array:
    """Change one row of the sample, so that the line's statistic leaves the range in which the line is true.

    The range is `Interval.opposite`, or the zone if that is None. The statistic is then as far outside the nearest
    end as it was inside.

    Raises:
        ValueError: no change of a single row achieves this.
    """
    criterion = line.judge
    assert isinstance(criterion, Interval)  # noqa: S101 - held by `_lines`

    def statistic(rows: Array) -> float:
        columns: Columns = {name: row if linear else np.exp(row) for name, row in zip(names, rows, strict=True)}
        columns = columns if criterion.derive is None else criterion.derive(columns)
        return float(criterion.statistic(columns)) if criterion.statistic else estimated(criterion, columns).value

    value = statistic(sample)
    ends = [end for end in criterion.opposite or (criterion.low, criterion.high) if math.isfinite(end)]
    target = value + 2 * (min(ends, key=lambda end: abs(end - value)) - value)

    def changed(row: int, by: float) -> Array:
        rows = sample.copy()
        if criterion.spread:
            rows[row] = rows[row].mean() + (rows[row] - rows[row].mean()) * math.exp(by)
        else:
            rows[row] = rows[row] + by
        return rows

    def distance(row: int, sign: float, by: float) -> float:
        return sign * (statistic(changed(row, by)) - target)

    for row in range(len(names)):
        for sign in (1.0, -1.0):
            with np.errstate(all="ignore"):
                by = bisect(functools.partial(distance, row, sign), -_REACH, _REACH)
                if math.isclose(statistic(changed(row, by)), target, rel_tol=1e-3, abs_tol=1e-3):
                    return changed(row, by)
    raise ValueError(f"{line.part}: no row moves the statistic from {value:.3g} to {target:.3g}")
