"""Experiment B: which rule decodes best across sessions, and at what cost, once each rule has its own learning rate?

Sweeps `transport/decoding` and `-full`, `-drawn`, `-adaptive`: 56 ordered pairs of eight recording sessions. The
number of a pair and rule is ln of the mean squared error late in session B (`mse_b_late`), averaged over seeds. A run
that diverged counts as A's mean, the trivial predictor.

A rule's learning rate on a pair is the one with the least mean ln error over the 30 pairs that share no session with
it. So no error is scored at a rate that its own recordings chose. The best trace has its decay chosen in the same
way. The queries do this.

A query has no row of a rule before all of its seeds and settings are done.

Units are pairs, which share sessions: `analysis.statistics.clusters`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from raysweep.analysis.claims.claim import Interval
from raysweep.analysis.statistics.clusters import FIRST, SECOND, over_pairs
from raysweep.analysis.statistics.inference import Array, Columns, Statistic
from raysweep.analysis.transport.question import Question

RULES_RUN, ADAPTIVE_RUN = "decoding_rules", "decoding_adaptive"
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
DECAYS = (0.0, 0.5, 0.8, 0.95)
ELSEWHERE = 30
"""Pairs of eight sessions that share no session with a given pair: 6 x 5."""
TENTH = 0.9
KEEPS = 70.0
"""Percent of full RTRL's gain over a floor that "most of it" means."""
EQUAL = 1.03
"""Factor up to which an error counts as equal, the +-3 % of the follow-up's test of equivalence."""
WIDTH = math.log(1.1)
"""Half-width of a zone with one end, for verdicts on the margin: effects of ten percent are at stake."""
POINTS = 10.0


class Rule(NamedTuple):
    """A rule of the experiment.

    Args:
        name: the rule, as tables print it.
        where: the SQL predicate that selects its cells.
        method: a learning rule's name in the registry.
        k: its k.
        settings: its settings that its cost depends on.
        tuned: the settings that are chosen on other pairs.
        seeds: the number of seeds.
    """

    name: str
    where: str
    method: str
    k: int | None = None
    settings: Mapping[str, Any] = MappingProxyType({})
    tuned: tuple[str, ...] = ("learning_rate",)
    seeds: int = 3

    @property
    def choices(self) -> int:
        """The number of settings of which one is chosen."""
        return len(RATES) * (len(DECAYS) if "decay" in self.tuned else 1)


RULES = {
    "none": Rule("decay 0", "method = 'traces' AND decay = 0", "traces", settings={"decay": 0.0}),
    "trace50": Rule("trace, decay .5", "method = 'traces' AND decay = 0.5", "traces"),
    "trace80": Rule("trace, decay .8", "method = 'traces' AND decay = 0.8", "traces"),
    "trace95": Rule("trace, decay .95", "method = 'traces' AND decay = 0.95", "traces"),
    "trace": Rule("best trace", "method = 'traces'", "traces", tuned=("learning_rate", "decay")),
    "rflo": Rule("RFLO, e-prop (random feedback)", "method = 'rflo'", "rflo", seeds=1),
    "snap": Rule("SnAp-1", "method = 'snap'", "snap", settings={"order": 1}),
    "ring4": Rule("k = 4", "method = 'sparse_rtrl' AND k = 4", "sparse_rtrl", 4),
    "ring16": Rule("k = 16", "method = 'sparse_rtrl' AND k = 16", "sparse_rtrl", 16),
    "bptt2": Rule("BPTT(2)", "method = 'bptt' AND \"window\" = 2", "bptt", settings={"window": 2}),
    "bptt5": Rule("BPTT(5)", "method = 'bptt' AND \"window\" = 5", "bptt", settings={"window": 5}),
    "bptt10": Rule("BPTT(10)", "method = 'bptt' AND \"window\" = 10", "bptt", settings={"window": 10}),
    "bptt20": Rule("BPTT(20)", "method = 'bptt' AND \"window\" = 20", "bptt", settings={"window": 20}),
    "uoro": Rule("UORO", "method = 'uoro'", "uoro", seeds=1),
    "kf": Rule("KF-RTRL", "method = 'kf_rtrl'", "kf_rtrl", seeds=1),
    "ok": Rule("OK, rank 4", "method = 'ok'", "ok", settings={"rank": 4}, seeds=1),
    "full": Rule("full RTRL", "method = 'rtrl'", "rtrl", 64),
}
"""Column -> rule, in the order of the table."""


class Baseline(NamedTuple):
    """A classical decoder: its name, the experiment and metric of its errors, and whether it is (2) and (3) of RLS."""

    name: str
    experiment: str
    metric: str
    recursive: bool = False


