"""Questions that are fixed before their first scored cell, and their answers: one SQL query and one criterion each.

A query selects from the table `cells` and returns one row per unit that is resampled, such as a seed. Its first column
names the unit. Every other column becomes an array over the units, which the criterion's statistic reads. If there is a
column `part`, the rows of each part become columns of their own, such as `error 3` for the column `error` of part 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import polars as pl

from raysweep.analysis.claims.claim import Interval, Line
from raysweep.analysis.claims.load import LineData
from raysweep.analysis.claims.verdict import CANNOT, MARGIN, NOT_REPRODUCED, NOT_RUN, REPRODUCED, judge
from raysweep.analysis.statistics.inference import LEVEL, Array, holm
from raysweep.orchestrator.errors import InputError

YES, NO, OPEN = "yes", "no", "open"
WORDS = {REPRODUCED: YES, NOT_REPRODUCED: NO, MARGIN: MARGIN, CANNOT: OPEN, NOT_RUN: NOT_RUN}
"""The ledger's verdict -> the answer to a question."""
PART = "part"


@dataclass(frozen=True)
class Question:
    """A question whose answer is yes if a statistic lies in a zone.

    Args:
        name: the experiment's letter and a number, such as `C1`.
        words: the question, one sentence.
        query: SQL over `cells`.
        criterion: the statistic, its zone and its unit.
    """

    name: str
    words: str
    query: str
    criterion: Interval


@dataclass(frozen=True)
class Answer:
    """The answer to a question.

    Args:
        question: the question.
        verdict: `yes`, `no`, `on the margin`, `open` or `not run`, corrected by Holm over the experiment's questions.
        alone: the verdict without the correction.
        value: the statistic, in the criterion's unit; None if there is none.
        lower: the lower end of its 95 % interval.
        upper: the upper end.
        units: the number of units that were resampled.
        why: the reason.
    """

    question: Question
    verdict: str
    alone: str
    value: float | None
    lower: float | None
    upper: float | None
    units: int
    why: str


def rows_of(query: str, cells: pl.DataFrame) -> pl.DataFrame:
    """Execute a query on the table `cells`. Files and the network are out of its reach.

    Raises:
        InputError: the query is invalid for these cells, for instance as a column is missing.
    """
    connection = duckdb.connect(":memory:", config={"enable_external_access": False})
    try:
        connection.register("cells", cells.to_arrow())
        rows: pl.DataFrame = connection.sql(query).pl()
    except duckdb.Error as error:
        raise InputError(f"query of cells: {str(error).splitlines()[0]}") from None
    finally:
        connection.close()
    return rows


def columns_of(rows: pl.DataFrame) -> tuple[list[object], dict[str, Array]]:
    """Convert a query's rows to its units and one array over the units per column.

    Parts that some unit lacks give nan there.
    """
    unit = rows.columns[0]
    values = [name for name in rows.columns[1:] if name != PART]
    if PART in rows.columns:
        wide = rows.select(unit).unique(maintain_order=True)
        for (part,), own in rows.sort(PART, maintain_order=True).group_by(PART, maintain_order=True):
            renamed = own.select(unit, *(pl.col(name).alias(f"{name} {part}") for name in values))
            wide = wide.join(renamed, on=unit, how="left", maintain_order="left", validate="1:1")
        rows = wide
    numbers = rows.select(pl.exclude(unit).cast(pl.Float64).fill_null(float("nan")))
    return rows[unit].to_list(), {name: numbers[name].to_numpy() for name in numbers.columns}


def answers(questions: Sequence[Question], cells: pl.DataFrame) -> list[Answer]:
    """Answer an experiment's questions from its cells.

    Holm's correction is over all questions: with probability 95 %, no `yes` and no `no` among them is wrong.
    """
    judged = []
    for question in questions:
        line = Line(question.name, question.words, "", question.criterion)
        try:
            units, columns = columns_of(rows_of(question.query, cells))
            lacking = None if units else "no cell that the query needs is done"
        except InputError as error:
            units, columns, lacking = [], {}, "; ".join(error.problems)
        data = LineData(columns, tuple(range(len(units))), len(units), lacking)
        judged.append((len(units), judge(line, data)))
    adjusted = holm([1.0 if result.p is None else result.p for _, result in judged])
    given = []
    for question, (count, result), p in zip(questions, judged, adjusted, strict=True):
        alone = WORDS[result.verdict]
        why = result.why
        if result.p is not None:
            why += f"; p = {result.p:.2g}, by Holm over {len(questions)} questions {p:.2g}"
        verdict = OPEN if alone in (YES, NO) and p > LEVEL else alone
        given.append(Answer(question, verdict, alone, result.ours, result.lower, result.upper, count, why))
    return given
