"""From a line and its columns to numbers and a verdict, by the rules of `docs/verdicts.md`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from raysweep.analysis.cells.cell_notes import named_seeds
from raysweep.analysis.claims.claim import Agreement, ByTests, Interval, Line, Share
from raysweep.analysis.claims.load import Loaded
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
ENOUGH = 10_000
"""More seeds than that are not worth naming."""


@dataclass(frozen=True)
class Judged:
    """What a line comes to before its family is known."""

    ours: float | None = None
    lower: float | None = None
    upper: float | None = None
    p: float | None = None
    small: str = CANNOT
    """The verdict where p is small."""
    large: str = CANNOT
    """The verdict where p is not small even without a correction."""
    verdict: str | None = None
    """The verdict where there is no p."""
    why: str = ""
    note: str = ""
    """Said last, whatever the verdict."""
    found: Estimate | None = None


class Settled(NamedTuple):
    """What a line comes to within its family."""

    verdict: str
    alone: str
    """Without the correction for the family's other lines."""
    why: str
    adjusted: float | None
    """P by Holm."""


def judge(line: Line, loaded: Loaded) -> Judged:
    """The line's number, interval and p; the verdict itself only where no family is needed for it."""
    if isinstance(line.judge, ByTests):
        return Judged(verdict=BY_TESTS, why=f"not computed from a store: {line.judge.test}; {line.judge.covers}")
    if loaded.lacking is not None:
        return Judged(verdict=NOT_RUN, why=loaded.lacking)
    if isinstance(line.judge, Interval):
        return _interval(line.judge, loaded)
    if isinstance(line.judge, Share):
        return _share(line.judge, loaded)
    return _agreement(line.judge, loaded)


def settle(line: Line, judged: Judged, p_values: Sequence[float], i: int) -> Settled:
    """Verdict, with and without Holm's correction, why, and adjusted p of a line, test i of its family."""
    if judged.verdict is not None:
        return Settled(judged.verdict, judged.verdict, judged.why + judged.note, None)
    if judged.p is None:
        raise ValueError(f"line {line.part!r} has neither a verdict nor a p-value")
    adjusted = holm(p_values)[i]
    alone = judged.small if judged.p <= LEVEL else judged.large
    verdict = judged.small if adjusted <= LEVEL else CANNOT if judged.p <= LEVEL else judged.large
    said = [judged.why, f"p = {judged.p:.2g}, by Holm over {len(p_values)} lines {adjusted:.2g}"]
    if verdict == CANNOT:
        said += [] if alone == CANNOT else [f"on its own: {alone}"]
        said.append(_would_do(line, judged, holm_level(p_values, i)))
    return Settled(verdict, alone, "; ".join(said) + judged.note, adjusted)


def _would_do(line: Line, judged: Judged, level: float) -> str:
    needed = None
    if isinstance(line.judge, Interval) and judged.found is not None:
        needed = seeds_needed(judged.found, line.judge.low, line.judge.high, level)
    elif isinstance(line.judge, Share) and judged.ours is not None:
        needed = _share_needed(line.judge, judged.ours, level)
    elif isinstance(line.judge, Agreement):
        return "more seeds on which it fails are needed"
    if needed is None or needed > ENOUGH:
        return "no number of seeds worth naming would do"
    return f"about {needed} seeds would do"


def _interval(how: Interval, loaded: Loaded) -> Judged:
    diverged = [s for i, s in enumerate(loaded.seeds) if any(math.isnan(c[i]) for c in loaded.columns.values())]
    if diverged:
        return Judged(verdict=CANNOT, why=f"diverged, so without a number: {named_seeds(diverged)}")
    columns = loaded.columns if how.derive is None else how.derive(loaded.columns)
    kept = [c for c in columns.values() if c.size == len(loaded.seeds)]  # else seeds were left out on purpose
    empty = [s for i, s in enumerate(loaded.seeds) if any(math.isnan(c[i]) for c in kept)]
    if len(loaded.seeds) < 2:
        value = None if empty else _shown(how, estimate(how.statistic, columns).value)
        return Judged(value, verdict=CANNOT, why="one seed has no interval")
    if empty:
        rest = {name: np.delete(c, [loaded.seeds.index(s) for s in empty]) for name, c in columns.items()}
        left = len(loaded.seeds) - len(empty)
        value = _shown(how, estimate(how.statistic, rest).value) if left else None
        return Judged(
            value, verdict=CANNOT, why=f"{how.undefined} on {named_seeds(empty)}; the number is over the other {left}"
        )
    found = estimate(how.statistic, columns)
    low, high = found.interval()
    ends = [f"{how.shown(end):.3g}" if math.isfinite(end) else "" for end in (how.low, how.high)]
    zone = f"{ends[0]} to {ends[1]}" if all(ends) else f"at least {ends[0]}" if ends[0] else f"at most {ends[1]}"
    inside = how.low <= found.value <= how.high
    return Judged(
        ours=_shown(how, found.value),
        lower=_shown(how, low),
        upper=_shown(how, high),
        p=zone_p(found, how.low, how.high),
        small=REPRODUCED if inside else NOT_REPRODUCED,
        why=f"{'inside' if inside else 'outside'} the zone ({zone})",
        note=_indistinct(how, loaded.trivial) if inside else "",
        found=found,
    )


