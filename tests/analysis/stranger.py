"""Derives 20 random numbers of the claims page again from a store's Parquet files, with pandas and SciPy alone.

python tests/analysis/stranger.py STORE CLAIMS.md [SEED]
python tests/analysis/stranger.py docs/results/cells.parquet docs/results/claims.md [SEED]

Nothing of raysweep is imported. Formulas: docs/verdicts.md, "Intervals". Prints each number as derived and as on the
page; exit code 1 if any differs in a printed digit, or if the page has fewer than 20 numbers of the lines known here.
"""

import json
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

RESAMPLES, SEED, LEVEL = 10_000, 20261124, 0.05
NUMBERS = 20
TRACES, FULL, K4 = ("traces", {"decay": 0.95}), ("rtrl", {}), ("sparse_rtrl", {"k": 4, "selection": "ring"})
SINE = ("sine", "mse_post_last_500", {})
MULTI_SINE = ("multi_sine", "mse_seg2_last_200", {})
SGD = ("sine_sgd", "mse_post_last_500", {"learning_rate": 0.04})
Task = tuple[str, str, dict[str, object]]
Row = tuple[str, dict[str, object]]
Statistic = Callable[..., np.ndarray]


def sparse(k: int) -> Row:
    """Row of k paths per unit."""
    return "sparse_rtrl", {"k": k, "selection": "ring"}


def recovery(rated: np.ndarray, floor: np.ndarray, full: np.ndarray) -> np.ndarray:
    """Eq. 10 as a ratio of means, percent."""
    gap = np.log(floor).mean(-1) - np.log(full).mean(-1)
    return 100 * (np.log(floor).mean(-1) - np.log(rated).mean(-1)) / np.where(gap > 0, gap, np.nan)


def difference(rated: np.ndarray, other: np.ndarray, floor: np.ndarray, full: np.ndarray) -> np.ndarray:
    """Difference of two recoveries, points."""
    return recovery(rated, floor, full) - recovery(other, floor, full)


def log_ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Ln of the paired geometric mean ratio."""
    return (np.log(above) - np.log(below)).mean(-1)


def log_mean(values: np.ndarray) -> np.ndarray:
    """Ln of the geometric mean."""
    return np.log(values).mean(-1)


LINES: dict[tuple[str, str], tuple[Task, tuple[Row, ...], Statistic, Callable[[float], float]]] = {
    **{("E1-recovery", f"level, k = {k}"): (SINE, (sparse(k), TRACES, FULL), recovery, float) for k in (4, 8, 16, 32)},
    **{
        ("E1-recovery", f"flat, k = {k} against 4"): (SINE, (sparse(k), K4, TRACES, FULL), difference, float)
        for k in (8, 16, 32)
    },
    ("E1-step", "two orders, k = 0 to 4"): (SINE, (TRACES, K4), log_ratio, np.exp),
    ("E1-step", "level, k = 0"): (SINE, (TRACES,), log_mean, np.exp),
    ("E1-step", "level, k = 4"): (SINE, (K4,), log_mean, np.exp),
    **{
        ("E1-step", f"within 3x of full, k = {k}"): (SINE, (sparse(k), FULL), log_ratio, np.exp) for k in (4, 8, 16, 32)
    },
    ("F-decay0", "no worse, sine"): (SINE, (("traces", {"decay": 0}), FULL), log_ratio, np.exp),
    ("SGD", "level"): (SGD, (K4, TRACES, FULL), recovery, float),
    ("E2-multisine", "level, k = 4"): (MULTI_SINE, (K4, TRACES, FULL), recovery, float),
}
"""Claim and part -> task, rows, statistic of their columns, and the scale of the page."""


def column(cells: pd.DataFrame, task: Task, row: Row) -> pd.Series:
    """The metric of a row's cells, by seed."""
    experiment, metric, pinned = task
    method, config = row
    chosen = cells[(cells["experiment"] == experiment) & (cells["method"] == method) & (cells["status"] == "done")]
    wanted = {**pinned, **config}
    keep = [
        all((k if name == "k" else json.loads(text).get(name)) == value for name, value in wanted.items())
        for k, text in zip(chosen["k"], chosen["config"], strict=True)
    ]
    chosen = chosen[keep].set_index("seed").sort_index()
    if "metrics" not in chosen.columns:  # saved cells
        return chosen[metric].astype(float)
    return chosen["metrics"].map(lambda row: {m["name"]: m["value"] for m in row}[metric]).astype(float)


