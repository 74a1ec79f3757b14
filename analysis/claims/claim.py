"""Claims as data: lines, each with the cells that it reads and the criterion by which it is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysweep.analysis.cells.methods import DECAY_0, Row
from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.paper.values import PAPER_SEEDS
from raysweep.analysis.statistics.inference import Array, Columns, Statistic

PAPER, FOLLOW_UP, OURS = "paper", "follow-up", "ours"
SOURCES = {
    PAPER: "the paper's (arXiv 2603.15195)",
    FOLLOW_UP: "the follow-up's (arXiv 2603.28750), not the paper's",
    OURS: "ours, in neither paper",
}
"""Source of a claim -> its description; claims that are not the paper's are counted and shown apart."""

Reduce = Callable[[NDArray[np.int64], Array], float]
"""Steps, values of a recorded array -> one number."""


@dataclass(frozen=True)
class Cells(Selection):
    """Some cells of a sweep and the one number of each that counts: a metric, or an array reduced to a number.

    Args:
        naive: metric of the stream's own baseline, shown beside.
        decay_0: the row that propagates nothing and keeps no trace, shown beside.
        decay_0_metric: where that row's number has another name.
        reduce: an array to a number; `metric` is then the array's name.
        prefix: before the rows' keys, tells the columns from those of the line's other cells.
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
    """Cells by their score over some steps (`post_all`), beside them a baseline and decay 0 over the same steps."""
    metric, naive = f"{score}_{steps}", f"{naive}_{steps}"
    return Cells(
        sweep, experiment, rows, pinned, metric=metric, naive=naive, decay_0=DECAY_0, prefix=prefix, seeds=seeds
    )


@dataclass(frozen=True)
class Interval:
    """Judged by where a statistic's interval lies.

    Args:
        statistic: of the line's columns.
        low: lower end of the zone in the statistic's own scale; -inf if there is none.
        high: upper end.
        unit: in the reader's scale.
        to_reader: from the statistic's scale to the reader's, rising.
        derive: columns seed by seed, before anything is resampled; nan where a seed has no such number.
        undefined: the meaning of a nan.
        level: whether it is an error's or accuracy's own level, which a predictor that learned nothing may have too.
    """

    statistic: Statistic
    low: float
    high: float
    unit: str
    to_reader: Callable[[float], float] = float
    derive: Callable[[Columns], Columns] | None = None
    undefined: str = "no number"
    level: bool = False


@dataclass(frozen=True)
class Share:
    """Judged by the share of failing seeds.

    Args:
        failing: of the columns (nan: diverged), one truth value a seed.
        paper: the paper's share.
        most: the claim is that more than half do; else that some do, as often as in the paper's sample.
        sample: seeds that the paper had.
    """

    failing: Callable[[Columns], NDArray[np.bool_]]
    paper: float
    most: bool = False
    sample: int = len(PAPER_SEEDS)

    @property
    def count(self) -> int:
        """Failing seeds in the paper."""
        return round(self.paper * self.sample)


@dataclass(frozen=True)
class Agreement:
    """Judged by whether two properties hold on the very same seeds; `text` names them."""

    left: Callable[[Columns], NDArray[np.bool_]]
    right: Callable[[Columns], NDArray[np.bool_]]
    text: str


@dataclass(frozen=True)
class ByTests:
    """Not computed from a store: checked by the named test, which covers what `covers` says."""

    test: str
    covers: str


Judgement = Interval | Share | Agreement | ByTests


@dataclass(frozen=True)
class Line:
    """One verdict.

    Args:
        part: short name within the claim.
        says: the paper's statement, one sentence.
        paper: its number, as text; "lost" where the text at hand lacks it.
        judge: the criterion.
        cells: the cells that are read.
        aside: more numbers for `why`, from the columns of `aside_cells` where those are complete; never decides.
        aside_cells: read for `aside` alone.
        source: where it differs from that of the claim's other lines; a key of `SOURCES`.
    """

    part: str
    says: str
    paper: str
    judge: Judgement
    cells: tuple[Cells, ...] = ()
    aside: Callable[[Columns], str] | None = None
    aside_cells: tuple[Cells, ...] = ()
    source: str | None = None

    @property
    def unit(self) -> str | None:
        """The unit of the line's number."""
        if isinstance(self.judge, Interval):
            return self.judge.unit
        if isinstance(self.judge, Share):
            return "share of seeds"
        return "agreement" if isinstance(self.judge, Agreement) else None


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, or beyond it.

    Args:
        id: its name in the ledger.
        family: Holm's correction is over all lines of a family.
        where: section and table, in the paper or in what `source` names.
        lines: one verdict each.
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
            raise ValueError(f"claim {self.id}: its lines need names of their own")
        for line in self.lines:
            if isinstance(line.judge, Interval) and math.isinf(line.judge.low) and math.isinf(line.judge.high):
                raise ValueError(f"claim {self.id}, {line.part}: a zone needs an end")
