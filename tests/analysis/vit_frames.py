"""Cells of the vision transformer as a store's frame has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

METHODS: dict[str, tuple[str, int, dict[str, Any]]] = {
    **{name: (name, 12, {}) for name in ("bptt_ref", "dense_ref", "no_replay")},
    "trace_like": ("trace_like", 1, {}),
    **{f"k{k}": ("sparse", k, {}) for k in (6, 4, 2)},
    **{f"forward_k{k}": ("sparse_forward", k, {"forward_test": "all_heads"}) for k in (6, 4, 2, 1)},
    "random": ("random", 6, {"select_from": 2}),
    "random_k1": ("random", 1, {"select_from": 2}),
    **{
        f"{score}_{end}": (f"{score}_{end}", 6, {"rank_after": 1, "select_from": 2})
        for score in ("fisher", "entropy")
        for end in ("oracle", "anti")
    },
}


def cell(
    row: str, seed: int, metrics: Mapping[str, float], experiment: str = "vit_heads", **own: Any
) -> dict[str, Any]:
    method, k, config = METHODS[row]
    full = {"heads": 12, "head_dim": 16, "epochs": 5, "rank_after": None, "select_from": None, "forward_test": None}
    return {
        "experiment": experiment,
        "workload": "vit",
        "workload_version": "1",
        "method": method,
        "k": k,
        "seed": seed,
        "config": json.dumps(full | config | own),
        "status": "done",
        "ridge_accuracy_average": 0.41,
        "nearest_mean_accuracy_average": 0.28,
        "chance_accuracy_average": 0.1,
        **metrics,
    }
