"""Experiment A: at which lag, and for which networks, is carrying k of n paths worth it?

One symbol of eight is shown, and listed for `lag` steps later (the copy task with length 1). Every rule is run at seven
rates on five tuning seeds. The rate with the best mean accuracy is chosen, the lower one of equals, for each network,
lag and rule. It alone is run on thirty other seeds, which are scored.

- Accuracy is that of the last 500 of 2,000 sequences. A diverged run has chance, 1/8.
- The floor is the best trace, over decays too: nothing is carried along paths. The ceiling is full RTRL.
- The recovery of a rule is (rule - floor) / (ceiling - floor), a ratio of means over the scored seeds. It has a meaning
  only where the ceiling is more than `GAP` above the floor.
- k50 is the k from which on the recovery is at least one half, interpolated in ln k.

A query chooses the rates itself, in its table `chosen`. It has no row before all of its tuning and scored cells are
done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from raysweep.analysis.claims.claim import Interval
from raysweep.analysis.claims.criteria import HALF
from raysweep.analysis.statistics.inference import Array, Columns, Statistic
from raysweep.analysis.transport.question import Question, rows_of

DIAGRAM = "diagram"
SWEEPS = tuple(
    f"transport/diagram-{name}"
    for name in (
        *("tanh-64", "tanh-32", "tanh-128", "rules-64", "gru-64", "lstm-64"),
        *("gru-32", "gru-128", "lstm-32", "lstm-128", "ceilings-64", "sparse-32"),
    )
)
"""Its sweeps, in the order in which they are run. Each is of use without the later ones."""
TUNING, SCORED = range(6000, 6005), range(6100, 6130)
"""The seeds on which a rate is chosen, and those that are scored."""
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
DECAYS = (0.0, 0.3, 0.5, 0.8, 0.95)
LAGS = (1, 4, 9, 19, 39)
SIZES = (32, 64, 128)
TANH, GRU, LSTM = "tanh_rnn", "gru_reset_after", "lstm"
NETWORKS = {TANH: "tanh RNN", GRU: "GRU", LSTM: "LSTM"}
SPARSE = "sparse_tanh_rnn"
GAP = 0.05
"""Accuracies that differ by less are taken as equal: the margin of the ledger."""
REDUNDANT, MOSTLY_LOST = 70.0, 30.0
"""Recoveries, in percent, from which on the left-out paths were redundant, and up to which they were needed."""
LAW = 0.3
"""Half of the width of the zones of an exponent: 0 (an absolute k) and 1 (a fraction of n)."""
ACCURACY = (
    "coalesce(CASE WHEN isfinite(accuracy_all_last_500) THEN accuracy_all_last_500 END, chance_accuracy_all_last_500)"
)

RULES = {
    "floor": "method = 'traces'",
    "decay0": "method = 'traces' AND decay = 0",
    "full": "method = 'rtrl'",
    "k4": "k = 4 AND selection = 'ring'",
    "random4": "k = 4 AND selection = 'random'",
    "oracle4": "k = 4 AND selection = 'oracle'",
    "reaching": "method = 'bptt' AND \"window\" = lag + 1",
    "half": "method = 'bptt' AND \"window\" = (lag + 1) // 2",
    "eprop": "method = 'eprop'",
    "snap": "method = 'snap' AND \"order\" = 1",
    "snap2": "method = 'snap' AND \"order\" = 2",
    "larger": "k = 2 AND selection = 'oracle'",
    "uoro": "method = 'uoro'",
    "ok": "method = 'ok'",
    "kf_rtrl": "method = 'kf_rtrl'",
    "pp_prop": "method = 'pp_prop'",
    "elstm": "architecture = 'elstm'",
    "lru": "architecture = 'lru'",
}
"""Name in a query -> the cells. `floor` has several decays, of which one is chosen."""
LADDER = "selection = 'ring' OR (selection = 'random' AND k = 1)"
"""The cells of sparse RTRL at every k. A ring has no k = 1."""


class Task(NamedTuple):
    """A copy task: the experiment of its cells, its lags, and what a question says of it."""

    experiment: str
    lags: tuple[int, ...]
    words: str = ""


ONE_SYMBOL = Task(DIAGRAM, LAGS)


class Setting(NamedTuple):
    """A network and lags to which a question belongs; `by` is the column that tells the parts of a query apart."""

    architecture: str
    sizes: tuple[int, ...]
    lags: tuple[int, ...]
    by: str | None = None
    task: Task = ONE_SYMBOL


def ladder(n: int) -> tuple[int, ...]:
    """Return the k below n at which sparse RTRL is run: the powers of two, and three quarters of n."""
    return tuple(sorted({2**i for i in range(7) if 2**i < n} | {3 * n // 4}))


def query_of(setting: Setting, rules: tuple[str, ...], *, all_k: bool = False) -> str:
    """Build the SQL of a question: accuracies at the chosen rates, one line per scored seed (`unit`) and `part`.

    A part is a rule, such as `floor`, followed by the value of `setting.by` if there is one. With `all_k` each k of
    sparse RTRL is a rule, such as `k4`.
    """
    labels = [f"WHEN {RULES[rule]} THEN '{rule}'" for rule in rules]
    labels += [f"WHEN {LADDER} THEN 'k' || k"] if all_k else []
    suffix = f" || ' ' || {setting.by}" if setting.by else ""
    others = tuple(rule for rule in rules if rule in ("elstm", "lru"))
    networks = ", ".join(f"'{name}'" for name in (setting.architecture, *others))
    groups = {"hidden": len(setting.sizes), "lag": len(setting.lags), None: 1}[setting.by]
    parts = groups * len(rules) + (sum(len(ladder(n)) for n in setting.sizes) if all_k else 0)
    indent = "\n      "
    return f"""WITH runs AS (
  SELECT seed, learning_rate, coalesce(decay, 0) AS decay, {ACCURACY} AS accuracy,
    CASE
      {indent.join(labels)}
    END{suffix} AS part
  FROM (SELECT *, length + delay AS lag FROM cells)
  WHERE experiment = '{setting.task.experiment}' AND status = 'done' AND architecture IN ({networks})
    AND hidden IN ({", ".join(map(str, setting.sizes))}) AND lag IN ({", ".join(map(str, setting.lags))})
), chosen AS (
  SELECT part, learning_rate, decay FROM runs
  WHERE part IS NOT NULL AND seed BETWEEN {TUNING[0]} AND {TUNING[-1]}
  GROUP BY part, learning_rate, decay HAVING count(*) = {len(TUNING)}
  QUALIFY count(*) OVER (PARTITION BY part) = CASE WHEN part LIKE 'floor%' THEN {len(RATES) * len(DECAYS)} \
ELSE {len(RATES)} END
    AND 1 = row_number() OVER (PARTITION BY part ORDER BY round(avg(accuracy), 9) DESC, learning_rate, decay)
)
SELECT seed AS unit, part, accuracy FROM runs JOIN chosen USING (part, learning_rate, decay)
WHERE seed BETWEEN {SCORED[0]} AND {SCORED[-1]}
QUALIFY count(*) OVER () = {parts * len(SCORED)} ORDER BY ALL"""  # noqa: S608 - all parts are ours


def mean(columns: Columns, rule: str, group: object = "") -> Array:
    """Compute a rule's mean accuracy over the seeds, in a part of the query."""
    result: Array = columns[f"accuracy {rule} {group}".strip()].mean(-1)
    return result


