"""Claims about singular values of the influence J (n x P) and angles of gradients (Sec. 4.6, 5.1, Table 13)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raysweep.analysis.cells.methods import DECAY_0, FULL, K4, TRACES, Row, sparse
from raysweep.analysis.claims import criteria
from raysweep.analysis.claims.chaos import above_traces, lorenz
from raysweep.analysis.claims.claim import Agreement, Cells, Claim, Interval, Line, Reduce
from raysweep.analysis.statistics.inference import Array, Columns
from raysweep.analysis.statistics.spread import COLLAPSED

FAMILY = "spectra"
SHIFT_STEP, LAST_STEP, SHIFT = 999, 1999, 1000
LOW, HIGH, DEGRADED, RANK_SHARE = 2.6, 6.5, 10.0, 0.8
COSINE = 0.7
ANGLES = (2, 4, 8, 16, 32)


def at(step: int) -> Reduce:
    """Build a function that returns the value recorded at `step`; nan if there is none."""

    def reduce(steps: NDArray[np.int64], values: Array) -> float:
        recorded = values[steps == step]
        return float(recorded[0]) if recorded.size else math.nan

    return reduce


def largest(_: NDArray[np.int64], values: Array) -> float:
    """Return the largest recorded value."""
    return float(values.max())


def before(steps: NDArray[np.int64], values: Array) -> float:
    """Return the mean over the steps before the shift."""
    return float(values[steps < SHIFT].mean())


def after(steps: NDArray[np.int64], values: Array) -> float:
    """Return the mean over the steps from the shift on."""
    return float(values[steps >= SHIFT].mean())


def middle(_: NDArray[np.int64], values: Array) -> float:
    """Return the median over all steps."""
    return float(np.median(values))


def _influence(stream: str, metric: str, reduce: Reduce, prefix: str, **pinned: object) -> tuple[Cells, ...]:
    """Select the cells of full RTRL on a stream, and one of their arrays. `reduce` turns it into one number per cell.

    For the array `condition`, the condition number of the immediate influence is selected too, for comparison.
    """
    cells = Cells(f"paper/spectra-{stream}", f"spectra_{stream}", (FULL,), pinned, metric=metric)
    cells = replace(cells, reduce=reduce, prefix=prefix)
    return (replace(cells, decay_0=FULL, decay_0_metric="immediate_condition") if metric == "condition" else cells,)


def sine(metric: str, reduce: Reduce, hidden: int = 64, prefix: str = "") -> tuple[Cells, ...]:
    """Select full RTRL's cells on the sine, and one of their arrays. `reduce` turns it into one number per cell."""
    return _influence("sine", metric, reduce, prefix, hidden=hidden, learning_rate=1e-3)


def chaotic(metric: str, reduce: Reduce, prefix: str = "") -> tuple[Cells, ...]:
    """Select full RTRL's cells on Lorenz, and one of their arrays. `reduce` turns it into one number per cell."""
    return _influence("lorenz", metric, reduce, prefix, hidden=64)


_NEAR_ISOTROPIC = Interval(criteria.geometric("full"), math.log(LOW), math.log(HIGH), "condition number", math.exp)


def _number(paper: float) -> Interval:
    wide = math.log(criteria.COMPARABLE)
    return Interval(criteria.geometric("full"), math.log(paper) - wide, math.log(paper) + wide, "condition number",
                    math.exp)  # fmt: skip


def collapsed(columns: Columns) -> NDArray[np.bool_]:
    """Return for each seed whether the largest recorded condition number is above `COLLAPSED`, or missing."""
    return ~(columns["largest_full"] <= COLLAPSED)


def _without_collapsed(columns: Columns) -> Columns:
    """Remove the seeds with a collapsed spectrum from the columns, as Table 13 does."""
    healthy = ~collapsed(columns)
    return {name: values[healthy] for name, values in columns.items()}


_LARGEST = chaotic("condition", largest, "largest_")
_CHAOTIC = (*chaotic("condition", at(LAST_STEP)), *_LARGEST)

