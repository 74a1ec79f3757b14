"""What a rule costs at each step on a tanh RNN without a leak: multiply-adds, and numbers that it keeps.

To leading order, as in `docs/rules.md`: n units, m = n + n_in + 1 inputs of a unit. The forward step, the readout and
the optimiser, the same for all rules, are not counted. They are formulas, not timings: a compiled loop may get the same
gradient in another way (`docs/rules.md`, "Two implementations").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysweep.workloads.rnn.rules import RULES


def multiply_adds(method: str, k: int | None, settings: Mapping[str, Any], n: int, m: int) -> float:
    """Return the multiply-adds of a step.

    They are the rule's own `cost`, but for sparse RTRL: k n^2 m by gathered rows. Its `cost` orders cells by time, and
    counts a multiply-add on gathered rows 20 times.
    """
    if method == "sparse_rtrl":
        return float(k or 0) * n**2 * m
    return RULES[method].cost(n, m, k, settings)


def numbers_kept(method: str, settings: Mapping[str, Any], n: int, m: int) -> float:
    """Return the numbers that a rule keeps from step to step.

    Raises:
        KeyError: the rule's memory is not listed here.
    """
    window, rank = settings.get("window", 1), settings.get("rank", 1)
    kept = {
        "traces": n * m if settings.get("decay", 1) else 0,
        "rflo": 0,  # its trace is kept by the leak alone
        "snap": n * m,  # at order 1
        "sparse_rtrl": n**2 * m,
        "rtrl": n**2 * m,
        "bptt": window * (n + m) + window * n**2,  # states and inputs, and the weights of each step
        "uoro": n * m + n,
        "kf_rtrl": n**2 + m,
        "ok": rank * (n**2 + m),
    }
    return float(kept[method])


def recursive_least_squares(features: int) -> tuple[float, float]:
    """Return the multiply-adds of a step of recursive least squares, and the numbers that it keeps.

    Of f features: P phi and the update of P, 2 f^2, and P. The few outputs and the forgetting are not counted.
    """
    return 2.0 * features**2, float(features**2)
