"""The sweeps' cells filled with the paper's own numbers, for the positive control of the ledger.

Printed seed by seed: Tables 4, 5, 8, 9, 10, 11, 12, and SGD's recoveries. Constructed: Table 3, of which mean and
deviation are printed (normal scores); traces where only their relation to the others is (Lorenz, 256 units).
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

from raysweep.analysis.claims.heads import TABLE_10
from raysweep.analysis.claims.sine import SGD_RECOVERIES
from raysweep.analysis.paper.samples import decoding, per_seed, selected_heads
from raysweep.analysis.paper.values import PAPER_SEEDS

BY_SEED = sorted(PAPER_SEEDS)
SCORES = {seed: NormalDist().inv_cdf((i + 0.625) / 5.25) for i, seed in enumerate(PAPER_SEEDS)}
"""Normal scores of five, by seed: mean 0."""
_UNIT = (sum(s * s for s in SCORES.values()) / 4) ** 0.5
RECOVERY, SD = {4: 84.0, 8: 81.0, 16: 81.0, 32: 81.0}, 6.0
FLOOR, CEILING = 0.23, 0.0006
LORENZ_TRACES = {64: 0.03, 128: 0.04}
"""Between the failing seeds and the others, so that 2 and 3 of 5 fail."""
N256_TRACES = 0.525


def row_of(cell: Mapping[str, Any]) -> str | None:
    """The row's key in the paper's tables; None for a row that it does not have."""
    method = cell["method"]
    if method == "traces":
        return "traces_decay095" if cell["decay"] == 0.95 else None
    if method == "sparse_rtrl":
        return f"k{cell['k']}" if cell["selection"] == "ring" else None
    return {"rtrl": "full"}.get(method)


def fill(cell: Mapping[str, Any]) -> Mapping[str, float] | None:
    """The cell's metrics by the paper; None: not in its tables."""
    filled = FILLS.get(cell["experiment"])
    return None if filled is None else filled(cell)


def _sine(cell: Mapping[str, Any]) -> Mapping[str, float] | None:
    seed = cell["seed"]
    recovery = {"traces_decay095": 0.0, "full": 100.0}.get(row := row_of(cell) or "")
    if row[:1] == "k":
        recovery = RECOVERY[cell["k"]] + SD * SCORES[seed] / _UNIT
    if recovery is None:
        return None
    return {"mse_post_last_500": FLOOR * (CEILING / FLOOR) ** (recovery / 100) * (1 + 0.02 * SCORES[seed])}


def _sgd(cell: Mapping[str, Any]) -> Mapping[str, float] | None:
    recovery = {"traces_decay095": 0.0, "full": 100.0, "k4": SGD_RECOVERIES[PAPER_SEEDS.index(cell["seed"])]}
    row = row_of(cell)
    return None if row not in recovery else {"mse_post_last_500": 0.01 ** (recovery[row] / 100)}


def _table(name: str, prefix: str, metric: str, cell: Mapping[str, Any]) -> Mapping[str, float] | None:
    row = row_of(cell)
    try:
        values = per_seed(name, {"x": f"{prefix}{row}"})["x"]
    except ValueError:  # not a row of that table
        return None
    return {metric: float(values[BY_SEED.index(cell["seed"])])}


def _lorenz(cell: Mapping[str, Any]) -> Mapping[str, float] | None:
    if row_of(cell) == "traces_decay095":
        return {"mse_post_all": LORENZ_TRACES[cell["hidden"]]}
    return _table("table04", f"n{cell['hidden']}/", "mse_post_all", cell)


def _n256(cell: Mapping[str, Any]) -> Mapping[str, float] | None:
    if cell["learning_rate"] != 1e-3:
        return None
    if row_of(cell) == "traces_decay095":
        return {"mse_post_last_500": N256_TRACES * (1 + 0.05 * SCORES[cell["seed"]])}
    return _table("table09", "", "mse_post_last_500", cell)


def _heads(cell: Mapping[str, Any]) -> Mapping[str, float] | None:
    row = f"k{cell['k']}" if cell["method"] == "sparse" else cell["method"]
    if row not in TABLE_10:
        return None
    return {"accuracy_average": float(TABLE_10[row][(42, 43, 44).index(cell["seed"])])}


def _selection(cell: Mapping[str, Any]) -> Mapping[str, float] | None:
    values = selected_heads().get(cell["method"])
    return None if values is None else {"accuracy_average": float(values[(7, 42, 43, 44, 2024).index(cell["seed"])])}


def _bci(cell: Mapping[str, Any]) -> Mapping[str, float] | None:
    row, at = row_of(cell), BY_SEED.index(cell["seed"])
    columns = decoding()
    if row not in columns:
        return None
    metrics = {"mse_b_late": row, "frozen_b_late": f"frozen_{row}", "mse_a_end": f"end_{row}"}
    return {metric: float(columns[name][at]) for metric, name in metrics.items()}


FILLS = {
    "sine": _sine,
    "sine_sgd": _sgd,
    "lorenz": _lorenz,
    "multi_sine": lambda cell: _table("table05", "", "mse_seg2_last_200", cell),
    "lstm_sine": lambda cell: _table("table08", "sine/", "mse_post_all", cell),
    "sine_n256": _n256,
    "vit_heads": _heads,
    "vit_selection": _selection,
    "bci": _bci,
}
