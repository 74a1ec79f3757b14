"""Claims as data. A claim has lines; a line names the cells that it reads and the criterion that judges it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysweep.analysis.cells.methods import DECAY_0, Row
from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.paper.samples import Summary
from raysweep.analysis.paper.values import PAPER_SEEDS
from raysweep.analysis.statistics.inference import Array, Columns, Estimated, Statistic, estimate

PAPER, FOLLOW_UP, OURS = "paper", "follow-up", "ours"
SOURCES = {
    PAPER: "the paper's (arXiv 2603.15195)",
    FOLLOW_UP: "the follow-up's (arXiv 2603.28750), not the paper's",
    OURS: "ours, in neither paper",
}
"""Source of a claim -> its description. Each source's claims are counted and shown separately."""

Reduce = Callable[[NDArray[np.int64], Array], float]
"""Function that reduces a recorded array (steps, values) to one number."""


@dataclass(frozen=True)
class Cells(Selection):
    """A selection of cells with one number per cell: a metric, or a recorded array reduced to a number.

    Args:
        naive: the metric of the stream's naive baseline, shown for comparison.
        decay_0: the row that propagates nothing and keeps no trace, shown for comparison.
        decay_0_metric: the metric of the `decay_0` row; None: the same metric.
        reduce: reduces the array named by `metric` to a number; None: `metric` is a scalar metric.
        prefix: put before the rows' keys to form column names that are unique within the line.
    """

    naive: str | None = None
    decay_0: Row | None = None
    decay_0_metric: str | None = None
    reduce: Reduce | None = None
    prefix: str = ""


def scored_cells(
    sweep: str,
    experiment: str,
    steps: str,
    rows: tuple[Row, ...],
    pinned: Mapping[str, object],
    naive: str = "persistence",
    prefix: str = "",
    seeds: tuple[int, ...] = PAPER_SEEDS,
    score: str = "mse",
) -> Cells:
    """Build a selection that reads the metric `score` over `steps`, such as `mse` over `post_all`.

    For comparison it also reads, over the same steps, the baseline `naive` and the score of traces of decay 0.
    """
    metric, naive = f"{score}_{steps}", f"{naive}_{steps}"
    return Cells(
        sweep, experiment, rows, pinned, metric=metric, naive=naive, decay_0=DECAY_0, prefix=prefix, seeds=seeds
    )


@dataclass(frozen=True)
class Interval:
    """Criterion that compares a statistic's confidence interval with a zone: the values at which the claim holds.

    Args:
        statistic: computes the statistic from the line's columns; None if `spread` is given.
        low: the zone's lower end in the statistic's scale (often ln); -inf if the zone has no lower end.
        high: the zone's upper end in the statistic's scale; inf if the zone has no upper end.
        unit: the unit of the reported number, after `to_reader`.
        to_reader: increasing function from the statistic's scale to the reported one.
        derive: computes new columns, one value per seed, before resampling; nan for a seed without a value.
        undefined: the reason, for messages, why `derive` gives nan, or why `premise` does not hold.
        level: whether the statistic is an absolute error or accuracy. The line's reason (`why`) then names the
            trivial predictors that lie in the zone.
        spread: names of one or two columns. One: the statistic is ln of its standard deviation. Two: the
            statistic is ln of the ratio of the first column's standard deviation to the second's.
        number: whether the claim states a number; the zone is then widened to include the interval of the paper's
            seeds.
        opposite: the values outside which the claim's opposite is true; None: the zone. If the interval of the
            paper's own seeds is not inside this range, the verdict is that the paper cannot tell.
        margin: half of the width that a zone with only one end is taken to have, in the statistic's scale. The
            width is needed to judge whether an interval is precise.
        premise: a statistic that must be above `premise_above` for the number to have a meaning. For a recovery it is
            the ceiling's gain over the floor.
        premise_above: what the premise must exceed, 0 unless a gain has to be of some size.
        estimator: estimates a statistic on the columns, with its interval; by default units are independent.
    """

    statistic: Statistic | None
    low: float
    high: float
    unit: str
    to_reader: Callable[[float], float] = float
    derive: Callable[[Columns], Columns] | None = None
    undefined: str = "no number"
    level: bool = False
    spread: tuple[str, ...] = ()
    number: bool = False
    opposite: tuple[float, float] | None = None
    margin: float = math.log(1.5)
    premise: Statistic | None = None
    premise_above: float = 0.0
    estimator: Callable[[Statistic, Columns], Estimated] = estimate