PAPER_SEEDS = [42, 123, 7, 2024, 31337]


def seed_order(cells: pd.DataFrame, task: Task) -> list[int]:
    """The seeds of a task in the order in which they are resampled: the paper's first, then by number."""
    seeds = cells[cells["experiment"] == task[0]]["seed"].unique().tolist()
    return [seed for seed in PAPER_SEEDS if seed in seeds] + sorted(set(seeds) - set(PAPER_SEEDS))


def interval(statistic: Statistic, columns: list[np.ndarray]) -> tuple[float, float, float]:
    """The statistic, and the hull of Student's t (jackknife), the percentile bootstrap and BCa."""
    n = columns[0].size
    value = float(statistic(*columns))
    without = np.array([float(statistic(*(np.delete(x, i) for x in columns))) for i in range(n)])
    lower = without.mean() - without
    half = stats.t.ppf(1 - LEVEL / 2, n - 1) * np.sqrt((n - 1) / n * (lower**2).sum())
    drawn = np.random.default_rng(SEED).integers(0, n, size=(RESAMPLES, n))
    resampled = statistic(*(x[drawn] for x in columns))
    resampled = resampled[np.isfinite(resampled)]
    equal = np.abs(resampled - value) <= 1e-9 * max(1.0, abs(value))  # to rounding; these count half
    below = ((resampled < value) & ~equal).sum() + equal.sum() / 2
    bias = stats.norm.ppf((1 + below) / (2 + resampled.size))
    skewness = (lower**3).sum() / (6 * (lower**2).sum() ** 1.5)
    shares = np.array([LEVEL / 2, 1 - LEVEL / 2])
    z = bias + stats.norm.ppf(shares)
    ends = np.quantile(resampled, [*shares, *stats.norm.cdf(bias + z / (1 - skewness * z))], method="nearest")
    return value, min(*ends, value - half), max(*ends, value + half)


def printed(value: float) -> str:
    """Three significant digits, without an exponent from 1e-4 to 1e5."""
    if value and not 1e-4 <= abs(value) < 1e5:
        return f"{value:.2g}"
    return f"{value:.{max(0, 2 - int(np.floor(np.log10(abs(value)))))}f}"


def main() -> int:
    """Run the comparison."""
    store, page = Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8")
    if store.is_file():
        cells = pd.read_parquet(store)
        fresh = cells["seed"].between(1000, 1199)  # the page is of fresh seeds, in experiments that have some
        cells = cells[fresh | ~cells["experiment"].isin(cells[fresh]["experiment"].unique())]
    else:
        cells = pd.concat(pd.read_parquet(path) for path in sorted(store.glob("cells/*.parquet")))
        cells = cells.drop_duplicates("cell_id", keep="last")
    numbers = []
    for line in page.splitlines():
        fields = [field.strip() for field in line.split(" | ")]
        key = (fields[0].removeprefix("| "), fields[1]) if len(fields) > 6 else ("", "")
        found = re.match(r"(\S+) \[(\S+), (\S+)\]", fields[5]) if key in LINES else None
        if found:
            numbers += [(key, at, text) for at, text in enumerate(found.groups())]
    if len(numbers) < NUMBERS:
        print(f"only {len(numbers)} numbers of lines known here are on the page")
        return 1
    wrong = 0
    for key, at, text in random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 0).sample(numbers, NUMBERS):
        task, rows, statistic, scale = LINES[key]
        columns = pd.concat([column(cells, task, row) for row in rows], axis=1).loc[seed_order(cells, task)]
        derived = printed(float(scale(interval(statistic, list(columns.to_numpy().T))[at])))
        wrong += derived != text
        print(f"{key[0]}, {key[1]}, {('number', 'lower end', 'upper end')[at]}: {derived}, page {text}")
    print(f"{NUMBERS - wrong} of {NUMBERS} agree")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