def _indistinct(how: Interval, trivial: Mapping[str, float]) -> str:
    """Of a level: which predictors that learned nothing lie in its zone as well."""
    if not how.level:
        return ""
    low, high = how.shown(how.low), how.shown(how.high)
    said = [f"{name}, {value:.3g}" for name, value in trivial.items() if low <= value <= high]
    return f". The zone holds what has learned nothing too ({'; '.join(said)}): the level can't tell" if said else ""


def _share(how: Share, loaded: Loaded) -> Judged:
    failing = how.failing(loaded.columns)
    count, n = int(failing.sum()), len(loaded.seeds)
    which = f"{count} of {n} seeds" + (
        f" ({named_seeds([s for s, f in zip(loaded.seeds, failing, strict=True) if f])})" if count else ""
    )
    low, high = share_interval(count, n)
    if n < 2:
        return Judged(count / n, verdict=CANNOT, why=f"{which}: one seed has no interval")
    if how.most:
        most = count / n > 0.5
        return Judged(
            count / n,
            low,
            high,
            share_p(count, n, 0.5),
            REPRODUCED if most else NOT_REPRODUCED,
            why=f"{'inside' if most else 'outside'} the zone (more than half): {which}",
        )
    return Judged(
        count / n,
        low,
        high,
        fisher_p(count, n, how.count, how.sample),
        NOT_REPRODUCED,
        REPRODUCED if count else CANNOT,
        why=f"{which}, the paper {how.count} of {how.sample}: two samples, Fisher's test",
    )


def _share_needed(how: Share, share: float, level: float) -> int | None:
    """By exact p at the same share, as a count has no width to scale."""
    for n in range(2, 1000):
        count = round(share * n)
        if not how.most and fisher_p(count, n, how.count, how.sample) <= level:
            return n
        if how.most and share_p(count, n, 0.5) <= level and (count / n > 0.5) == (share > 0.5):
            return n
    return None


def _agreement(how: Agreement, loaded: Loaded) -> Judged:
    left, right = how.left(loaded.columns), how.right(loaded.columns)
    n, count = len(loaded.seeds), int(left.sum())
    share = float((left == right).mean())
    names = [named_seeds([s for s, f in zip(loaded.seeds, flags, strict=True) if f]) for flags in (left, right)]
    said = f"{how.says}: {names[0] or 'none'} against {names[1] or 'none'}"
    if n < 2:
        return Judged(share, verdict=CANNOT, why=f"{said}; one seed")
    if not (left == right).all():
        return Judged(share, verdict=NOT_REPRODUCED, why=said)
    if count in (0, n):
        return Judged(share, verdict=CANNOT, why=f"{said}; it needs seeds of both kinds")
    chance = 1 / math.comb(n, count)
    why = f"the agreement ({said}; by accident 1 in {math.comb(n, count)})"
    return Judged(share, p=chance, small=REPRODUCED, why=why)


def _shown(how: Interval, value: float) -> float | None:
    """In the reader's scale; None where there is no such end."""
    shown = how.shown(value) if not math.isnan(value) else math.nan
    return shown if math.isfinite(shown) and math.isfinite(value) else None


def command(line: Line, data: Loaded, narrowing: Mapping[str, str], at: str = "") -> str | None:
    """What to type: to run the line's cells, or to say which of several settings is meant.

    Args:
        line: the line.
        data: what was found of it.
        narrowing: of all lines that found several settings, as one ledger is over one choice.
        at: where the store is, see `raysweep.analysis.cells.source.Source`.
    """
    if not line.cells:
        return f"python -m pytest {line.judge.test}" if isinstance(line.judge, ByTests) else None
    if data.narrowing:
        chosen = {**narrowing, **data.narrowing}.items()
        where = " AND ".join(f"(experiment <> '{experiment}' OR {choice})" for experiment, choice in chosen)
        return f'raysweep claims --where "{where}"{at}'
    return data.command or None


def pooled(line: Line) -> bool:
    """Whether a p-value may decide the line, so that it counts in its family."""
    return isinstance(line.judge, Interval | Agreement | Share)
