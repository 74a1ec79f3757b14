"""A small store's `cells` frame, made by hand: the columns that tables read, and some that they don't."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

SETTINGS = {"hidden": 64, "learning_rate": 0.001, "stream": "sine"}
SCHEMA = {
    "cell_id": pl.String,
    "sweep": pl.String,
    "experiment": pl.String,
    "workload": pl.String,
    "workload_version": pl.String,
    "method": pl.String,
    "k": pl.Int64,
    "seed": pl.Int64,
    "config": pl.String,
    "status": pl.String,
    "hidden": pl.Int64,
    "mse_post_last_500": pl.Float64,
    "persistence_post_last_500": pl.Float64,
    "diverged": pl.Float64,
}


def cell(
    method: str,
    k: int | None,
    seed: int,
    mse: float | None = None,
    *,
    status: str = "done",
    version: str = "1",
    experiment: str = "sine",
    **config: Any,
) -> dict[str, Any]:
    """One row; a done one without an MSE has diverged."""
    method_settings = {
        "decay": None,
        "window": None,
        "selection": "ring" if method == "sparse_rtrl" else None,
    }
    full: Mapping[str, Any] = SETTINGS | method_settings | config
    done = status == "done"
    return {
        "sweep": "e1-sine",
        "experiment": experiment,
        "workload": "online_rnn",
        "workload_version": version,
        "method": method,
        "k": k,
        "seed": seed,
        "config": json.dumps(full, sort_keys=True),
        "status": status,
        "hidden": full["hidden"],
        "mse_post_last_500": mse,
        "persistence_post_last_500": 0.1 if done else None,
        "diverged": float(mse is None) if done else None,
    }


def frame(cells: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    rows = [{"cell_id": f"cell{i}", **row} for i, row in enumerate(cells)]
    return pl.DataFrame(rows, schema=SCHEMA)


def one_seed(seed: int, **changes: Any) -> list[dict[str, Any]]:
    """All eight rows of Table 3 at one seed, powers of ten: from 1 (decay .95) to .01 (full RTRL)."""
    mse = {
        "floor": 1.0,
        "decay0": 0.1,
        "k4": 0.1,
        "k8": 0.1,
        "k16": 0.1,
        "k32": 0.01,
        "full": 0.01,
        "bptt": 0.1,
    }
    mse |= changes
    return [
        cell("traces", 0, seed, mse["floor"], decay=0.95),
        cell("traces", 0, seed, mse["decay0"], decay=0.0),
        *(cell("sparse_rtrl", k, seed, mse[f"k{k}"]) for k in (4, 8, 16, 32)),
        cell("rtrl", 64, seed, mse["full"]),
        cell("bptt", None, seed, mse["bptt"], window=1),
    ]
