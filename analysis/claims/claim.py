"""What a claim is: lines, each with the cells it reads and the way it is judged. Data only, no verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raysweep.analysis.cells.selection import Row
from raysweep.analysis.statistics.inference import Array, Columns, Statistic

PAPER_SEEDS = (42, 123, 7, 2024, 31337)

PAPER, FOLLOW_UP, OURS = "paper", "follow-up", "ours"
SOURCES = {
    PAPER: "the paper's (arXiv 2603.15195)",
    FOLLOW_UP: "the follow-up's (arXiv 2603.28750), not the paper's",
    OURS: "ours, in neither paper",
}
"""Who makes a claim; what is not the paper's is counted and shown apart."""

Reduce = Callable[[NDArray[np.int64], Array], float]
"""Steps, values of a recorded array -> one number."""


@dataclass(frozen=True)
class Cells:
    """Some cells of a sweep and the one number of each that counts.

    Args:
        sweep: a bundled sweep, for the command that runs what lacks.
        experiment: key column's value.
        metric: the number, by its name in the store; with `reduce` the name of an array.
        rows: which cells, one a row and seed; a line's columns are named `prefix` + row key.
        pinned: config values that all rows share.
        naive: metric of the stream's own baseline, shown beside.
        decay_0: the row that propagates nothing and keeps no trace, shown beside.
        decay_0_metric: where that row's number has another name.
        reduce: an array to a number.
        prefix: tells the columns from those of the line's other cells.
        seeds: asked for where none has been launched.
    """

    sweep: str
    experiment: str
    metric: str
    rows: tuple[Row, ...]
    pinned: Mapping[str, object] = field(default_factory=dict)
    naive: str | None = None
    decay_0: Row | None = None
    decay_0_metric: str | None = None
    reduce: Reduce | None = None
    prefix: str = ""
    seeds: tuple[int, ...] = PAPER_SEEDS


@dataclass(frozen=True)
class Interval:
    """Judged by where a statistic's interval lies.

    Args:
        statistic: of the line's columns.
        low: lower end of the zone in the statistic's own scale, -inf if there is none.
        high: upper end.
        unit: of what is shown.
        shown: from the statistic's scale to the reader's, rising.
        derive: columns seed by seed, before anything is resampled; nan where a seed has no such number.
        undefined: what a nan means.
        level: an error's or accuracy's own level, which a predictor that learned nothing may have as well.
    """

    statistic: Statistic
    low: float
    high: float
    unit: str
    shown: Callable[[float], float] = float
    derive: Callable[[Columns], Columns] | None = None
    undefined: str = "no number"
    level: bool = False


@dataclass(frozen=True)
class Share:
    """Judged by how many seeds fail.

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
        """How many failed in the paper."""
        return round(self.paper * self.sample)


@dataclass(frozen=True)
class Agreement:
    """Judged by whether two properties hold on the very same seeds."""

    left: Callable[[Columns], NDArray[np.bool_]]
    right: Callable[[Columns], NDArray[np.bool_]]
    says: str


@dataclass(frozen=True)
class ByTests:
    """Not to be computed from a store: checked by a test, named here, and what that covers."""

    test: str
    covers: str


Judgement = Interval | Share | Agreement | ByTests


@dataclass(frozen=True)
class Line:
    """One verdict.

    Args:
        part: short name within the claim.
        says: what the paper says, one sentence.
        paper: its number, as text; "lost" where the text at hand lacks it.
        judge: how.
        cells: what is read.
        aside: more numbers for `why`, of the columns of `aside_cells` where those are complete; never decides.
        aside_cells: read for `aside` alone.
        source: who makes it, where that is not who makes the claim's other lines; a key of `SOURCES`.
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
        """Of the line's number."""
        if isinstance(self.judge, Interval):
            return self.judge.unit
        if isinstance(self.judge, Share):
            return "share of seeds"
        return "agreement" if isinstance(self.judge, Agreement) else None


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, or beyond it.

    Args:
        id: as the ledger names it.
        family: over whose lines Holm's correction goes.
        where: section and table, in the paper or in what `source` names.
        lines: one verdict each.
        source: who makes it, a key of `SOURCES`.
    """

    id: str
    family: str
    where: str
    lines: tuple[Line, ...]
    source: str = PAPER

    def __post_init__(self) -> None:
        unknown = {self.source, *(line.source or self.source for line in self.lines)} - SOURCES.keys()
        if unknown:
            raise ValueError(f"claim {self.id}: source {', '.join(sorted(unknown))} is none of {', '.join(SOURCES)}")
        parts = [line.part for line in self.lines]
        if not parts or len(set(parts)) < len(parts):
            raise ValueError(f"claim {self.id}: its lines need names of their own")
        for line in self.lines:
            if isinstance(line.judge, Interval) and math.isinf(line.judge.low) and math.isinf(line.judge.high):
                raise ValueError(f"claim {self.id}, {line.part}: a zone needs an end")
