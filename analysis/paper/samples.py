"""The results of the paper's own seeds: as columns by seed or, where these are not printed, as mean and deviation."""

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
    """Return Table 12 as columns of Experiment 9.

    Columns without a prefix are the MSE of the adapting decoder late in B; those with `frozen_`, of the frozen
    decoder late in B; those with `end_`, at the end of A. The last is not printed, but follows by Eq. 12 from the
    recoveries of k = 4.
    """
    rows = {"k4": "k4", "traces_decay095": "traces_decay095", "full": "full"}
    mse = per_seed("table12", {**rows, "frozen": "frozen"})
    recovery = per_seed("table12", {"k4": "k4"}, "recovery")["k4"] / 100
    frozen = mse.pop("frozen")
    end = frozen - (frozen - mse["k4"]) / recovery
    both = {f"{prefix}{row}": values for row in rows for prefix, values in (("frozen_", frozen), ("end_", end))}
    return {**mse, **both}


def selected_heads() -> Columns:
    """Return Table 11 as accuracies, on a scale where the floor is 0 and the dense reference 1."""
    names = ("fisher_oracle", "entropy_oracle", "random", "entropy_anti", "fisher_anti")
    columns = {name: v / 100 for name, v in per_seed("table11", {name: name for name in names}, "recovery").items()}
    seeds = columns["random"].size
    return {**columns, "trace_like": np.zeros(seeds), "dense_ref": np.ones(seeds)}