condition = Claim(
    "S-condition",
    FAMILY,
    "Sec. 5.1, Table 13",
    (
        Line("sine, n = 64", "condition number of J between 2.6 and 6.5", "2.6-6.5", _NEAR_ISOTROPIC,
             sine("condition", at(LAST_STEP))),
        Line("Lorenz, n = 64", "the same on Lorenz, where the spectrum has not collapsed", "2.6-6.5",
             replace(_NEAR_ISOTROPIC, derive=_without_collapsed), _CHAOTIC),
        Line("Lorenz below sine", "lower on Lorenz than on the sine, where the spectrum has not collapsed", "below 1",
             replace(criteria.lower("full", "sine_full"), derive=_without_collapsed),
             (*_CHAOTIC, *sine("condition", at(LAST_STEP), prefix="sine_"))),
        Line("sine, n = 128", "the same with 128 units", "2.6-6.5", _NEAR_ISOTROPIC,
             sine("condition", at(LAST_STEP), 128)),
        Line("sine, n = 256", "the same with 256 units", "2.6-6.5", _NEAR_ISOTROPIC,
             sine("condition", at(LAST_STEP), 256)),
        Line("sine, at the shift", "2.9 at the shift point", "2.9", _number(2.9), sine("condition", at(SHIFT_STEP))),
        Line("sine, at the end", "3.9 at the end", "3.9", _number(3.9), sine("condition", at(LAST_STEP))),
        Line("sine, through training", "1.9-5.0 throughout, never near 10", "1.9-5.0",
             Interval(criteria.geometric("full"), -math.inf, math.log(DEGRADED), "largest condition number",
                      math.exp), sine("condition", largest)),
        Line("sine, effective rank", "95 % effective rank close to n", "close to 64",
             Interval(criteria.mean("full"), RANK_SHARE * 64, math.inf, "directions of 64", margin=0.05 * 64),
             sine("effective_rank", at(LAST_STEP))),
    ),
)  # fmt: skip

_TRACES = lorenz(64, TRACES)
_OWN = Cells(
    "paper/spectra-lorenz",
    "spectra_lorenz",
    (FULL,),
    {"hidden": 64},
    metric="mse_post_all",
    naive="persistence_post_all",
)


collapse = Claim(
    "S-collapse",
    FAMILY,
    "Sec. 5.1",
    (
        Line(
            "the same seeds",
            "on the Lorenz seeds where full RTRL fails, and only there, the condition number explodes",
            "2 of 5, the same",
            Agreement(above_traces, collapsed, f"full RTRL above traces against condition above {COLLAPSED:g}"),
            (_OWN, *_TRACES, *_LARGEST),
        ),
    ),
)  # fmt: skip

scale = Claim(
    "S-n256",
    FAMILY,
    "Sec. 4.6, Table 13",
    (
        Line(
            "better conditioned",
            "at n = 256 J is better conditioned than at n = 64",
            "below 1",
            criteria.lower("large_full", "full"),
            (*sine("condition", at(LAST_STEP)), *sine("condition", at(LAST_STEP), 256, "large_")),
        ),
    ),
)


def angle(metric: str, reduce: Reduce, *rows: Row) -> tuple[Cells, ...]:
    """Select cells and one of their arrays that compare gradients. `reduce` turns it into one number per cell."""
    return (Cells("paper/alignment", "alignment", rows, {"hidden": 64}, metric=metric, decay_0=DECAY_0, reduce=reduce),)


def _rise(columns: Columns) -> Array:
    """Compute the smallest increase of the mean cosine from one k to the next."""
    means = np.stack([columns[f"k{k}"].mean(-1) for k in ANGLES])
    result: Array = np.diff(means, axis=0).min(0)
    return result


cosine = Claim(
    "S-cosine",
    FAMILY,
    "Sec. 5.1",
    (
        Line("before the shift", "cosine of the k = 4 and full gradients is high", "lost (high)",
             Interval(criteria.mean("k4"), COSINE, math.inf, "cosine", margin=0.05), angle("cosine_all", before, K4)),
        Line("after the shift", "and stays so after the shift", "lost (high)",
             Interval(criteria.mean("k4"), COSINE, math.inf, "cosine", margin=0.05), angle("cosine_all", after, K4)),
        Line("grows with k", "it grows monotonically with k after the shift", "monotone",
             Interval(_rise, 0.0, math.inf, "smallest rise of the cosine", margin=0.05),
             angle("cosine_all", after, *(sparse(k, "ring") for k in ANGLES))),
    ),
)  # fmt: skip

magnitude = Claim(
    "S-magnitude",
    FAMILY,
    "Sec. 5.1, 5.6",
    (
        Line(
            "similar size",
            "k = 4 and full gradients are of similar size (median ratio)",
            "lost (about 1)",
            Interval(criteria.geometric("k4"), -math.log(criteria.COMPARABLE), math.log(criteria.COMPARABLE),
                     "ratio of norms", math.exp),
            angle("ratio_all", middle, K4),
        ),
    ),
)  # fmt: skip
