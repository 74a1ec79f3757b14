"""Experiment 1 and the SGD ablation: the sine at 64 units (Sec. 4.1, Table 3; Sec. 5.6)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from raysweep.analysis.cells.methods import DECAY_0, FULL, K4, TRACES, Row, bptt, sparse
from raysweep.analysis.claims import criteria
from raysweep.analysis.claims.claim import Cells, Claim, Interval, Line, scored_cells
from raysweep.analysis.paper.samples import Summary
from raysweep.analysis.statistics.inference import Array, Columns

FAMILY = "sine"
STEPS = "post_last_500"
METRIC, NAIVE = f"mse_{STEPS}", f"persistence_{STEPS}"
PARTIAL = (4, 8, 16, 32)
WINDOWS = (5, 10, 20, 50)
RATES = (1e-4, 3e-4, 1e-3, 3e-3)


def cells(*rows: Row) -> tuple[Cells, ...]:
    """Select Table 3's cells."""
    return (scored_cells("paper/e1-sine", "sine", STEPS, rows, {"hidden": 64}),)


recovery = Claim(
    "E1-recovery",
    FAMILY,
    "Sec. 4.1, Table 3",
    (
        Line(
            "level, k = 4",
            "k = 4 recovers 84 +- 6 % of full RTRL's gain over traces",
            "84 +- 6",
            criteria.recovery_level("k4", TRACES.key, "full", 84),
            cells(TRACES, K4, FULL),
            sample=Summary(84, 6),
        ),
        *(
            Line(
                f"level, k = {k}",
                f"k = {k} recovers 78-84 %",
                "78-84",
                criteria.recovery_level(f"k{k}", TRACES.key, "full", 78, 84),
                cells(TRACES, sparse(k, "ring"), FULL),
            )
            for k in PARTIAL[1:]
        ),
        *(
            Line(
                f"flat, k = {k} against 4",
                f"recovery is flat in k: k = {k} recovers what k = 4 does",
                "flat",
                criteria.recovery_difference(f"k{k}", "k4", TRACES.key, "full"),
                cells(TRACES, K4, sparse(k, "ring"), FULL),
            )
            for k in PARTIAL[1:]
        ),
    ),
)

step = Claim(
    "E1-step",
    FAMILY,
    "Sec. 4.1, Table 3",
    (
        Line(
            "two orders, k = 0 to 4",
            "from k = 0 to k = 4 the post-shift MSE falls by two orders of magnitude",
            "0.23 to 0.0015 (153)",
            criteria.orders(TRACES.key, "k4", 2),
            cells(TRACES, K4),
        ),
        Line("level, k = 0", "MSE at k = 0", "0.23", criteria.mse_level(TRACES.key, 0.23), cells(TRACES)),
        Line("level, k = 4", "MSE at k = 4", "0.0015", criteria.mse_level("k4", 0.0015), cells(K4)),
        *(
            Line(
                f"within 3x of full, k = {k}",
                f"k = {k} stays within a factor 3 of full RTRL's MSE",
                "1/3 to 3",
                criteria.within(f"k{k}", "full", 3.0),
                cells(sparse(k, "ring"), FULL),
            )
            for k in PARTIAL
        ),
    ),
)


bptt1 = Claim(
    "E1-bptt1",
    FAMILY,
    "Sec. 4.1",
    (
        Line(
            "comparable to the partial k",
            "BPTT with window 1 is comparable to k = 4, 8, 16, 32",
            "comparable",
            Interval(
                criteria.ratio_to_all("bptt", [f"k{k}" for k in PARTIAL]),
                -math.log(criteria.COMPARABLE),
                math.log(criteria.COMPARABLE),
                "ratio",
                math.exp,
            ),
            cells(bptt(1), *(sparse(k, "ring") for k in PARTIAL)),
        ),
    ),
)


def _rate_rows(name: str, label: str, method: str, k: int | None, config: dict[str, object]) -> list[Row]:
    return [
        Row(f"{name}_{rate:g}", f"{label}, learning rate {rate:g}", method, k, {**config, "learning_rate": rate})
        for rate in RATES
    ]