def level(rule: str) -> Statistic:
    """Build the statistic: a rule's mean accuracy."""
    return lambda columns: mean(columns, rule)


def difference(rule: str, other: str) -> Statistic:
    """Build the statistic: by how much a rule's mean accuracy is above another's."""
    return lambda columns: mean(columns, rule) - mean(columns, other)


def farthest(pairs: tuple[tuple[str, str, object], ...]) -> Statistic:
    """Build the statistic: the largest |difference| of the mean accuracies of two rules, over (rule, other, group)."""

    def statistic(columns: Columns) -> Array:
        gaps = [np.abs(mean(columns, rule, group) - mean(columns, other, group)) for rule, other, group in pairs]
        result: Array = np.stack(gaps).max(0)
        return result

    return statistic


def recovery_of(columns: Columns, rule: str, group: object = "") -> Array:
    """Compute a rule's recovery in percent, a ratio of means; nan where the ceiling is not above the floor."""
    floor, full = mean(columns, "floor", group), mean(columns, "full", group)
    gap = full - floor
    result: Array = np.where(gap > 0, 100 * (mean(columns, rule, group) - floor) / np.where(gap > 0, gap, 1.0), np.nan)
    return result


def recovery(rule: str) -> Statistic:
    """Build the statistic: `recovery_of` a rule."""
    return lambda columns: recovery_of(columns, rule)


