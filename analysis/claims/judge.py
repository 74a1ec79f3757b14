"""From a claim's lines and a `Source` to numbers and verdicts, by the rules of `docs/verdicts.md`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from analysis.claims.claim import Agreement, ByTests, Cells, Interval, Line, NotBuilt, Share
from analysis.claims.statistics import (
    LEVEL,
    Array,
    Estimate,
    estimate,
    holm,
    holm_level,
    seeds_needed,
    share_interval,
    share_p,
    zone_p,
)
from analysis.errors import AmbiguousCells
from analysis.source import Source
from analysis.tables.selection import Chosen, Row, choose, say_missing

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
CANNOT, NOT_RUN, BY_TESTS = "cannot be separated", "not run", "checked by tests"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, CANNOT, NOT_RUN, BY_TESTS)
ENOUGH = 10_000
"""More seeds than that are not worth naming."""


@dataclass(frozen=True)
class Loaded:
    """A line's columns over common seeds, or why there are none."""

    columns: dict[str, Array]
    seeds: tuple[int, ...]
    asked: int
    lacking: str | None
    launched: frozenset[str]
    decay_0: float | None = None
    naive: float | None = None


@dataclass(frozen=True)
class Judged:
    """What a line comes to before its family is known."""

    ours: float | None = None
    lower: float | None = None
    upper: float | None = None
    p: float | None = None
    holds: bool | None = None
    """Which side the estimate is on; None: decided already, or nothing to decide."""
    verdict: str | None = None
    why: str = ""
    found: Estimate | None = None


class Reader:
    """A source read once: lines ask for the same cells and arrays again and again."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._frames = {str(name): part for (name,), part in source.cells.group_by("experiment", maintain_order=True)}
        self._chosen: dict[str, Chosen] = {}
        self._arrays: dict[str, pl.DataFrame] = {}

    def chosen(self, cells: Cells, rows: tuple[Row, ...]) -> Chosen:
        """The cells of these rows, or the refusal of `choose`."""
        key = repr((cells.experiment, cells.pinned, cells.seeds, rows))
        if key not in self._chosen:
            frame = self._frames.get(cells.experiment, self._source.cells.clear())
            self._chosen[key] = choose(
                frame, rows, experiment=cells.experiment, pinned=cells.pinned, default_seeds=cells.seeds
            )
        return self._chosen[key]

    def recorded(self, name: str) -> pl.DataFrame:
        """All arrays of one name."""
        if name not in self._arrays:
            self._arrays[name] = self._source.arrays([name])
        return self._arrays[name]


def load(reader: Reader, parts: Sequence[Cells]) -> Loaded:
    """The columns of a line's cells, complete and balanced, else what lacks."""
    if not parts:
        return Loaded({}, (), 0, "", frozenset())
    columns: dict[str, Array] = {}
    lacking: list[str] = []
    seeds: list[tuple[int, ...]] = []
    asked = 0
    launched: set[str] = set()
    for cells in parts:
        try:
            chosen = reader.chosen(cells, cells.rows)
        except AmbiguousCells as error:
            return Loaded({}, (), asked, f"no verdict over several settings: {error}", frozenset({cells.sweep}))
        asked += chosen.asked
        seeds.append(chosen.seeds)
        if chosen.cells.height:
            launched.add(cells.sweep)
        if not chosen.missing.is_empty():
            lacking.append(say_missing(chosen, cells.rows, cells.sweep) or "")
            continue
        table = _values(reader, cells, chosen.done)
        for row in cells.rows:
            part = dict(table.filter(pl.col("row") == row.key).select("seed", "value").iter_rows())
            values = [part.get(seed) for seed in chosen.seeds]
            columns[cells.prefix + row.key] = np.array([math.nan if v is None else v for v in values], np.float64)
    if not lacking and any(one != seeds[0] for one in seeds):
        lacking.append("its sweeps were run at different seeds: " + " against ".join(map(str, seeds)))
    if lacking:
        return Loaded({}, (), asked, " ".join(dict.fromkeys(lacking)), frozenset(launched))
    first = parts[0]
    return Loaded(
        columns, seeds[0], asked, None, frozenset(launched), _decay_0(reader, first, seeds[0]), _naive(reader, first)
    )


