"""Recovers the output and the curves of a lost attempt from the state that was published while its cell ran."""

from __future__ import annotations

import polars as pl

from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.run.curves import as_arrays
from raysweep.orchestrator.run.messages import CompletedAttempt, Printed
from raysweep.orchestrator.run.output import clean
from raysweep.orchestrator.store import live
from raysweep.orchestrator.store.storage.storage import Storage


def recovered(attempt: CompletedAttempt, storage: Storage, ids: pl.Series) -> CompletedAttempt:
    """Add to a lost attempt the curves and the output that it published. An attempt that was not lost stays unchanged.

    Args:
        attempt: the attempt.
        storage: the store's storage.
        ids: the cell id of each row of the plan.
    """
    outcome = attempt.outcome
    if attempt.worker is not None:
        return attempt
    try:
        state = live.read(storage, ids[outcome.row], outcome.attempt)
    except StoreDamaged:
        state = None
    if state is None:
        return attempt
    outcome = outcome._replace(arrays=tuple(as_arrays(state.curves)), published=True)
    if outcome.log_tail is None and state.size:
        left_out = state.size - len(state.end)
        text = (f"... {left_out:,} bytes left out ...\n" if left_out else "") + clean(state.end)
        printed = Printed(text, state.size, left_out)
        outcome = outcome._replace(log_tail=printed.tail, printed=printed.beyond_tail)
    return attempt._replace(outcome=outcome)
