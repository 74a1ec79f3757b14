"""Experiment C: in which share of plausible protocols do the claims of Experiments 1 to 3 hold?

The paper leaves gain, scale of the inputs and phase open. `transport/multiverse-sine` crosses them with eight pairs of
optimiser and rate (96 protocols), `transport/multiverse-lorenz` without the phase (48). The protocols are fixed, seeds
are resampled. In each protocol a claim holds if its point estimate lies in the claim's zone, which is that of
`docs/verdicts.md`. The statistic of a question is the share of the protocols in which it does.

A diverged run counts as the better of the stream's trivial predictors: persistence and the best constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl

from raysweep.analysis.claims.claim import Interval
from raysweep.analysis.claims.criteria import COMPARABLE, HALF, NEAR, POINTS
from raysweep.analysis.statistics.inference import Array, Columns, Statistic, estimate
from raysweep.analysis.transport.question import Question, columns_of, rows_of

SINE, LORENZ = "multiverse_sine", "multiverse_lorenz"
ROUNDING = "multiverse_rounding"
METRICS = {SINE: "mse_post_last_500", LORENZ: "mse_post_all"}
AXES = {
    SINE: ("recurrent_scale", "input_scale", "optimizer", "learning_rate", "phase"),
    LORENZ: ("recurrent_scale", "input_scale", "optimizer", "learning_rate"),
}
"""Experiment -> the settings whose combinations are its protocols."""
ORDERS = math.sqrt(1000.0)
"""The factor from which on the paper's two orders of magnitude count as two."""
PROTOCOLS = {SINE: 96, LORENZ: 48}
SEEDS = 60
MOST = 0.9
"""Share of the protocols in which a claim must hold to hold in general."""
ROWS = {
    "trace": "method = 'traces' AND decay = 0.95",
    "none": "method = 'traces' AND decay = 0",
    "ring": "k = 4 AND selection = 'ring'",
    "random": "selection = 'random'",
    "oracle": "selection = 'oracle'",
    "anti": "selection = 'anti_oracle'",
    "sixteen": "k = 16 AND selection = 'ring'",
    "window": "method = 'bptt'",
    "uoro": "method = 'uoro'",
    "full": "method = 'rtrl'",
}
"""Column -> the rule whose ln MSE it has: k = 4 but for `sixteen`; `window` is BPTT over ten steps."""


class Claim(NamedTuple):
    """A claim that holds in a protocol or does not.

    Args:
        words: the claim, as the end of a sentence that begins with `In at least 90 % of the protocols`.
        rows: the keys of `ROWS` that it reads, besides `naive` (ln MSE of the better trivial predictor).
        number: computes the claim's number from columns of ln MSE, whose last axis is seeds.
        low: the zone's lower end.
        high: the zone's upper end.
        unit: the unit of the number, after `to_reader`.
        to_reader: converts the number to the reported scale.
    """

    words: str
    rows: tuple[str, ...]
    number: Statistic
    low: float
    high: float
    unit: str
    to_reader: Callable[[float], float] = math.exp


def ratio(above: str, below: str) -> Statistic:
    """Build the statistic: the mean over seeds of ln(above / below), from columns of ln MSE."""
    return lambda columns: (columns[above] - columns[below]).mean(-1)


def recovery(key: str) -> Statistic:
    """Build the statistic: the recovery of Eq. 10 in percent, as a ratio of means over seeds.

    It is nan where full RTRL is no better than the trace of decay .95, as there is nothing to recover.
    """

    def statistic(columns: Columns) -> Array:
        gap = (columns["trace"] - columns["full"]).mean(-1)
        gain = (columns["trace"] - columns[key]).mean(-1)
        result: Array = np.where(gap > 0, 100 * gain / np.where(gap > 0, gap, 1.0), np.nan)
        return result

    return statistic


def difference(first: Statistic, second: Statistic) -> Statistic:
    """Build the statistic: the difference of two statistics."""
    return lambda columns: first(columns) - second(columns)


def farthest(keys: tuple[str, ...], centre: str) -> Statistic:
    """Build the statistic: the largest |mean over seeds of ln(row / centre)| among some rows."""

    def statistic(columns: Columns) -> Array:
        result: Array = np.stack([np.abs(ratio(key, centre)(columns)) for key in keys]).max(0)
        return result

    return statistic


def spread(above: str, below: str) -> Statistic:
    """Build the statistic: ln of the ratio of two standard deviations of ln MSE over seeds."""

    def statistic(columns: Columns) -> Array:
        sds = [columns[key].std(-1, ddof=1) for key in (above, below)]
        with np.errstate(divide="ignore"):
            result: Array = np.log(sds[0]) - np.log(sds[1])
        return result

    return statistic


_INF = math.inf
_NEAR, _COMPARABLE, _ORDERS = math.log(NEAR), math.log(COMPARABLE), math.log(ORDERS)
_SELECTED = ("random", "oracle", "anti")