def tbptt_cells(windows: tuple[int, ...]) -> tuple[Cells, ...]:
    """Select the cells of truncated BPTT with these windows, and of k = 4, at every learning rate."""
    rows = _rate_rows("k4", "k = 4", "sparse_rtrl", 4, {"selection": "ring"})
    for window in windows:
        rows += _rate_rows(f"w{window}", f"BPTT, window {window}", "bptt", None, {"window": window})
    decay_0 = replace(DECAY_0, config={**DECAY_0.config, "learning_rate": 1e-3})
    return (
        Cells("paper/e1-tbptt", "sine_tbptt", tuple(rows), {"hidden": 64}, metric=METRIC, naive=NAIVE, decay_0=decay_0),
    )


def groups(windows: tuple[int, ...]) -> dict[str, list[str]]:
    """Return for each method its columns, one per learning rate."""
    return {name: [f"{name}_{rate:g}" for rate in RATES] for name in ("k4", *(f"w{w}" for w in windows))}


def _steadier(columns: Columns) -> Array:
    """Compute ln(spread of BPTT / spread of k = 4), averaged over BPTT's windows.

    The spread of a method is the standard deviation of its ln MSE over seeds.
    """
    windows = np.stack([criteria.log_sd(f"w{w}")(columns) for w in WINDOWS])
    result: Array = windows.mean(0) - criteria.log_sd("k4")(columns)
    return result


tbptt = Claim(
    "E1-tbptt",
    FAMILY,
    "Sec. 4.1",
    (
        *(
            Line(
                f"no worse, window {w}",
                f"k = 4 is comparable to or better than truncated BPTT over {w} steps, both at rates chosen on "
                "the other seeds",
                "comparable or better (3 seeds)",
                criteria.rates_tuned(criteria.no_worse("k4", f"w{w}"), groups((w,))),
                tbptt_cells((w,)),
            )
            for w in WINDOWS
        ),
        Line(
            "lower variance",
            "k = 4 varies less over seeds than truncated BPTT",
            "lower",
            criteria.rates_tuned(
                Interval(_steadier, 0.0, math.inf, "ratio of sds of ln MSE", math.exp), groups(WINDOWS)
            ),
            tbptt_cells(WINDOWS),
        ),
    ),
)


def sgd_cells(*rows: Row) -> tuple[Cells, ...]:
    """Select the cells of the SGD ablation, at the middle one of its learning rates."""
    return (scored_cells("paper/sgd", "sine_sgd", STEPS, rows, {"hidden": 64, "learning_rate": 0.04}),)


_SGD = sgd_cells(TRACES, K4, FULL)
SGD_RECOVERIES = np.array([91.0, 93.5, 93.1, 91.3, 90.8])
"""The paper's five recoveries, percent."""


def _around_the_mean(columns: Columns) -> Columns:
    """Compute a recovery for every seed, in percent, by linearizing Eq. 10 around the mean gains.

    The divisor is full RTRL's mean gain, as its gain on a seed may be 0. If this gain is equal on all seeds, the
    result is that of Eq. 10.
    """
    gap = criteria.log_gain(columns, TRACES.key, "full")
    gained = criteria.log_gain(columns, TRACES.key, "k4")
    ratio = gained.mean() / gap.mean()
    return {"recovery": 100 * (ratio + (gained - ratio * gap) / gap.mean())}


_SGD_SEEDS = {TRACES.key: np.ones(5), "full": np.full(5, 0.01), "k4": 0.01 ** (SGD_RECOVERIES / 100)}
"""Columns of errors, constructed such that their recoveries are the paper's."""

sgd = Claim(
    "SGD",
    FAMILY,
    "Sec. 5.6",
    (
        Line(
            "level",
            "with SGD k = 4 recovers 92 %",
            "92 (91.0, 93.5, 93.1, 91.3, 90.8)",
            criteria.recovery_level("k4", TRACES.key, "full", 92),
            _SGD,
            sample=_SGD_SEEDS,
        ),
        Line(
            "spread",
            "and the same on every seed",
            "+- 1 (1.26)",
            Interval(
                None,
                -math.inf,
                math.log(SGD_RECOVERIES.std(ddof=1) * criteria.SAME_LEVEL),
                "points, sd",
                math.exp,
                _around_the_mean,
                spread=("recovery",),
                number=True,
                opposite=(-math.inf, math.log(criteria.POINTS)),
            ),
            _SGD,
            sample=_SGD_SEEDS,
        ),
    ),
)