def judge(line: Line, loaded: Loaded) -> Judged:
    """The line's number, interval and p; the verdict itself only where no family is needed for it."""
    if isinstance(line.judge, ByTests):
        return Judged(verdict=BY_TESTS, why=f"not computed from a store: {line.judge.test}; {line.judge.covers}")
    if isinstance(line.judge, NotBuilt):
        return Judged(verdict=NOT_RUN, why=line.judge.why)
    if loaded.lacking is not None:
        return Judged(verdict=NOT_RUN, why=loaded.lacking)
    if isinstance(line.judge, Interval):
        return _interval(line.judge, loaded)
    if isinstance(line.judge, Share):
        return _share(line.judge, loaded)
    return _agreement(line.judge, loaded)


def settle(line: Line, judged: Judged, p_values: Sequence[float], i: int) -> tuple[str, str, float | None]:
    """Verdict, why and adjusted p of a line, test i of its family."""
    if judged.verdict is not None:
        return judged.verdict, judged.why, None
    if judged.p is None:
        raise ValueError(f"line {line.part!r} has neither a verdict nor a p-value")
    adjusted, family = holm(p_values)[i], len(p_values)
    said = f"p = {judged.p:.2g}, by Holm over {family} lines {adjusted:.2g}"
    side = "inside" if judged.holds else "outside"
    if adjusted <= LEVEL:
        return (REPRODUCED if judged.holds else NOT_REPRODUCED), f"{side} {judged.why}; {said}", adjusted
    level = holm_level(p_values, i)
    if judged.p <= LEVEL:
        said += "; on its own it would be separated"
    return CANNOT, f"estimate {side} {judged.why}; {said}; {_would_do(line, judged, level)}", adjusted


def _would_do(line: Line, judged: Judged, level: float) -> str:
    needed = None
    if isinstance(line.judge, Interval) and judged.found is not None:
        needed = seeds_needed(judged.found, line.judge.low, line.judge.high, level)
    elif isinstance(line.judge, Share) and judged.ours is not None:
        needed = _share_needed(judged.ours, level)
    elif isinstance(line.judge, Agreement):
        return "more seeds on which it fails are needed"
    if needed is None or needed > ENOUGH:
        return "no number of seeds worth naming would do"
    return f"about {needed} seeds would do"


def _interval(how: Interval, loaded: Loaded) -> Judged:
    diverged = [s for i, s in enumerate(loaded.seeds) if any(math.isnan(c[i]) for c in loaded.columns.values())]
    if diverged:
        return Judged(verdict=CANNOT, why=f"diverged, so without a number: {_seeds(diverged)}")
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
            value, verdict=CANNOT, why=f"{how.undefined} on {_seeds(empty)}; the number is over the other {left}"
        )
    found = estimate(how.statistic, columns)
    low, high = found.interval()
    ends = [f"{how.shown(end):.3g}" if math.isfinite(end) else "" for end in (how.low, how.high)]
    zone = f"{ends[0]} to {ends[1]}" if all(ends) else f"at least {ends[0]}" if ends[0] else f"at most {ends[1]}"
    return Judged(
        ours=_shown(how, found.value),
        lower=_shown(how, low),
        upper=_shown(how, high),
        p=zone_p(found, how.low, how.high),
        holds=how.low <= found.value <= how.high,
        why=f"the zone ({zone})",
        found=found,
    )


def _share(how: Share, loaded: Loaded) -> Judged:
    failing = how.failing(loaded.columns)
    count, n = int(failing.sum()), len(loaded.seeds)
    which = f"{count} of {n} seeds" + (
        f" ({_seeds([s for s, f in zip(loaded.seeds, failing, strict=True) if f])})" if count else ""
    )
    low, high = share_interval(count, n)
    if n < 2:
        return Judged(count / n, verdict=CANNOT, why=f"{which}: one seed has no interval")
    if how.most:
        return Judged(
            count / n, low, high, share_p(count, n, 0.5), count / n > 0.5, why=f"the zone (more than half): {which}"
        )
    if count:
        return Judged(count / n, low, high, verdict=REPRODUCED, why=f"{which}; the paper's share {how.paper:.2g}")
    if high < how.paper:
        why = f"none of {n}, against a share of {how.paper:.2g}; by itself, outside Holm's correction"
        return Judged(0.0, low, high, verdict=NOT_REPRODUCED, why=why)
    needed = next(m for m in range(n, ENOUGH) if share_interval(0, m)[1] < how.paper)
    return Judged(
        0.0,
        low,
        high,
        verdict=CANNOT,
        why=f"none of {n}, yet the paper's share {how.paper:.2g} would give that often enough; "
        f"about {needed} seeds would do",
    )


