"""The first screen of the report: for each experiment its best variants, what cannot be told apart, and what matters.

All of it is about one metric in one direction, which `direction.choose` chooses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl

from raysweep.analysis.questions.best import p_values
from raysweep.analysis.questions.settings import metrics_of, outcomes_of
from raysweep.analysis.report import metrics
from raysweep.analysis.report.direction import Direction
from raysweep.analysis.report.variants import KEYS
from raysweep.analysis.statistics.inference import LEVEL
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.grammar.settings import flattened

MAX_ROWS = 12
"""Maximum number of variants that are listed."""
MAX_TESTED = 400
"""Maximum number of variants that are tested. The time grows with its square."""
MAX_KEYS, MAX_VALUES = 6, 12
"""Maximum number of settings whose effect is shown, and of values of a setting on an axis."""
MAX_POINTS = 300
"""Maximum number of variants that are drawn as points in the chart of a setting's effect."""


class Effect(NamedTuple):
    """The effect of a setting: the mean of the variants' means for each of its values.

    Args:
        key: the setting.
        values: its values in order, as text.
        means: for each value, the mean of the means of the variants that have it.
        share: the share of the variance of the variants' means that lies between the values, 0 to 1.
        variants: one row per drawn variant: value (an index into `values`), mean.
    """

    key: str
    values: tuple[str, ...]
    means: tuple[float, ...]
    share: float
    variants: pl.DataFrame


class Map(NamedTuple):
    """The mean for each pair of values of the two settings with the largest effects; `cells`: x, y, mean, variants."""

    x: Effect
    y: Effect
    cells: pl.DataFrame


class Result(NamedTuple):
    """The result of one experiment in one metric.

    Args:
        direction: the metric, and which values are better.
        rows: the best variants, best first; columns of `metrics.SCHEMA`, p and may_be_best (null if not tested).
        variants: the number of variants with a value.
        candidates: the number of variants that may be the best; None if they are too many to test.
        keys: the settings that differ between variants, the largest effect first.
        values: variant -> the value of each key, as text; None if it is absent.
        effects: the effects of the settings, in the order of `keys`.
        map: the mean by the two settings with the largest effects; None if fewer than two differ.
        shared: the settings that all variants share.
        newest: the pairs of workload and version that the result is about; empty if there are no others.
    """

    direction: Direction
    rows: pl.DataFrame
    variants: int
    candidates: int | None
    keys: tuple[str, ...]
    values: dict[int, dict[str, str | None]]
    effects: tuple[Effect, ...]
    map: Map | None
    shared: dict[str, str]
    newest: tuple[tuple[str, str], ...]


def result_of(cells: pl.DataFrame, variants: pl.DataFrame, direction: Direction) -> Result | None:
    """Compute the result of one experiment; None if no cell has the metric.

    Args:
        cells: all cells of the experiment: variant, workload, workload_version, seed, status, metrics, finished_at.
        variants: its variants, columns as `variants.with_variants` returns them.
        direction: the metric and its direction.
    """
    cells, newest = _newest(cells)
    values = (
        cells.filter(pl.col("status") == "done").select("variant", "metrics").explode("metrics", empty_as_null=False)
        .drop_nulls("metrics").unnest("metrics")
        .filter((pl.col("name") == direction.metric) & pl.col("value").is_finite())
    )  # fmt: skip
    means = values.group_by("variant").agg(mean=pl.col("value").mean())
    if means.is_empty():
        return None
    lower = direction.better == "lower"
    tests = _tests(cells, direction)
    ranked = (
        means.join(tests, on="variant", how="left")
        .sort(pl.col("may_be_best").fill_null(value=False), pl.col("mean"), "variant",
              descending=[True, not lower, False])
    )  # fmt: skip
    best = ranked.head(MAX_ROWS).select("variant", "p", "may_be_best")
    table = metrics.rows_of(values.filter(pl.col("variant").is_in(best["variant"].implode())), cells)
    settings = {row["variant"]: settings_of(row) for row in variants.iter_rows(named=True)}
    own = {variant: settings[variant] for variant in means["variant"]}
    differing, shared = _differing(list(own.values()))
    effects = sorted((_effect(key, means, own) for key in differing), key=lambda e: -e.share)
    drawn = tuple(e for e in effects if 1 < len(e.values) <= MAX_VALUES)[:MAX_KEYS]
    keys = tuple(e.key for e in effects)
    return Result(
        direction=direction,
        rows=best.join(table, on="variant", how="left", maintain_order="left"),
        variants=means.height,
        candidates=None if tests.is_empty() else int(tests["may_be_best"].sum()),
        keys=keys,
        values={v: {key: _shown(own[v].get(key)) for key in keys} for v in best["variant"] if v in own},
        effects=drawn,
        map=_map(drawn, means, own),
        shared={key: value for key in shared if (value := _shown(next(iter(own.values())).get(key))) is not None},
        newest=newest,
    )


