"""Experiment 2: the Lorenz system, a sine of four regimes, and UORO on both (Sec. 4.2, Tables 4 and 5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raysweep.analysis.cells.methods import FULL, K4, TRACES, UORO, Row
from raysweep.analysis.claims import criteria
from raysweep.analysis.claims.claim import Cells, Claim, Line, Share, scored_cells
from raysweep.analysis.paper.samples import per_seed
from raysweep.analysis.statistics.inference import Columns

FAMILY = "chaos"
MULTI_SINE_CV = 7.1
"""Coefficient of variation in percent of Table 5's five full RTRL runs (.0022, .0019, .0020, .0020, .0023)."""


def lorenz(hidden: int, *rows: Row, prefix: str = "") -> tuple[Cells, ...]:
    """Select Table 4's cells with `hidden` units, and the MSE over all steps after the shift."""
    return (scored_cells("paper/e2-lorenz", "lorenz", "post_all", rows, {"hidden": hidden}, prefix=prefix),)


def multi_sine(*rows: Row) -> tuple[Cells, ...]:
    """Select Table 5's cells, and the MSE over the last 200 steps before the second shift."""
    return (scored_cells("paper/e2-multisine", "multi_sine", "seg2_last_200", rows, {"hidden": 64}),)


def above_traces(columns: Columns) -> NDArray[np.bool_]:
    """Return for each seed whether full RTRL has a larger MSE than traces; a diverged run (nan) counts as larger."""
    return ~(columns["full"] <= columns[TRACES.key])


def _twice_k4(columns: Columns) -> str:
    count = int((~(columns["full"] <= 2 * columns["k4"])).sum())
    return f"full RTRL above twice k = 4's MSE on {count} of {columns['full'].size}"


LORENZ = {hidden: per_seed("table04", {"k4": f"n{hidden}/k4", "full": f"n{hidden}/full"}) for hidden in (64, 128)}
MULTI_SINE = per_seed("table05", {TRACES.key: TRACES.key, "k4": "k4", "full": "full"})


def spread_of(sample: Columns, key: str) -> float:
    """Compute the sample standard deviation over seeds of ln MSE in column `key`."""
    return float(np.log(sample[key]).std(ddof=1))


def spread_line(part: str, words: str, cv: str, key: str, sample: Columns, cells: tuple[Cells, ...]) -> Line:
    """Build a claim's line on how much the MSE of a row of cells varies over seeds.

    Args:
        part: the line's name.
        words: the paper's statement, without the number.
        cv: the paper's coefficient of variation, in percent.
        key: the row's column.
        sample: the MSEs of the paper's own seeds.
        cells: the cells that the line reads.
    """
    sd = spread_of(sample, key)
    text = f"CV {cv} % (sd of ln MSE {sd:.2f})"
    return Line(part, f"{words}: CV {cv} %", text, criteria.spread_level(key, sd), cells, sample=sample)


def _lorenz_lines(hidden: int, k4: float, k4_cv: float, full_cv: float, failing: int, words: str) -> tuple[Line, ...]:
    sample = LORENZ[hidden]
    return (
        Line(f"level, k = 4, n = {hidden}", "MSE at k = 4", f"{k4:g}", criteria.mse_level("k4", k4),
             lorenz(hidden, K4), sample=sample),
        spread_line("spread, k = 4", "k = 4 is tight over seeds", f"{k4_cv:g}", "k4", sample, lorenz(hidden, K4)),
        spread_line("spread, full", "full RTRL is not", f"{full_cv:g}", "full", sample, lorenz(hidden, FULL)),
        Line("more stable", "k = 4 is more stable than full RTRL", f"{full_cv / k4_cv:.2g} (ratio of CVs)",
             criteria.more_stable("k4", "full"), lorenz(hidden, K4, FULL), sample=sample),
        Line("full fails on some seeds", words, f"{failing} of 5", Share(above_traces, failing / 5),
             lorenz(hidden, TRACES, FULL), _twice_k4, lorenz(hidden, K4, FULL)),
    )  # fmt: skip


lorenz64 = Claim(
    "E2-lorenz64",
    FAMILY,
    "Sec. 4.2, Table 4",
    _lorenz_lines(64, 0.015, 13, 88, 2, "full RTRL ends above traces on 2 of 5 seeds"),
)
lorenz128 = Claim(
    "E2-lorenz128",
    FAMILY,
    "Sec. 4.2, Table 4",
    (
        *_lorenz_lines(128, 0.0164, 8, 161, 3, "full RTRL fails (ends above traces) on 3 of 5 seeds"),
        Line("as with 64 units", "k = 4 is nearly as good with 128 units as with 64", "0.0164 against 0.015",
             criteria.comparable("large_k4", "k4"), (*lorenz(64, K4), *lorenz(128, K4, prefix="large_")),
             sample={"k4": LORENZ[64]["k4"], "large_k4": LORENZ[128]["k4"]}),
    ),
)  # fmt: skip

multisine = Claim(
    "E2-multisine",
    FAMILY,
    "Sec. 4.2, Table 5",
    (
        Line(
            "level, k = 4",
            "k = 4 recovers 80 % at the first shift point",
            "80 (69, 85, 93, 65, 89)",
            criteria.recovery_level("k4", TRACES.key, "full", 80),
            multi_sine(TRACES, K4, FULL),
            sample=MULTI_SINE,
        ),
        spread_line("spread, full", "where nothing is chaotic full RTRL is stable", f"{MULTI_SINE_CV:g}", "full",
                    MULTI_SINE, multi_sine(FULL)),
    ),
)  # fmt: skip

_WORDS = "UORO has the lowest MSE on Lorenz: lower than"
uoro = Claim(
    "E2-uoro",
    FAMILY,
    "Sec. 4.2",
    (
        Line("Lorenz, below k = 4", f"{_WORDS} k = 4", "best", criteria.lower("uoro", "k4"), lorenz(64, K4, UORO)),
        Line("Lorenz, below full", f"{_WORDS} full RTRL", "best", criteria.lower("uoro", "full"),
             lorenz(64, FULL, UORO)),
        Line("Lorenz, below traces", f"{_WORDS} traces", "best", criteria.lower("uoro", TRACES.key),
             lorenz(64, TRACES, UORO)),
        Line("multi-sine, ten times k = 4", "on multi-sine UORO is ten times worse than k = 4", "10",
             criteria.orders("uoro", "k4", 1), multi_sine(K4, UORO)),
    ),
)  # fmt: skip
