"""How well the ledger of claims works: coverage of its intervals, and its verdicts on true and on false claims.

python benchmarks/ledger.py [coverage] [verdicts] [--draws 400] [--seeds 5 20 50 200]

Prints the two tables of `docs/verdicts.md`, with bootstraps of 1,000 resamples (the ledger: 10,000). Coverage is
simulated on populations like the errors at hand, in ln MSE:

- normal, sd .5: k = 4 on the sine;
- skewed (gamma, shape 1.6, sd 2.05): full RTRL on the sine, of whose arithmetic mean 5 % of the seeds hold nine tenths;
- failing: full RTRL on Lorenz, tight (sd .25) but for the 6 % of the seeds that fail, 30 times higher (sd 1).
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable

import numpy as np

from raysweep.analysis.claims import criteria
from raysweep.analysis.claims.controls import kind, operating
from raysweep.analysis.claims.verdict import CANNOT, MARGIN, NOT_REPRODUCED, REPRODUCED
from raysweep.analysis.rendering import markdown_table
from raysweep.analysis.statistics import inference
from raysweep.analysis.statistics.inference import Array, estimate, spread_estimate
from raysweep.analysis.statistics.shares import share_interval

Population = Callable[[np.random.Generator, int], Array]
FAILING = 0.06
SHAPE, SD = 1.6, 2.05
TIGHT, LOG_FACTOR = 0.25, math.log(30)


def _normal(rng: np.random.Generator, n: int) -> Array:
    return rng.normal(-6.4, 0.5, n)


def _skewed(rng: np.random.Generator, n: int) -> Array:
    result: Array = -8 + SD * (rng.gamma(SHAPE, size=n) - SHAPE) / math.sqrt(SHAPE)
    return result


def _failing(rng: np.random.Generator, n: int) -> Array:
    fails = rng.random(n) < FAILING
    result: Array = np.where(fails, rng.normal(-4.9 + LOG_FACTOR, 1.0, n), rng.normal(-4.9, TIGHT, n))
    return result


POPULATIONS: dict[str, tuple[Population, float, float]] = {
    "normal": (_normal, -6.4, 0.5),
    "skewed": (_skewed, -8.0, SD),
    "failing": (
        _failing,
        -4.9 + FAILING * LOG_FACTOR,
        math.sqrt((1 - FAILING) * TIGHT**2 + FAILING + FAILING * (1 - FAILING) * LOG_FACTOR**2),
    ),
}
"""Name -> draws of ln MSE, their mean, their standard deviation."""
FLOOR = -1.3
"""Mean ln MSE of the floor of a recovery (sd .6); the method rated is the normal population."""


def coverage(seeds: list[int], draws: int) -> str:
    """Share of intervals that hold the truth, as Markdown; nominally .95."""
    rows = []
    for n in seeds:
        rng = np.random.default_rng(n)
        for name, (population, mean, sd) in POPULATIONS.items():
            hits: Counter[str] = Counter()
            recovery = 100 * (FLOOR - POPULATIONS["normal"][1]) / (FLOOR - mean)
            for _ in range(draws):
                logs = population(rng, n)
                columns = {
                    "full": np.exp(logs),
                    "traces": np.exp(rng.normal(FLOOR, 0.6, n)),
                    "k4": np.exp(_normal(rng, n)),
                }
                truths = {
                    "mean of ln MSE": (estimate(criteria.geometric("full"), columns), mean),
                    "recovery": (estimate(criteria.recovery("k4", "traces", "full"), columns), recovery),
                    "spread": (spread_estimate(logs), math.log(sd)),
                    "ratio of spreads": (spread_estimate(logs, np.log(columns["k4"])), math.log(sd / 0.5)),
                }
                for what, (estimated, truth) in truths.items():
                    low, high = estimated.interval()
                    hits[what] += low <= truth <= high
                low, high = share_interval(int((rng.random(n) < FAILING).sum()), n)
                hits["share of 6 %"] += low <= FAILING <= high
            rows += [[what, name, str(n), f"{count / draws:.3f}"] for what, count in hits.items()]
    rows = [row for row in rows if row[0] != "share of 6 %" or row[1] == "failing"]
    rows.sort(key=lambda row: (row[0], row[1], int(row[2])))
    return markdown_table(["interval of", "population", "seeds", "covers"], rows)


def verdicts(seeds: list[int], draws: int) -> str:
    """Shares of verdicts by kind of line and number of seeds, as Markdown."""
    rows = []
    for false in (False, True):
        for n in seeds:
            by_kind: dict[str, Counter[str]] = {}
            for (claim, part), drawn in operating(n, draws, false=false).items():
                by_kind.setdefault(kind(claim, part), Counter()).update(drawn)
            for name, counts in sorted(by_kind.items()):
                shares = [counts[verdict] / counts.total() for verdict in (REPRODUCED, NOT_REPRODUCED, MARGIN, CANNOT)]
                rows.append(["false" if false else "true", name, str(n), *(f"{share:.2f}" for share in shares)])
    heads = ["the claim is", "kind", "seeds", REPRODUCED, NOT_REPRODUCED, MARGIN, CANNOT]
    return markdown_table(heads, sorted(rows, key=lambda row: (row[0] == "false", row[1], int(row[2]))))


TABLES = {"coverage": coverage, "verdicts": verdicts}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", default=list(TABLES))
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 20, 50, 200])
    options = parser.parse_args()
    inference.RESAMPLES = 1_000
    for name in options.tables:
        print(TABLES[name](options.seeds, options.draws), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