CLAIMS: dict[str, tuple[Claim, ...]] = {
    SINE: (
        Claim("traces of decay .95 have at least 31.6 times the error of k = 4 (the paper: two orders)",
              ("trace", "ring"), ratio("trace", "ring"), _ORDERS, _INF, "ratio"),
        Claim("k = 4 recovers at least half of what full RTRL gains over traces of decay .95 (the paper: 84 %)",
              ("trace", "ring", "full"), recovery("ring"), HALF, _INF, "recovery %", float),
        Claim("the recoveries of k = 16 and k = 4 differ by at most ten points (the paper: flat)",
              ("trace", "ring", "sixteen", "full"), difference(recovery("sixteen"), recovery("ring")),
              -POINTS, POINTS, "points", float),
        Claim("k = 4 is within a factor of three of full RTRL (the paper)",
              ("ring", "full"), ratio("ring", "full"), -_NEAR, _NEAR, "ratio"),
        Claim("random, largest and smallest weights are within a factor 1.5 of the ring (the paper: no selection wins)",
              ("ring", *_SELECTED), farthest(_SELECTED, "ring"), -_INF, _COMPARABLE, "largest ratio"),
        Claim("traces of decay 0, which propagate nothing, are at most 1.5 times k = 4's error",
              ("none", "ring"), ratio("none", "ring"), -_INF, _COMPARABLE, "ratio"),
        Claim("traces of decay 0 are at most 1.5 times full RTRL's error (the follow-up)",
              ("none", "full"), ratio("none", "full"), -_INF, _COMPARABLE, "ratio"),
        Claim("traces of decay .95 have at least 31.6 times the error of decay 0 (the follow-up)",
              ("trace", "none"), ratio("trace", "none"), _ORDERS, _INF, "ratio"),
        Claim("BPTT over ten steps is at most 1.5 times k = 4's error",
              ("window", "ring"), ratio("window", "ring"), -_INF, _COMPARABLE, "ratio"),
        Claim("k = 4 varies less over seeds than full RTRL (the paper, of Lorenz)",
              ("full", "ring"), spread("full", "ring"), 0.0, _INF, "ratio of sds of ln MSE"),
        Claim("k = 4 is better than persistence and the best constant",
              ("ring",), ratio("ring", "naive"), -_INF, 0.0, "ratio"),
    ),
    LORENZ: (
        Claim("k = 4 recovers at least half of what full RTRL gains over traces of decay .95",
              ("trace", "ring", "full"), recovery("ring"), HALF, _INF, "recovery %", float),
        Claim("k = 4 varies less over seeds than full RTRL (the paper)",
              ("full", "ring"), spread("full", "ring"), 0.0, _INF, "ratio of sds of ln MSE"),
        Claim("random, largest and smallest weights are within a factor 1.5 of the ring (the paper)",
              ("ring", *_SELECTED), farthest(_SELECTED, "ring"), -_INF, _COMPARABLE, "largest ratio"),
        Claim("UORO has a lower error than k = 4 (the paper)",
              ("uoro", "ring"), ratio("uoro", "ring"), -_INF, 0.0, "ratio"),
        Claim("traces of decay 0 are at most 1.5 times full RTRL's error (the follow-up)",
              ("none", "full"), ratio("none", "full"), -_INF, _COMPARABLE, "ratio"),
        Claim("traces of decay 0 are at most 1.5 times k = 4's error",
              ("none", "ring"), ratio("none", "ring"), -_INF, _COMPARABLE, "ratio"),
        Claim("BPTT over ten steps is at most 1.5 times k = 4's error",
              ("window", "ring"), ratio("window", "ring"), -_INF, _COMPARABLE, "ratio"),
        Claim("k = 4 is better than persistence and the best constant",
              ("ring",), ratio("ring", "naive"), -_INF, 0.0, "ratio"),
    ),
}  # fmt: skip


def _naive(experiment: str) -> str:
    steps = METRICS[experiment].removeprefix("mse_")
    return f"least(persistence_{steps}, constant_{steps})"


def _ln_error(experiment: str) -> str:
    error = METRICS[experiment]
    return f"ln(coalesce(CASE WHEN isfinite({error}) THEN {error} END, {_naive(experiment)}))"


def query_of(experiment: str, rows: tuple[str, ...]) -> str:
    """Build the SQL of an experiment: ln MSE of some rows, one line per seed (`unit`) and protocol (`part`).

    It has no line before all seeds of all protocols are done.
    """
    protocol = " || ' ' || ".join(AXES[experiment])
    columns = [
        *(f"max({_ln_error(experiment)}) FILTER ({ROWS[row]}) AS {row}" for row in rows),
        f"max(ln({_naive(experiment)})) AS naive",
    ]
    own = " OR ".join(ROWS[row] for row in rows)
    return (
        f"SELECT seed AS unit, {protocol} AS part,\n  "
        + ",\n  ".join(columns)
        + f"\nFROM cells WHERE experiment = '{experiment}' AND status = 'done' AND ({own})\n"
        f"GROUP BY 1, 2 HAVING count(*) = {len(rows)}\n"
        f"QUALIFY count(*) OVER () = {PROTOCOLS[experiment] * SEEDS} ORDER BY ALL"
    )


