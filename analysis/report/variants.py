"""Variants (groups of cells that differ only in their seed), and a short name for each, unique in its experiment."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from raysweep.orchestrator.sweep.grammar.settings import flattened

KEYS = ("experiment", "workload", "workload_version", "method", "k", "config")
_MAX_KEYS = 6
"""Maximum config keys in a name; variants that agree in these keys are numbered."""
_MAX_LETTERS = 120


def with_variants(cells: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Number the variants in the order of `KEYS`; numeric values are ordered by size.

    Args:
        cells: cells with the columns `KEYS`.

    Returns:
        The cells with a column `variant`; and one row per variant with `variant`, `KEYS`, `label` and `series` (the
        label without k, shared by variants that differ only in k).
    """
    rows = cells.select(KEYS).unique(maintain_order=True)
    variants = rows[sorted(range(rows.height), key=[*map(_place, rows.iter_rows())].__getitem__)].with_row_index(
        "variant"
    )
    numbered = cells.join(variants, on=list(KEYS), how="left", nulls_equal=True, maintain_order="left")
    named = labels(variants.to_dicts())
    return numbered, variants.with_columns(
        pl.Series("label", [label for label, _ in named], pl.String),
        pl.Series("series", [series for _, series in named], pl.String),
    )


def _place(variant: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a sort key for a variant: version 10 comes after version 9, 0.1 before 0.5, an absent value first."""
    *keys, config = variant
    return (*map(_rank, keys), sorted((key, _rank(value)) for key, value in _config(config).items()))


def _rank(value: Any) -> tuple[int, float, str]:
    if value is None:
        return 0, 0.0, ""
    try:
        return 1, float(value), ""
    except (TypeError, ValueError):
        return 2, 0.0, _text(value)


def labels(variants: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Build two labels for each variant: one unique in its experiment, and the same without k.

    An example is `traces, k = 0, decay = 0.95`. After method and k, a label has the config keys whose values differ
    between variants of the same method in the experiment. Null values are not shown.
    """
    configs = [_config(s["config"]) for s in variants]
    values: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    versions: dict[str, set[str]] = defaultdict(set)
    for variant, config in zip(variants, configs, strict=True):
        seen = values[variant["experiment"], variant["method"]]
        for key, value in config.items():
            seen[key].add(_text(value))
        versions[variant["experiment"]].add(f"{variant['workload']} {variant['workload_version']}")
    absent = _sometimes_absent(variants, configs)
    uses: Counter[tuple[str, str]] = Counter()
    names = []
    for variant, config in zip(variants, configs, strict=True):
        group = (variant["experiment"], variant["method"])
        differing = [k for k in config if len(values[group][k]) > 1 or k in absent[group]]
        values_text = [f"{key} = {_text(config[key])}" for key in differing if config[key] is not None]
        version = f"{variant['workload']} version {variant['workload_version']}"
        values_text = [version] * (len(versions[variant["experiment"]]) > 1) + values_text[:_MAX_KEYS]
        k = [] if variant["k"] is None else [f"k = {variant['k']}"]
        label, series = (_cut(", ".join([variant["method"], *part, *values_text])) for part in (k, []))
        uses[variant["experiment"], label] += 1
        again = uses[variant["experiment"], label]
        names.append((label, series) if again == 1 else (f"{label} #{again}", f"{series} #{again}"))
    return names


def shared_config(configs: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Split configs (JSON texts) into the part that all share, and what remains of each."""
    parsed = [_config(text) for text in configs]
    if not parsed:
        return {}, []
    shared = {k: v for k, v in parsed[0].items() if all(k in p and _text(p[k]) == _text(v) for p in parsed)}
    return shared, [{k: v for k, v in p.items() if k not in shared} for p in parsed]


def _sometimes_absent(
    variants: Sequence[Mapping[str, Any]], configs: Sequence[Mapping[str, Any]]
) -> Mapping[tuple[str, str], set[str]]:
    """Return, for each experiment and method, the config keys that only some of its variants have.

    There are none if the workload declares its settings in a `Config`.
    """
    count: Counter[tuple[str, str]] = Counter()
    with_key: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for variant, config in zip(variants, configs, strict=True):
        group = (variant["experiment"], variant["method"])
        count[group] += 1
        with_key[group].update(config.keys())
    return {g: {key for key, n in with_key[g].items() if n < count[g]} for g in count}


def _config(text: str | None) -> dict[str, Any]:
    return flattened(json.loads(text)) if text else {}


def _cut(label: str) -> str:
    return label if len(label) <= _MAX_LETTERS else label[: _MAX_LETTERS - 1] + "…"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