def ln_k50(columns: Columns, n: int, group: object = "") -> Array:
    """Compute ln k50, where k50 is the k from which on the recovery is at least one half.

    Between the last k whose recovery is below one half and the next one it is interpolated in ln k. It is 1 if no k is
    below one half; full RTRL, at k = n, has recovered all. nan where the ceiling is not above the floor.
    """
    sources = (*ladder(n), n)
    recoveries = [recovery_of(columns, "full" if k == n else f"k{k}", group) for k in sources]
    result = np.where(np.isnan(recoveries[-1]), np.nan, 0.0)
    for i in range(len(sources) - 1):  # later crossings replace earlier ones
        before, after = recoveries[i], recoveries[i + 1]
        crosses = (before < HALF) & (after >= HALF)
        share = (HALF - before) / np.where(crosses, after - before, 1.0)
        at = math.log(sources[i]) + share * math.log(sources[i + 1] / sources[i])
        result = np.where(crosses, at, result)
    return result


def exponent(columns: Columns) -> Array:
    """Compute the least-squares slope of ln k50 on ln n. With n = 32, 64, 128 the middle one has no weight in it."""
    first, last = SIZES[0], SIZES[-1]
    result: Array = (ln_k50(columns, last, last) - ln_k50(columns, first, first)) / math.log(last / first)
    return result


def gap(*groups: object) -> Statistic:
    """Build the premise of recoveries: the least gain of full RTRL over the floor, over some groups."""

    def statistic(columns: Columns) -> Array:
        gains = [mean(columns, "full", group) - mean(columns, "floor", group) for group in groups or ("",)]
        result: Array = np.stack(gains).min(0)
        return result

    return statistic


_INF = math.inf
_NO_GAP = f"full RTRL is not {GAP:g} above the best trace"
_NAMES = NETWORKS | {SPARSE: "tanh RNN that reads 4 units a unit"}
_RULE_NAMES = {"k4": "k = 4", "snap": "SnAp-1", "uoro": "UORO", "ok": "OK of rank 4", "kf_rtrl": "KF-RTRL"}


Parts = tuple[str, str, Interval]
"""What a question is made of: its words, its query and its criterion."""


def place(setting: Setting) -> str:
    """Return the words for a setting of one network and lag."""
    return f"{setting.task.words}{_NAMES[setting.architecture]}, n = {setting.sizes[0]}, lag {setting.lags[0]}"


def recovers(setting: Setting, rule: str, zone: tuple[float, float], words: str) -> Parts:
    """Ask whether there is a gap of which a rule recovers as much as the zone, in percent, says."""
    where = place(setting)
    criterion = Interval(
        recovery(rule), *zone, "recovery %", margin=10.0, premise=gap(), premise_above=GAP, undefined=_NO_GAP
    )
    text = f"{where}: is full RTRL more than {GAP:g} above the best trace, and {words}?"
    return text, query_of(setting, ("floor", rule, "full")), criterion


