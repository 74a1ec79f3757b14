"""Numbers of seeds in the reasons of verdicts: a few are listed, many are summarized."""

from __future__ import annotations

import numpy as np

from raysweep.analysis.statistics.inference import Array

MOST_LISTED = 10
"""Largest number of seeds whose numbers are listed one by one."""


def listed(values: Array) -> str:
    """List positive numbers in ascending order, or give their geometric mean and quartiles if they are too many.

    Args:
        values: one number per seed, such as an MSE; nan for a run that diverged, which comes last or is counted.
    """
    if values.size <= MOST_LISTED:
        return ", ".join(f"{value:.2g}" for value in np.sort(values))
    finite = values[np.isfinite(values)]
    diverged = f", {values.size - finite.size} diverged" if finite.size < values.size else ""
    if not finite.size:
        return f"{values.size} seeds{diverged}"
    logarithms = np.log(finite)
    mean, low, high = np.exp([logarithms.mean(), *np.quantile(logarithms, [0.25, 0.75])])
    return f"geometric mean {mean:.2g}, quartiles {low:.2g} to {high:.2g} ({values.size} seeds{diverged})"