def by_protocol(columns: Columns) -> dict[str, dict[str, Array]]:
    """Divide columns such as `ring 0.3 0.1 adam 0.001 jump` by protocol: protocol -> row -> values."""
    protocols: dict[str, dict[str, Array]] = {}
    for name, values in columns.items():
        row, _, protocol = name.partition(" ")
        protocols.setdefault(protocol, {})[row] = values
    return protocols


def holds(claim: Claim, number: Array) -> Array:
    """Return 1.0 where a claim's number lies in its zone, otherwise, or if it is nan, 0.0."""
    result: Array = ((claim.low <= number) & (number <= claim.high)).astype(np.float64)
    return result


def share(claim: Claim) -> Statistic:
    """Build the statistic: the share of the protocols in which the claim's number lies in its zone."""

    def statistic(columns: Columns) -> Array:
        inside = [holds(claim, claim.number(own)) for own in by_protocol(columns).values()]
        result: Array = np.stack(inside).mean(0)
        return result

    return statistic


def _share_of_all(value: float) -> float:
    """Cut an end of an interval to what a share can be."""
    return min(1.0, max(0.0, value))


def _questions() -> tuple[Question, ...]:
    questions: list[Question] = []
    for experiment, claims in CLAIMS.items():
        count, stream = PROTOCOLS[experiment], "sine" if experiment == SINE else "Lorenz system"
        for claim in claims:
            questions.append(
                Question(
                    f"C{len(questions) + 1}",
                    f"In at least 90 % of the {count} protocols of the {stream}: {claim.words}?",
                    query_of(experiment, claim.rows),
                    Interval(share(claim), MOST, math.inf, "share of protocols", _share_of_all, margin=0.1),
                )
            )
    return tuple(questions)


QUESTIONS = _questions()
"""C1 to C19, in the order of `CLAIMS`."""


def curve(experiment: str, claim: Claim, cells: pl.DataFrame) -> pl.DataFrame:
    """Compute the specification curve of a claim: its number and interval in each protocol, in ascending order.

    Columns: protocol, value, lower, upper (in the reported scale; null if there is no number), verdict (`holds`,
    `fails` or `open`, by the 95 % interval).
    """
    _, columns = columns_of(rows_of(query_of(experiment, claim.rows), cells))
    rows = []
    for protocol, own in by_protocol(columns).items():
        result = estimate(claim.number, own)
        lower, upper = result.interval()
        inside = claim.low <= lower and upper <= claim.high
        outside = math.isnan(result.value) or upper < claim.low or lower > claim.high
        verdict = "holds" if inside else "fails" if outside else "open"
        ends = [claim.to_reader(end) if math.isfinite(end) else None for end in (result.value, lower, upper)]
        rows.append((protocol, *ends, verdict))
    schema = {
        "protocol": pl.String,
        "value": pl.Float64,
        "lower": pl.Float64,
        "upper": pl.Float64,
        "verdict": pl.String,
    }
    return pl.DataFrame(rows, schema, orient="row").sort("value", nulls_last=True, maintain_order=True)


def variances(cells: pl.DataFrame) -> pl.DataFrame:
    """Decompose the variance of ln MSE on the sine into protocol, seed and rounding.

    With y[p, s, r] of P protocols, S seeds and two roundings r: rounding is half of the mean square of the difference
    of the two; seed is the mean variance over seeds within a protocol, less rounding; protocol is the variance of the
    protocols' means, less what seeds and rounding leave in them. None is taken below 0.

    Columns: row, protocol, seed, rounding (variances), seeds (their number). Rows: traces of decay .95 and 0, k = 4,
    full RTRL.
    """
    rows = []
    for row in ("trace", "none", "ring", "full"):
        first, again = (rows_of(_of_row(experiment, row), cells) for experiment in (SINE, ROUNDING))
        both = first.join(again, on=["seed", "protocol"], suffix="_again")
        if both.is_empty():
            continue
        rounding = float(np.mean((both["value"].to_numpy() - both["value_again"].to_numpy()) ** 2)) / 2
        by_seed = first.pivot("protocol", index="seed", values="value").drop("seed").to_numpy()
        within = float(by_seed.var(0, ddof=1).mean())
        between = float(by_seed.mean(0).var(ddof=1)) - within / len(by_seed)
        rows.append((row, max(0.0, between), max(0.0, within - rounding), rounding, len(by_seed)))
    schema = {"row": pl.String, "protocol": pl.Float64, "seed": pl.Float64, "rounding": pl.Float64, "seeds": pl.Int64}
    return pl.DataFrame(rows, schema, orient="row")


def _of_row(experiment: str, row: str) -> str:
    protocol = " || ' ' || ".join(AXES[SINE])
    return (
        f"SELECT seed, {protocol} AS protocol, {_ln_error(SINE)} AS value "  # noqa: S608 - all parts are ours
        f"FROM cells WHERE experiment = '{experiment}' AND status = 'done' AND {ROWS[row]} ORDER BY ALL"
    )