def _newest(cells: pl.DataFrame) -> tuple[pl.DataFrame, tuple[tuple[str, str], ...]]:
    """Keep the cells of each workload's newest version that has a done cell, because versions are not comparable.

    Also returns the pairs of workload and version that are kept; empty if there are no others.
    """
    versions = ["workload", "workload_version"]
    last = pl.col("finished_at").max()
    all_versions = cells.filter(pl.col("status") == "done").group_by(versions).agg(last=last).sort("last", *versions)
    kept = all_versions.unique("workload", keep="last", maintain_order=True).select(versions)
    if cells.select(versions).unique().height == kept.height:
        return cells, ()
    return cells.join(kept, on=versions, how="semi", maintain_order="left"), tuple(kept.iter_rows())


def _tests(cells: pl.DataFrame, direction: Direction) -> pl.DataFrame:
    """Test for each variant whether it may be the best. Columns: variant, p, may_be_best; empty if there are too many.

    A failed cell counts as worse than any value, and so does a done one without the metric, as in `raysweep best`.
    """
    parts = cells.select("variant", "seed", "status", "metrics", "finished_at").partition_by("variant", as_dict=True)
    schema = {"variant": pl.UInt32, "p": pl.Float64, "may_be_best": pl.Boolean}
    if len(parts) > MAX_TESTED:
        return pl.DataFrame(schema=schema)
    existing = metrics_of(parts.values())
    outcomes = {}
    for (variant,), part in parts.items():
        try:
            entry = outcomes_of(part, direction.metric, direction.better, str(variant), existing)
        except InputError:
            continue  # the variant has other metrics only
        if entry.values:
            outcomes[variant] = entry
    ps = p_values(list(outcomes.values()))
    return pl.DataFrame([(v, p, p > LEVEL) for v, p in zip(outcomes, ps, strict=True)], schema, orient="row")


def settings_of(variant: dict[str, Any]) -> dict[str, Any]:
    """Return a variant's settings: method, k, the keys of its config, and the workload's version."""
    config = flattened(json.loads(variant["config"])) if variant["config"] else {}
    keys = {key: variant[key] for key in ("method", "k")}
    config = {f"config_{key}" if key in (*KEYS, "seed") else key: value for key, value in config.items()}
    version = f"{variant['workload']} {variant['workload_version']}"
    return {**keys, **config, "workload and version": version}


def _differing(settings: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the keys whose values differ, and the keys of config that all share.

    A key whose values differ only between methods is left out: the method tells its value.
    """
    keys = list(dict.fromkeys(key for each in settings for key in each))
    pairs = {key: {(each["method"], _shown(each.get(key))) for each in settings} for key in keys}
    methods = {each["method"] for each in settings}
    same = [key for key in keys if len({value for _, value in pairs[key]}) == 1]
    differing = [key for key in keys if key not in same and (key == "method" or len(pairs[key]) > len(methods))]
    hidden = ("method", "k", "workload and version")
    return differing, [key for key in same if key not in hidden]


def _shown(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _effect(key: str, means: pl.DataFrame, settings: dict[int, dict[str, Any]]) -> Effect:
    """Compute the effect of a setting from the variants' means (columns variant and mean)."""
    raw = {_shown(each.get(key)): each.get(key) for each in settings.values()}
    order = sorted(raw, key=lambda text: _place(raw[text]))
    index = {text: i for i, text in enumerate(order)}
    at = pl.Series("value", [index[_shown(settings[v].get(key))] for v in means["variant"]], pl.Int64)
    frame = means.with_columns(at)
    by_value = frame.group_by("value").agg(of_value=pl.col("mean").mean(), n=pl.len()).sort("value")
    grand, total = float(means["mean"].mean()), float(means["mean"].var(ddof=0) or 0)  # type: ignore[arg-type]
    between = float((by_value["n"] * (by_value["of_value"] - grand) ** 2).sum()) / means.height
    points = frame.select("value", "mean")
    step = max(1, -(-points.height // MAX_POINTS))
    return Effect(
        key, tuple("none" if text is None else text for text in order), tuple(by_value["of_value"]),
        between / total if total else 0.0, points.sort("value", "mean").gather_every(step),
    )  # fmt: skip


def _place(value: Any) -> tuple[int, float, str]:
    """Return a sort key: an absent value first, then numbers by size, then text."""
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, int | float):
        return 1, float(value), ""
    return 2, 0.0, value if isinstance(value, str) else json.dumps(value)


def _map(effects: Sequence[Effect], means: pl.DataFrame, settings: dict[int, dict[str, Any]]) -> Map | None:
    """Average the variants' means for each pair of values of the first two settings; the longer one is x."""
    if len(effects) < 2:
        return None
    y, x = sorted(effects[:2], key=lambda e: len(e.values))
    names = {effect.key: {text: i for i, text in enumerate(effect.values)} for effect in (x, y)}

    def at(effect: Effect) -> list[int]:
        texts = (_shown(settings[v].get(effect.key)) for v in means["variant"])
        return [names[effect.key]["none" if text is None else text] for text in texts]

    frame = means.with_columns(x=pl.Series(at(x), dtype=pl.Int64), y=pl.Series(at(y), dtype=pl.Int64))
    cells = frame.group_by("x", "y").agg(pl.col("mean").mean(), variants=pl.len().cast(pl.Int64)).sort("x", "y")
    return Map(x, y, cells) if cells.height > max(len(x.values), len(y.values)) else None