def _share_needed(share: float, level: float) -> int | None:
    """By exact p at the same share, as a count has no width to scale."""
    for n in range(2, 1000):
        count = round(share * n)
        if share_p(count, n, 0.5) <= level and (count / n > 0.5) == (share > 0.5):
            return n
    return None


def _agreement(how: Agreement, loaded: Loaded) -> Judged:
    left, right = how.left(loaded.columns), how.right(loaded.columns)
    n, count = len(loaded.seeds), int(left.sum())
    share = float((left == right).mean())
    names = [_seeds([s for s, f in zip(loaded.seeds, flags, strict=True) if f]) for flags in (left, right)]
    said = f"{how.says}: {names[0] or 'none'} against {names[1] or 'none'}"
    if n < 2:
        return Judged(share, verdict=CANNOT, why=f"{said}; one seed")
    if not (left == right).all():
        return Judged(share, verdict=NOT_REPRODUCED, why=said)
    if count in (0, n):
        return Judged(share, verdict=CANNOT, why=f"{said}; it needs seeds of both kinds")
    chance = 1 / math.comb(n, count)
    return Judged(share, p=chance, holds=True, why=f"the agreement ({said}; by accident 1 in {math.comb(n, count)})")


def _values(reader: Reader, cells: Cells, done: pl.DataFrame) -> pl.DataFrame:
    """Columns row, seed, value: the metric, or an array put into one number."""
    if cells.reduce is None:
        value = pl.col(cells.metric) if cells.metric in done.columns else pl.lit(None)
        return done.select("row", "seed", value.cast(pl.Float64).alias("value"))
    recorded = reader.recorded(cells.metric).filter(pl.col("cell_id").is_in(done["cell_id"].implode()))
    series: dict[str, list[tuple[int, float]]] = {}
    for cell_id, step, stride, values in recorded.select("cell_id", "step", "stride", "values").iter_rows():
        series.setdefault(cell_id, []).extend((step + i * stride, value) for i, value in enumerate(values))
    rows = []
    for row, seed, cell_id in done.select("row", "seed", "cell_id").iter_rows():
        pairs = sorted(series.get(cell_id, []))
        steps = np.array([step for step, _ in pairs], np.int64)
        number = cells.reduce(steps, np.array([v for _, v in pairs], np.float64)) if pairs else None
        rows.append((row, seed, number))
    return pl.DataFrame(rows, schema={"row": pl.String, "seed": pl.Int64, "value": pl.Float64}, orient="row")


def _decay_0(reader: Reader, cells: Cells, seeds: tuple[int, ...]) -> float | None:
    """Mean of the line's number over the same seeds, in the row that propagates nothing; None where not all there."""
    row = cells.decay_0
    if row is None:
        return None
    try:
        chosen = reader.chosen(cells, (row,))
    except AmbiguousCells:
        return None
    if not set(seeds) <= set(chosen.done["seed"].to_list()):
        return None
    own = replace(cells, metric=cells.decay_0_metric or cells.metric)
    values = _values(reader, own, chosen.done).filter(pl.col("seed").is_in(list(seeds)))["value"]
    return None if values.null_count() else float(values.to_numpy().mean())


def _naive(reader: Reader, cells: Cells) -> float | None:
    """The stream's baseline, which no method changes."""
    if cells.naive is None:
        return None
    done = reader.chosen(cells, cells.rows).done
    if cells.naive not in done.columns:
        return None
    values = done[cells.naive].drop_nulls().to_numpy()
    return float(values.mean()) if values.size else None


def _shown(how: Interval, value: float) -> float | None:
    """In the reader's scale; None where there is no such end."""
    shown = how.shown(value) if not math.isnan(value) else math.nan
    return shown if math.isfinite(shown) and math.isfinite(value) else None


def _seeds(seeds: Sequence[int]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds)) if seeds else ""


def command(line: Line, launched: frozenset[str]) -> str | None:
    """What runs the line's cells."""
    sweeps = dict.fromkeys(cells.sweep for cells in line.cells)
    if not sweeps:
        return f"python -m pytest {line.judge.test}" if isinstance(line.judge, ByTests) else None
    return " && ".join(f"raysweep {'resume' if sweep in launched else 'launch'} {sweep}" for sweep in sweeps)


def pooled(line: Line) -> bool:
    """Whether a p-value may decide the line, so that it counts in its family."""
    how = line.judge
    return isinstance(how, Interval | Agreement) or (isinstance(how, Share) and how.most)