BASELINES = {
    "mean": Baseline("A's mean", RULES_RUN, "mean_b_late"),
    "ridge_a": Baseline("ridge fitted on A", RULES_RUN, "ridge_frozen_b_late"),
    "kalman_a": Baseline("Kalman filter fitted on A", RULES_RUN, "kalman_frozen_b_late"),
    "ridge": Baseline("ridge refitted on three minutes of B", RULES_RUN, "ridge_refit_b_late"),
    "online": Baseline("online ridge on A and B", ADAPTIVE_RUN, "online_ridge_b_late", recursive=True),
    "rls": Baseline("RLS, forgetting chosen on A", ADAPTIVE_RUN, "rls_b_late", recursive=True),
    "rls_best": Baseline("RLS, forgetting chosen in hindsight", ADAPTIVE_RUN, "rls_hindsight_b_late", recursive=True),
    "anew": Baseline("online ridge on B, from A's as a prior", ADAPTIVE_RUN, "anew_b_late", recursive=True),
    "kalman": Baseline("adaptive Kalman filter", ADAPTIVE_RUN, "kalman_adaptive_b_late"),
    "kalman_best": Baseline("adaptive Kalman filter, forgetting in hindsight", ADAPTIVE_RUN, "kalman_hindsight_b_late"),
}
"""Column -> classical decoder, in the order of the table. Recursion: `workloads.bci.recordings.adaptive`."""


def _scores(key: str) -> str:
    """Build the SQL of a rule's or baseline's ln error per pair and setting."""
    if key in BASELINES:
        baseline = BASELINES[key]
        setting, score, done = "[0.0]", f"ln({baseline.metric})", ""
        condition = f"experiment = '{baseline.experiment}'"
    else:
        rule = RULES[key]
        setting = f"[{', '.join(rule.tuned)}]"
        score, condition = (
            "ln(coalesce(CASE WHEN isfinite(mse_b_late) THEN mse_b_late END, mean_b_late))",
            f"experiment = '{RULES_RUN}' AND {rule.where}",
        )
        done = f" HAVING count(*) = {rule.seeds}"
    return (
        f"  SELECT '{key}' AS rule, session_a, session_b, {setting} AS setting, avg({score}) AS score\n"  # noqa: S608
        f"  FROM cells WHERE {condition} AND status = 'done' GROUP BY ALL{done}"
    )


def _chosen(keys: tuple[str, ...]) -> str:
    """Build the SQL that ends in the table `chosen`: of each pair and rule the setting chosen on other pairs."""
    runs = "\n  UNION ALL\n".join(_scores(key) for key in keys)
    choices = " ".join(f"WHEN '{key}' THEN {RULES[key].choices if key in RULES else 1}" for key in keys)
    return f"""WITH runs AS (
{runs}),
elsewhere AS (
  SELECT own.rule, own.session_a, own.session_b, own.setting, own.score, avg(other.score) AS elsewhere
  FROM runs AS own JOIN runs AS other USING (rule, setting)
  WHERE NOT list_has_any([own.session_a, own.session_b], [other.session_a, other.session_b])
  GROUP BY ALL HAVING count(*) = {ELSEWHERE}),
chosen AS (
  SELECT * FROM elsewhere
  QUALIFY count(*) OVER (PARTITION BY rule, session_a, session_b) = CASE rule {choices} END
    AND row_number() OVER (PARTITION BY rule, session_a, session_b ORDER BY elsewhere, setting) = 1)
"""  # noqa: S608 - all parts are ours


def query_of(*keys: str) -> str:
    """Build the SQL: one row per pair that has all these rules, with its sessions as numbers and ln of each error."""
    columns = ",\n  ".join(f"max(score) FILTER (rule = '{key}') AS \"{key}\"" for key in keys)
    chosen = _chosen(keys)
    return f"""{chosen}SELECT session_a || ' > ' || session_b AS unit,
  replace(session_a, '_', '')::BIGINT AS {FIRST}, replace(session_b, '_', '')::BIGINT AS {SECOND},
  {columns}
FROM chosen GROUP BY ALL HAVING count(*) = {len(keys)} ORDER BY ALL"""  # noqa: S608 - all parts are ours


def settings_of(*keys: str) -> str:
    """Build the SQL: how many pairs have which setting chosen. Columns: rule, setting, pairs."""
    return (
        f"{_chosen(keys)}SELECT rule, setting, count(*) AS pairs FROM chosen "  # noqa: S608 - all parts are ours
        "GROUP BY ALL ORDER BY rule, pairs DESC, setting"
    )


