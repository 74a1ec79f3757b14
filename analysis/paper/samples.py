"""The results of the paper's own seeds.

They are columns with one entry per seed or, if the paper does not print the seeds, a mean and a standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from raysweep.analysis.paper.values import PAPER_SEEDS, paper_values
from raysweep.analysis.statistics.distributions import t_quantile
from raysweep.analysis.statistics.inference import LEVEL, Array, Columns


@dataclass(frozen=True)
class Summary:
    """A mean over seeds and its sample standard deviation, for results that the paper does not print seed by seed."""

    mean: float
    sd: float
    n: int = len(PAPER_SEEDS)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Compute Student's t interval of the mean at confidence 1 - level."""
        half = t_quantile(1 - level / 2, self.n - 1) * self.sd / math.sqrt(self.n)
        return self.mean - half, self.mean + half


def of_values(values: Array) -> Summary:
    """Summarize numbers that the paper prints seed by seed."""
    return Summary(float(values.mean()), float(values.std(ddof=1)), values.size)


def per_seed(table: str, rows: Mapping[str, str], quantity: str = "mse") -> dict[str, Array]:
    """Return the values that a table prints seed by seed, as one column per entry of `rows`.

    All columns have the same order of seeds.

    Args:
        table: a table's name, as in `paper_values`.
        rows: column -> row of the table.
        quantity: the quantity to read, such as `mse`.
    """
    frame = paper_values(table).filter((pl.col("quantity") == quantity) & pl.col("seed").is_not_null())
    columns = {
        name: frame.filter(pl.col("row") == row).sort("seed").select("seed", "value") for name, row in rows.items()
    }
    seeds = {tuple(column["seed"]) for column in columns.values()}
    if len(seeds) != 1 or seeds == {()}:
        raise ValueError(f"{table}: rows {', '.join(rows.values())} are not printed for the same seeds")
    return {name: column["value"].to_numpy() for name, column in columns.items()}


def decoding() -> Columns:
    """Return Table 12 as columns of Experiment 9. All of them are MSE, with one entry per seed.

    A column named after a method is the MSE of the adapting decoder late in session B. The prefix `frozen_` marks the
    MSE of the frozen decoder late in B, and `end_` the MSE at the end of A. The paper does not print the MSE at the
    end of A. It follows by Eq. 12 from the recoveries of k = 4.
    """
    rows = {"k4": "k4", "traces_decay095": "traces_decay095", "full": "full"}
    mse = per_seed("table12", {**rows, "frozen": "frozen"})
    recovery = per_seed("table12", {"k4": "k4"}, "recovery")["k4"] / 100
    frozen = mse.pop("frozen")
    end = frozen - (frozen - mse["k4"]) / recovery
    both = {f"{prefix}{row}": values for row in rows for prefix, values in (("frozen_", frozen), ("end_", end))}
    return {**mse, **both}


def selected_heads() -> Columns:
    """Return the recoveries of Table 11 as accuracies, on a scale from 0 (`trace_like`) to 1 (`dense_ref`)."""
    names = ("fisher_oracle", "entropy_oracle", "random", "entropy_anti", "fisher_anti")
    columns = {name: v / 100 for name, v in per_seed("table11", {name: name for name in names}, "recovery").items()}
    seeds = columns["random"].size
    return {**columns, "trace_like": np.zeros(seeds), "dense_ref": np.ones(seeds)}