def equal(low: float, high: float, statistic: Statistic) -> Interval:
    """Build a criterion on a difference of accuracies."""
    return Interval(statistic, low, high, "accuracy", margin=GAP)


def law(architecture: str, lag: int, centre: int, task: Task = ONE_SYMBOL) -> Parts:
    """Ask whether the exponent of k50 in n is about `centre`, 0 or 1."""
    setting = Setting(architecture, SIZES, (lag,), "hidden", task)
    words = "an absolute k (slope 0)" if centre == 0 else "a fraction of n (slope 1)"
    zone = f"{centre - LAW:.1f} to {centre + LAW:.1f}"
    return (
        f"{task.words}{NETWORKS[architecture]}, lag {lag}: is full RTRL more than {GAP:g} above the best trace at "
        f"every n, and is what recovers half {words}: is the slope of ln k50 on ln n within {zone}?",
        query_of(setting, ("floor", "full"), all_k=True),
        Interval(
            exponent,
            centre - LAW,
            centre + LAW,
            "exponent of k50 in n",
            premise=gap(*SIZES),
            premise_above=GAP,
            undefined=_NO_GAP,
        ),
    )


def _questions() -> tuple[Question, ...]:
    listed: list[tuple[str, str, Interval]] = []
    at = {lag: Setting(TANH, (64,), (lag,)) for lag in LAGS}
    small = f"{NETWORKS[TANH]}, n = 64"
    for lag, setting in at.items():
        text = f"{small}, lag {lag}: is full RTRL at most {GAP:g} above the best trace (nothing to transport)?"
        listed.append((text, query_of(setting, ("floor", "full")), equal(-_INF, GAP, difference("full", "floor"))))
    redundant = (REDUNDANT, _INF), f"does k = 4 recover at least {REDUNDANT:g} % of it (redundant)"
    lost = (-_INF, MOSTLY_LOST), f"does k = 4 recover at most {MOSTLY_LOST:g} % of it (the other paths are needed)"
    for zone, words in (redundant, lost):
        listed += [recovers(at[lag], "k4", zone, words) for lag in LAGS[2:]]
    for architecture in (GRU, LSTM):
        for zone, words in (redundant, lost):
            listed += [recovers(Setting(architecture, (64,), (lag,)), "k4", zone, words) for lag in LAGS[2:4]]
    for lag in LAGS[2:4]:
        text = f"{small}, lag {lag}: are random and largest weights at k = 4 within {GAP:g} of the ring?"
        pairs = (("random4", "k4", ""), ("oracle4", "k4", ""))
        listed.append((text, query_of(at[lag], ("k4", "random4", "oracle4")), equal(-_INF, GAP, farthest(pairs))))
    every = Setting(TANH, (64,), LAGS, "lag")
    text = f"{small}: is BPTT over lag + 1 steps within {GAP:g} of full RTRL at every lag (equal but for rounding)?"
    reaching = farthest(tuple(("reaching", "full", lag) for lag in LAGS))
    listed.append((text, query_of(every, ("reaching", "full")), equal(-_INF, GAP, reaching)))
    half = (HALF, _INF)
    for lag in LAGS[2:4]:
        listed.append(recovers(at[lag], "half", half, "does BPTT over half of lag + 1 steps recover half of it"))
    for rule in ("snap", "uoro", "ok", "kf_rtrl"):
        words = f"does {_RULE_NAMES[rule]} recover half of it"
        listed += [recovers(at[lag], rule, half, words) for lag in LAGS[2:4]]
    for architecture in NETWORKS:
        listed += [law(architecture, lag, centre) for lag in LAGS[2:4] for centre in (0, 1)]
    for rule, name in (("lru", "LRU"), ("elstm", "eLSTM")):
        for lag in LAGS[3:]:
            text = (
                f"n = 64, lag {lag}: is an {name} with exact RTRL, at O(n m) a step, at most {GAP:g} below the tanh "
                "RNN with full RTRL?"
            )
            listed.append((text, query_of(at[lag], (rule, "full")), equal(-GAP, _INF, difference(rule, "full"))))
    sparse = Setting(SPARSE, (32,), (9,))
    for rule, words in (
        ("snap", "does SnAp-1 recover half of it"),
        ("snap2", "does SnAp-2 recover half of it"),
        ("larger", "does sparse RTRL over the larger half of the connections recover half of it"),
    ):
        listed.append(recovers(sparse, rule, half, words))
    text = f"{_NAMES[SPARSE]}, n = 32, lag 9: is SnAp-2 more than {GAP:g} above SnAp-1?"
    listed.append((text, query_of(sparse, ("snap", "snap2")), equal(GAP, _INF, difference("snap2", "snap"))))
    for architecture in NETWORKS:
        setting = Setting(architecture, (64,), (9,))
        listed.append(recovers(setting, "pp_prop", half, "does pp-prop recover half of it"))
    return tuple(Question(f"A{i}", *parts) for i, parts in enumerate(listed, 1))


