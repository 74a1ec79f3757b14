"""An example query for a sweep: the means of its metrics over seeds, by the settings that differ."""

from __future__ import annotations

import json

import polars as pl

from raysweep.orchestrator.query.hints import identifier, literal
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import ATTEMPTS
from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.orchestrator.sweep.grammar.settings import flattened

MAX_METRICS, MAX_SETTINGS = 3, 6
COUNTERS = ("step", "steps", "epoch", "epochs", "iteration", "seconds")
"""Names of metrics that count progress, in lower case. They are shown only if there are no other metrics."""


def means_by_settings(store: Store, table: CellTable) -> str | None:
    """Return SQL for the means of metrics over seeds, by the settings that differ in the table.

    The query has at most `MAX_METRICS` metrics and `MAX_SETTINGS` settings. The metrics are those of one done cell of
    the table's experiments. None if there is no such cell, or if it has no metrics.
    """
    experiments = table.variants["experiment"].unique().sort().to_list()
    is_of_table = pl.col("experiment").is_in(experiments)
    one = store.collect(lambda: store.cells.filter(is_of_table).select("metrics").head(1))["metrics"].to_list()
    settings = _differing(table.variants)
    metrics = [metric["name"] for metric in one[0]] if one else []
    free = [name for name in metrics if name.lower() not in {*map(str.lower, settings), *ATTEMPTS.names}]
    results = [name for name in free if name.lower() not in COUNTERS and not name.startswith("seconds")]
    chosen = sorted(results or free)[:MAX_METRICS]
    if not chosen:
        return None
    columns = [identifier(name) for name in settings[:MAX_SETTINGS]]
    means = [f"avg({identifier(name)}) AS {identifier(f'mean_{name}')}" for name in chosen]
    seeds = f"count({identifier(chosen[0])}) AS seeds"
    where = f"experiment IN ({', '.join(map(literal, experiments))})"
    if len(experiments) == 1:
        where = f"experiment = {literal(experiments[0])}"
    return f"SELECT {', '.join([*columns, *means, seeds])} FROM cells WHERE {where} GROUP BY ALL ORDER BY ALL"  # noqa: S608 - printed only


def _differing(variants: pl.DataFrame) -> list[str]:
    """Return the names of the settings that differ: experiment, method and k, then the config keys, sorted."""
    keys = [name for name in ("experiment", "method", "k") if variants[name].n_unique() > 1]
    first: dict[str, object] = {}
    differing: set[str] = set()
    for text in variants["config"].unique():
        config = flattened(json.loads(text))
        differing |= {name for name, value in config.items() if first.setdefault(name, value) != value}
        differing |= first.keys() - config.keys()
    return [*keys, *sorted(differing)]
