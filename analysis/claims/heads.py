"""Experiments 7 and 8: gradients through few heads of a vision transformer (Sec. 4.7, 4.8, Tables 10, 11).

Recovery is linear in the accuracy: `trace_like` (one head) has 0 %, `dense_ref` 100 %. The naive baseline of lines
on the average accuracy is ridge regression on pixels.
"""

from __future__ import annotations

import math
from dataclasses import replace

from raysweep.analysis.cells.methods import (
    DENSE,
    RANDOM_HEADS,
    TRACE_LIKE,
    TRANSFORMER,
    Row,
    ranked_heads,
    sparse_heads,
)  # fmt: skip
from raysweep.analysis.claims import criteria
from raysweep.analysis.claims.claim import Cells, Claim, Interval, Line, Share
from raysweep.analysis.paper.samples import per_seed, selected_heads
from raysweep.analysis.statistics.inference import Array, Columns

FAMILY, SELECTION = "heads", "head_selection"
THRESHOLD = 70.0
"""Smallest recovery, in percent, that the paper calls substantial."""
INF = math.inf
FLOOR, CEILING = TRACE_LIKE.key, DENSE.key
RIDGE = "ridge_accuracy_average"
_ROWS = ("k6", "k4", "k2", FLOOR, CEILING)
TABLE_10 = per_seed("table10", {row: row for row in _ROWS}, "accuracy")
TABLE_11 = selected_heads()


def _cells(
    sweep: str, experiment: str, seeds: tuple[int, ...], *rows: Row, metric: str = "accuracy_average"
) -> tuple[Cells, ...]:
    naive = RIDGE if metric == "accuracy_average" else None
    return (Cells(f"paper/{sweep}", experiment, rows, TRANSFORMER, metric=metric, naive=naive, seeds=seeds),)


def heads(*rows: Row, metric: str = "accuracy_average", sweep: str = "e7-heads") -> tuple[Cells, ...]:
    """Select cells of Table 10 or, with the sweep `e7-forward`, of the forward variant (see `forward`)."""
    return _cells(sweep, "vit_heads", (42, 43, 44), *rows, metric=metric)


def selections(*rows: Row) -> tuple[Cells, ...]:
    """Select cells of Table 11."""
    return _cells("e8-selection", "vit_selection", (7, 42, 43, 44, 2024), *rows)


def timings(*rows: Row, metric: str = "accuracy_later") -> tuple[Cells, ...]:
    """Select cells of the timing experiment, which ranks heads after task 1 or after task 2.

    By default, the metric is the accuracy on tasks 3 to 5.
    """
    return _cells("e8-timing", "vit_timing", (42, 43, 44, 45, 46), *rows, metric=metric)


def level(key: str, low: float, high: float, floor: str = FLOOR) -> Interval:
    """Build the criterion that the recovery of row `key` is between `low` and `high` percent."""
    return criteria.recovery_zone(key, floor, CEILING, low, high, criteria.linear_gain)


def near(key: str, paper: float) -> Interval:
    """Build the criterion that the recovery of row `key` is within `POINTS` of the paper's."""
    return criteria.recovery_level(key, FLOOR, CEILING, paper, gain=criteria.linear_gain)


def apart(key: str, other: str, low: float, high: float) -> Interval:
    """Build the criterion that the recovery of `key` minus that of `other` is from `low` to `high` points."""
    return criteria.recovery_zone(key, FLOOR, CEILING, low, high, criteria.linear_gain, less=other)


def gap(key: str, other: str, paper: float) -> Interval:
    """Build the criterion that the recovery of `key` minus that of `other` is within `POINTS` of the paper's number."""
    zone = apart(key, other, paper - criteria.POINTS, paper + criteria.POINTS)
    return replace(zone, number=True, opposite=(0.0, INF))


def above(key: str, other: str, unit: str = "accuracy") -> Interval:
    """Build the criterion that `key` is above `other`: the mean of their paired differences is above 0."""

    def statistic(columns: Columns) -> Array:
        result: Array = (columns[key] - columns[other]).mean(-1)
        return result

    return Interval(statistic, 0.0, INF, unit, margin=criteria.ACCURACY)


def forward(k: int, test: str = "all_heads") -> Row:
    """Build the row of the forward variant, which zeroes all but k heads in the forward pass.

    `test` is the value of the setting `forward_test`: the heads that are active in tests.
    """
    return Row(f"forward_k{k}", f"zeroed, k = {k}", "sparse_forward", k, {"forward_test": test})


def after(method: str, task: int) -> Row:
    """Build the row of the timing experiment whose six heads come from a ranking computed after `task`."""
    return Row(f"{method}_{task}", f"{method} after task {task}", method, 6, {"rank_after": task})


def _random_heads(columns: Columns) -> str:
    return "tested with random heads in place: " + ", ".join(f"{values.mean():.3f}" for values in columns.values())


def _means(columns: Columns) -> str:
    return ", ".join(f"{key} {values.mean():.3f}" for key, values in columns.items())