KEYS = ("experiment", "architecture", "hidden", "lag", "method", "k", "selection", "decay", "window", "order")
"""What a rate is chosen for."""
_COLUMNS = ", ".join(f'"{key}"' for key in KEYS)
CHOICES = f"""SELECT {_COLUMNS}, learning_rate, learning_rate IN ({RATES[0]}, {RATES[-1]}) AS at_the_end
FROM (SELECT *, length + delay AS lag FROM cells)
WHERE experiment LIKE '{DIAGRAM}%' AND status = 'done' AND seed BETWEEN {TUNING[0]} AND {TUNING[-1]}
GROUP BY {_COLUMNS}, learning_rate HAVING count(*) = {len(TUNING)}
QUALIFY count(*) OVER (PARTITION BY {_COLUMNS}) = {len(RATES)}
  AND 1 = row_number() OVER (PARTITION BY {_COLUMNS} ORDER BY round(avg({ACCURACY}), 9) DESC, learning_rate)
ORDER BY ALL"""  # noqa: S608 - all parts are ours
"""The chosen rate of each network, lag and rule whose tuning cells are all done."""


def choices(cells: pl.DataFrame) -> pl.DataFrame:
    """Choose the rates: `KEYS`, learning_rate, and whether it is the lowest or highest of all (`at_the_end`)."""
    return rows_of(CHOICES, cells)


def scored(cells: pl.DataFrame, task: Task = ONE_SYMBOL) -> pl.DataFrame:
    """Return a task's scored cells at the chosen rates.

    Columns: `KEYS`, rule, learning_rate, at_the_end, seed, accuracy, chance.
    """
    own = rows_of(
        f"SELECT {_COLUMNS}, learning_rate, seed, {ACCURACY} AS accuracy, "  # noqa: S608 - all parts are ours
        "chance_accuracy_all_last_500 AS chance FROM (SELECT *, length + delay AS lag FROM cells) "
        f"WHERE experiment = '{task.experiment}' AND status = 'done' AND seed BETWEEN {SCORED[0]} AND {SCORED[-1]}",
        cells,
    )
    joined = own.join(choices(cells), on=[*KEYS, "learning_rate"], nulls_equal=True)
    rules = [name_of(row) for row in joined.to_dicts()]
    return joined.with_columns(pl.Series("rule", rules, pl.String)).sort(*KEYS, "seed", nulls_last=True)


def name_of(row: Mapping[str, object]) -> str:
    """Return a rule's name on the page, from a row with `KEYS`."""
    if row["method"] == "traces":
        return f"trace, decay {row['decay']:g}"
    if row["method"] == "sparse_rtrl":
        return f"k = {row['k']}, {row['selection']}"
    if row["method"] == "snap":
        return f"SnAp-{row['order']}"
    return f"{row['method']}, window {row['window']}" if row["window"] is not None else str(row["method"])


QUESTIONS = _questions()
"""A1 and so on, in the order of `_questions`."""
