"""Settings: what a cell is apart from its seed, and a short name for each that tells it from its neighbours."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

KEYS = ("experiment", "workload", "workload_version", "method", "k", "config")
_MAX_KEYS = 6
"""Config keys in a name; beyond that a number tells settings apart."""
_MAX_LETTERS = 120


def with_settings(cells: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Number the settings, in the order of their keys, numbers by their size.

    Args:
        cells: with the columns `KEYS`.

    Returns:
        The cells with a column `setting`; and the settings, one row each: `setting`, `KEYS`, `label`, `series` (the
        label without its k, which settings that differ in k alone share).
    """
    rows = cells.select(KEYS).unique(maintain_order=True)
    found = rows[sorted(range(rows.height), key=[*map(_place, rows.iter_rows())].__getitem__)].with_row_index("setting")
    numbered = cells.join(found, on=list(KEYS), how="left", nulls_equal=True, maintain_order="left")
    named = labels(found.to_dicts())
    return numbered, found.with_columns(
        pl.Series("label", [label for label, _ in named], pl.String),
        pl.Series("series", [series for _, series in named], pl.String),
    )


def _place(setting: tuple[Any, ...]) -> tuple[Any, ...]:
    """Where one of `KEYS` stands: `version 10` comes after `version 9`, 0.1 before 0.5, what is absent before both."""
    *keys, config = setting
    return (*map(_rank, keys), sorted((key, _rank(value)) for key, value in _config(config).items()))


def _rank(value: Any) -> tuple[int, float, str]:
    if value is None:
        return 0, 0.0, ""
    try:
        return 1, float(value), ""
    except (TypeError, ValueError):
        return 2, 0.0, _text(value)


def labels(settings: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """A name for each setting, unlike any other of its experiment: `traces, k = 0, decay = 0.95`; and without its k.

    Of the config keys those that differ within the experiment's method; what is null is left out.
    """
    configs = [_config(s["config"]) for s in settings]
    values: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    versions: dict[str, set[str]] = defaultdict(set)
    for setting, config in zip(settings, configs, strict=True):
        seen = values[setting["experiment"], setting["method"]]
        for key, value in config.items():
            seen[key].add(_text(value))
        versions[setting["experiment"]].add(f"{setting['workload']} {setting['workload_version']}")
    absent = _sometimes_absent(settings, configs)
    taken: Counter[tuple[str, str]] = Counter()
    made = []
    for setting, config in zip(settings, configs, strict=True):
        group = (setting["experiment"], setting["method"])
        differing = [k for k in config if len(values[group][k]) > 1 or k in absent[group]]
        said = [f"{key} = {_text(config[key])}" for key in differing if config[key] is not None]
        version = f"{setting['workload']} version {setting['workload_version']}"
        said = [version] * (len(versions[setting["experiment"]]) > 1) + said[:_MAX_KEYS]
        k = [] if setting["k"] is None else [f"k = {setting['k']}"]
        label, series = (_cut(", ".join([setting["method"], *part, *said])) for part in (k, []))
        taken[setting["experiment"], label] += 1
        again = taken[setting["experiment"], label]
        made.append((label, series) if again == 1 else (f"{label} #{again}", f"{series} #{again}"))
    return made


def shared_config(configs: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What all configs (JSON texts) have in common, and what each has besides."""
    parsed = [_config(text) for text in configs]
    if not parsed:
        return {}, []
    shared = {k: v for k, v in parsed[0].items() if all(k in p and _text(p[k]) == _text(v) for p in parsed)}
    return shared, [{k: v for k, v in p.items() if k not in shared} for p in parsed]


def _sometimes_absent(
    settings: Sequence[Mapping[str, Any]], configs: Sequence[Mapping[str, Any]]
) -> Mapping[tuple[str, str], set[str]]:
    """Config keys that some settings of a method lack, as without a model any key may."""
    count: Counter[tuple[str, str]] = Counter()
    with_key: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for setting, config in zip(settings, configs, strict=True):
        group = (setting["experiment"], setting["method"])
        count[group] += 1
        with_key[group].update(config.keys())
    return {g: {key for key, n in with_key[g].items() if n < count[g]} for g in count}


def _config(text: str | None) -> dict[str, Any]:
    return dict(json.loads(text)) if text else {}


def _cut(label: str) -> str:
    return label if len(label) <= _MAX_LETTERS else label[: _MAX_LETTERS - 1] + "…"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