@dataclass(frozen=True)
class Share:
    """Criterion that compares our share of seeds with a property, such as failing, with the paper's share.

    Args:
        failing: returns for each seed whether it has the property. Its argument is the line's columns; nan marks a
            seed that diverged.
        paper: the share of the paper's seeds that have the property.
        sample: the number of the paper's seeds.
    """

    failing: Callable[[Columns], NDArray[np.bool_]]
    paper: float
    sample: int = len(PAPER_SEEDS)

    @property
    def count(self) -> int:
        """The number of the paper's seeds that have the property."""
        return round(self.paper * self.sample)


@dataclass(frozen=True)
class Agreement:
    """Criterion that two properties hold on exactly the same seeds; `text` names the properties."""

    left: Callable[[Columns], NDArray[np.bool_]]
    right: Callable[[Columns], NDArray[np.bool_]]
    text: str


@dataclass(frozen=True)
class ByTests:
    """Criterion that is checked by a test of the code, without a store. `covers` describes the scope of the test."""

    test: str
    covers: str


Judgement = Interval | Share | Agreement | ByTests


@dataclass(frozen=True)
class Line:
    """One statement of a claim, with its own verdict.

    Args:
        part: short name within the claim.
        says: the paper's statement, one sentence.
        paper: the paper's number, as text; it starts with "lost" if our copy of the paper lacks it.
        judge: the criterion.
        cells: the cells that the criterion reads.
        aside: formats further numbers, which are added to the line's reason (`why`) once all `aside_cells` are done.
            They do not affect the verdict.
        aside_cells: the cells that only `aside` reads.
        source: a key of `SOURCES`; None: the claim's source.
        sample: the numbers of the paper's own seeds, as columns like those of `cells` or as mean and standard
            deviation; None: the paper prints neither.
    """

    part: str
    says: str
    paper: str
    judge: Judgement
    cells: tuple[Cells, ...] = ()
    aside: Callable[[Columns], str] | None = None
    aside_cells: tuple[Cells, ...] = ()
    source: str | None = None
    sample: Columns | Summary | None = None

    @property
    def unit(self) -> str | None:
        """The unit of the line's number; None if a test checks the line."""
        if isinstance(self.judge, Interval):
            return self.judge.unit
        if isinstance(self.judge, Share):
            return "share of seeds"
        return "agreement" if isinstance(self.judge, Agreement) else None


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, of its follow-up, or of ours.

    Args:
        id: the claim's name in the ledger.
        family: the paper's experiment, or group of claims, that it belongs to.
        where: section and table in the source.
        lines: the claim's statements, each with its own verdict.
        source: a key of `SOURCES`.
    """

    id: str
    family: str
    where: str
    lines: tuple[Line, ...]
    source: str = PAPER

    def __post_init__(self) -> None:
        unknown = {self.source, *(line.source or self.source for line in self.lines)} - SOURCES.keys()
        if unknown:
            raise ValueError(
                f"claim {self.id}: unknown source {', '.join(sorted(unknown))}; known: {', '.join(SOURCES)}"
            )
        parts = [line.part for line in self.lines]
        if not parts or len(set(parts)) < len(parts):
            raise ValueError(f"claim {self.id}: at least one line is needed, and their `part` names must be unique")
        for line in self.lines:
            if isinstance(line.judge, Interval) and math.isinf(line.judge.low) and math.isinf(line.judge.high):
                raise ValueError(f"claim {self.id}, {line.part}: the zone needs a finite end")