def ratio(above: str, below: str) -> Statistic:
    """Build the statistic: the mean over pairs of ln(above / below), from columns of ln error."""
    return lambda columns: (columns[above] - columns[below]).mean(-1)


def recovery(key: str, floor: str) -> Statistic:
    """Build the statistic: how much of full RTRL's gain over a floor a rule keeps, in percent, as a ratio of means."""

    def statistic(columns: Columns) -> Array:
        result: Array = 100 * ratio(floor, key)(columns) / ratio(floor, "full")(columns)
        return result

    return statistic


_INF = math.inf


def _ratio(name: str, words: str, above: str, below: str, low: float, high: float) -> Question:
    least = math.log(low) if low else -_INF
    criterion = Interval(
        ratio(above, below), least, math.log(high), "ratio", to_reader=math.exp, margin=WIDTH, estimator=over_pairs
    )
    return Question(name, words, query_of(above, below), criterion)


def _keeps(name: str, words: str, key: str, floor: str) -> Question:
    criterion = Interval(
        recovery(key, floor),
        KEEPS,
        _INF,
        "% of the gain",
        undefined="full RTRL gains nothing over the floor",
        margin=POINTS,
        premise=ratio(floor, "full"),
        estimator=over_pairs,
    )
    return Question(name, words, query_of(key, floor, "full"), criterion)


QUESTIONS = (
    _ratio("B1", "Is full RTRL's error at least 10 % below that of decay 0, which propagates nothing?",
           "full", "none", 0, TENTH),
    _ratio("B2", "Is k = 4's error below decay 0's?", "ring4", "none", 0, 1),
    _ratio("B3", "Is k = 4's error below that of the best trace?", "ring4", "trace", 0, 1),
    _keeps("B4", "Does k = 4 keep at least 70 % of what full RTRL gains over the best trace (the paper: redundant)?",
           "ring4", "trace"),
    _keeps("B5", "Does k = 16 keep at least 70 % of what full RTRL gains over the best trace?", "ring16", "trace"),
    _keeps("B6", "Does k = 4 keep at least 70 % of what full RTRL gains over decay .95, the paper's floor?",
           "ring4", "trace95"),
    _ratio("B7", "Is BPTT over 5 steps within 3 % of full RTRL?", "bptt5", "full", 1 / EQUAL, EQUAL),
    _ratio("B8", "Is BPTT over 5 steps, 1/32 of the multiply-adds, no worse than k = 4 (by at most 3 %)?",
           "bptt5", "ring4", 0, EQUAL),
    _ratio("B9", "Is BPTT over 2 steps, 1/80 of the multiply-adds, no worse than k = 4 (by at most 3 %)?",
           "bptt2", "ring4", 0, EQUAL),
    _ratio("B10", "Is SnAp-1, 1/256 of the multiply-adds, no worse than k = 4 (by at most 3 %)?",
           "snap", "ring4", 0, EQUAL),
    _ratio("B11", "Is UORO no worse than k = 4 (by at most 3 %)?", "uoro", "ring4", 0, EQUAL),
    _ratio("B12", "Is OK of rank 4 no worse than k = 4 (by at most 3 %)?", "ok", "ring4", 0, EQUAL),
    _ratio("B13", "Is decay 0 within 3 % of full RTRL (the follow-up)?", "none", "full", 1 / EQUAL, EQUAL),
    _ratio("B14", "Is the best trace within 3 % of full RTRL?", "trace", "full", 1 / EQUAL, EQUAL),
    _ratio("B15", "Is full RTRL's error below that of a ridge refitted on three minutes of B?", "full", "ridge", 0, 1),
    _ratio("B16", "Is k = 4's error below that of a ridge refitted on three minutes of B?", "ring4", "ridge", 0, 1),
    _ratio("B17", "Is full RTRL's error below that of adaptive recursive least squares?", "full", "rls", 0, 1),
    _ratio("B18", "Is BPTT(5)'s error below that of adaptive recursive least squares?", "bptt5", "rls", 0, 1),
    _ratio("B19", "Is BPTT(5)'s error below that of the adaptive Kalman filter?", "bptt5", "kalman", 0, 1),
    _ratio("B20", "Is BPTT(5)'s error below that of an online ridge on B that starts from A's as a prior?",
           "bptt5", "anew", 0, 1),
)  # fmt: skip
"""B1 to B20, fixed before the first scored cell."""


def complete(columns: Columns) -> list[str]:
    """Return the rules and baselines that every pair has a number of."""
    return [key for key in (*RULES, *BASELINES) if key in columns and bool(np.isfinite(columns[key]).all())]