# fmt: off
threshold = Claim(
    "E7-threshold", FAMILY, "Sec. 4.7, Table 10",
    (
        *(
            Line(f"{k} of 12 heads", f"{k} of 12 heads recover {paper} %", str(paper), near(f"k{k}", paper),
                 heads(DENSE, sparse_heads(k), TRACE_LIKE), sample=TABLE_10)
            for k, paper in ((6, 107), (4, 77), (2, 8))
        ),
        Line("1 of 12 heads", "one head is the floor, below the dense reference", "0.330 against 0.398",
             above(CEILING, FLOOR), heads(DENSE, TRACE_LIKE), sample=TABLE_10),
        Line("outperforms dense", "half of the heads outperform the dense reference", "0.401 against 0.398",
             above("k6", CEILING), heads(DENSE, sparse_heads(6)), sample=TABLE_10),
    ),
)
forward_claim = Claim(
    "E7-forward", FAMILY, "Sec. 4.7",
    (
        Line("6 of 12 heads", "zeroed in the forward pass, 50 % of heads reach 70 % recovery", "70 % or more",
             level("forward_k6", THRESHOLD, INF, "forward_k1"),
             heads(DENSE, forward(6), forward(1), sweep="e7-forward")),
        Line("4 of 12 heads", "and 33 % do not", "less than 70 %",
             level("forward_k4", -INF, THRESHOLD, "forward_k1"),
             heads(DENSE, forward(4), forward(1), sweep="e7-forward")),
        Line("floor", "with one head its accuracy is .14", "0.14", criteria.accuracy_level("forward_k1", 0.14),
             heads(forward(1), sweep="e7-forward"), _random_heads,
             heads(forward(1, "random_heads"), sweep="e7-forward")),
        Line("floor, against detached", "with one head it is below detaching", "0.14 against 0.33",
             above(FLOOR, "forward_k1"), heads(TRACE_LIKE, forward(1), sweep="e7-forward")),
    ),
)
forgetting = Claim(
    "E7-forgetting", FAMILY, "Sec. 4.7",
    (
        Line("level, dense", "forgetting of the dense reference", "0.45", criteria.accuracy_level(CEILING, 0.45),
             heads(DENSE, metric="forgetting")),
        *(
            Line(f"less forgetting, {row.label}", "sparse transport forgets less than dense, at every sparsity",
                 "0.22 (its k is lost) against 0.45", above(CEILING, row.key, "forgetting"),
                 heads(DENSE, row, metric="forgetting"), _means, heads(DENSE, row, metric="accuracy_new"))
            for row in (sparse_heads(6), sparse_heads(4), sparse_heads(2), TRACE_LIKE)
        ),
    ),
)
ORACLE, ANTI = ranked_heads("fisher_oracle"), ranked_heads("fisher_anti")
ENTROPY, FLAT = ranked_heads("entropy_oracle"), ranked_heads("entropy_anti")
fisher = Claim(
    "E8-fisher", SELECTION, "Sec. 4.8, Table 11",
    (
        *(
            Line(f"level, {row.label}", f"{row.label} recovers {paper} %", str(paper), near(row.key, paper),
                 selections(DENSE, row, TRACE_LIKE), sample=TABLE_11)
            for row, paper in ((ORACLE, 95.3), (ENTROPY, 76.4), (RANDOM_HEADS, 77.5), (FLAT, 75.7), (ANTI, 71.0))
        ),
        Line("gap", "Fisher's oracle recovers 24.3 points more than its opposite", "24.3",
             gap(ORACLE.key, ANTI.key, 24.3), selections(DENSE, ORACLE, ANTI, TRACE_LIKE), sample=TABLE_11),
        Line("on every seed", "the gap is positive on 5 of 5 seeds", "5 of 5",
             Share(lambda columns: columns[ORACLE.key] > columns[ANTI.key], 1.0),
             selections(ORACLE, ANTI)),
        Line("over random", "Fisher's oracle is better than random heads", "95.3 against 77.5",
             above(ORACLE.key, RANDOM_HEADS.key), selections(ORACLE, RANDOM_HEADS), sample=TABLE_11),
        Line("entropy", "entropy's oracle is no better than random heads", "-1.1 points",
             apart(ENTROPY.key, RANDOM_HEADS.key, -INF, criteria.POINTS),
             selections(DENSE, ENTROPY, RANDOM_HEADS, TRACE_LIKE), sample=TABLE_11),
    ),
)
timing = Claim(
    "E8-timing", SELECTION, "Sec. 4.8",
    (
        Line("after task 1", "Fisher after task 1 helps tasks 3 to 5: oracle less opposite", "22.5 points",
             gap("fisher_oracle_1", "fisher_anti_1", 22.5),
             timings(DENSE, after("fisher_oracle", 1), after("fisher_anti", 1), TRACE_LIKE)),
        Line("after task 2", "Fisher after task 2 is worse than random there", "worse",
             above(RANDOM_HEADS.key, "fisher_oracle_2"), timings(RANDOM_HEADS, after("fisher_oracle", 2))),
        Line("rankings", "rankings after tasks 1 and 2 are correlated", "lost",
             Interval(criteria.mean(CEILING), 0.0, INF, "Spearman's rho"),
             timings(DENSE, metric="fisher_spearman_1_2")),
    ),
)
