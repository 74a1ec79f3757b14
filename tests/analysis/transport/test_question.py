"""Questions: queries become columns, and verdicts follow from intervals, with Holm's correction over the questions."""

import math
import re

import numpy as np
import polars as pl
import pytest

from raysweep.analysis.claims.claim import Interval
from raysweep.analysis.transport.question import Question, answers, columns_of, rows_of
from raysweep.orchestrator.errors import InputError

CELLS = pl.DataFrame(
    {"seed": [1, 2, 3, 1, 2, 3], "rule": ["a"] * 3 + ["b"] * 3, "error": [1.0, 2.0, 3.0, 2.0, 4.0, 6.0]}
)
PAIRED = """SELECT seed AS unit, max(error) FILTER (rule = 'a') AS a, max(error) FILTER (rule = 'b') AS b
FROM cells GROUP BY ALL ORDER BY ALL"""


def question(name: str, low: float, high: float, query: str = PAIRED) -> Question:
    statistic = lambda columns: (columns["b"] / columns["a"]).mean(-1)  # noqa: E731
    return Question(name, "Is b in the zone?", query, Interval(statistic, low, high, "ratio"))


def test_a_query_gives_one_array_per_column() -> None:
    units, columns = columns_of(rows_of(PAIRED, CELLS))
    assert units == [1, 2, 3]
    assert columns["a"].tolist() == [1, 2, 3]
    assert columns["b"].tolist() == [2, 4, 6]


def test_parts_become_columns_and_absent_ones_nan() -> None:
    rows = rows_of(
        "SELECT seed AS unit, rule AS part, error FROM cells WHERE seed < 3 OR rule = 'a' ORDER BY ALL", CELLS
    )
    units, columns = columns_of(rows)
    assert units == [1, 2, 3]
    assert sorted(columns) == ["error a", "error b"]
    assert columns["error b"][:2].tolist() == [2, 4]
    assert math.isnan(columns["error b"][2])


def test_two_rows_of_one_unit_and_part_are_refused() -> None:
    with pytest.raises(pl.exceptions.ComputeError):
        columns_of(rows_of("SELECT 1 AS unit, 'x' AS part, error FROM cells", CELLS))


def test_a_query_reaches_no_file(tmp_path: object) -> None:
    with pytest.raises(InputError, match="disabled"):
        rows_of("SELECT * FROM read_csv('/etc/hostname')", CELLS)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(1.5, 2.5, "yes"), (2.5, 9.0, "no"), (-math.inf, 1.9, "no"), (1.0, math.inf, "yes")]
)
def test_the_answer_is_where_the_interval_lies(low: float, high: float, verdict: str) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "seed": [*range(40)] * 2,
            "rule": ["a"] * 40 + ["b"] * 40,
            "error": [1.0] * 40 + list(rng.normal(2.0, 0.1, 40)),
        }
    )
    (answer,) = answers([question("X1", low, high)], frame)
    assert answer.verdict == answer.alone == verdict
    assert answer.lower is not None
    assert answer.upper is not None
    assert answer.value is not None
    assert answer.lower < answer.value < answer.upper
    assert answer.units == 40


def test_a_verdict_that_holm_does_not_keep_is_open() -> None:
    rng = np.random.default_rng(3)
    frame = pl.DataFrame(
        {
            "seed": [*range(30)] * 2,
            "rule": ["a"] * 30 + ["b"] * 30,
            "error": [1.0] * 30 + list(rng.normal(2.0, 1.0, 30)),
        }
    )
    low = float(frame.filter(pl.col("rule") == "b")["error"].mean()) - 2.4 / math.sqrt(30)  # 2.4 standard errors away
    alone = answers([question("X1", low, math.inf)], frame)[0]
    among = answers([question(f"X{i}", low, math.inf) for i in range(1, 21)], frame)[0]
    assert alone.verdict == "yes"
    assert (among.verdict, among.alone) == ("open", "yes")


def test_without_cells_a_question_is_not_run() -> None:
    (empty,) = answers([question("X1", 0.0, 1.0)], CELLS.clear())
    (lacking,) = answers([question("X1", 0.0, 1.0, "SELECT seed AS unit, accuracy FROM cells")], CELLS)
    assert empty.verdict == lacking.verdict == "not run"
    assert "accuracy" in lacking.why


def test_a_unit_without_a_number_leaves_the_question_open() -> None:
    (answer,) = answers([question("X1", 0.0, 9.0)], CELLS.filter((pl.col("seed") < 3) | (pl.col("rule") == "a")))
    assert answer.verdict == "open"
    assert answer.value is None


def sample(mean: float, sd: float, seed: int) -> list[float]:
    """Forty numbers of this mean and standard deviation."""
    noise = np.random.default_rng(seed).normal(0.0, 1.0, 40)
    return list(mean + sd * (noise - noise.mean()) / noise.std(ddof=1))


@pytest.mark.parametrize(
    ("gain", "spread", "verdict", "words"),
    [
        (0.5, 0.1, "yes", "inside the zone"),
        (0.02, 0.01, "no", "is not .05 above (mean gap 0.0"),
        (0.05, 0.1, "open", "whether there is a gap above 0.05 (0.0"),
    ],
)
def test_a_premise_needs_a_gain_of_some_size(gain: float, spread: float, verdict: str, words: str) -> None:
    frame = pl.DataFrame({"seed": range(40), "gain": sample(gain, spread, 5), "number": sample(90.0, 1.0, 6)})
    criterion = Interval(
        lambda columns: columns["number"].mean(-1),
        70.0,
        math.inf,
        "%",
        undefined="is not .05 above",
        premise=lambda columns: columns["gain"].mean(-1),
        premise_above=0.05,
    )
    (answer,) = answers(
        [Question("X1", "?", "SELECT seed AS unit, gain, number FROM cells ORDER BY ALL", criterion)], frame
    )
    assert answer.verdict == verdict
    assert words in answer.why


def test_a_yes_is_no_surer_than_its_premise() -> None:
    """A gap that the interval of 95 % just shows has p near .05, however sure the recovery is."""
    gains = sample(2.2 / math.sqrt(40), 1.0, 5)
    frame = pl.DataFrame({"seed": range(40), "gain": gains, "number": sample(90.0, 1.0, 6)})
    statistic, premise = (lambda columns, name=name: columns[name].mean(-1) for name in ("number", "gain"))
    criterion = Interval(statistic, 70.0, math.inf, "%", premise=premise)
    query = "SELECT seed AS unit, gain, number FROM cells ORDER BY ALL"
    (answer,) = answers([Question("X1", "?", query, criterion)], frame)
    assert answer.alone == "yes"
    (p,) = re.findall(r"p = ([\d.e-]+)", answer.why)
    assert 0.02 < float(p) < 0.05
