"""Experiment D: the phase diagram of transport where five symbols have to be told apart.

As Experiment A (`diagram`: rates, seeds, floor, recovery, k50), on the copy task with five symbols. It was planned once
A's answers on the tanh RNN and on the GRU with 64 units were known: with one symbol the best trace is as good as full
RTRL, so A cannot tell what k paths are worth where paths are needed.
"""

from __future__ import annotations

import math

from raysweep.analysis.claims.criteria import HALF
from raysweep.analysis.transport.diagram import (
    GAP,
    GRU,
    LSTM,
    MOSTLY_LOST,
    REDUNDANT,
    TANH,
    Parts,
    Setting,
    Task,
    difference,
    equal,
    farthest,
    law,
    place,
    query_of,
    recovers,
)
from raysweep.analysis.transport.question import Question

FIVE_SYMBOLS = Task("diagram_symbols", (5, 15), "five symbols, ")
SWEEPS = tuple(f"transport/symbols-{name}" for name in ("tanh-64", "tanh-32", "tanh-128", "gru-64", "lstm-64"))
"""Its sweeps, in the order in which they are run."""

_INF = math.inf


def _questions() -> tuple[Question, ...]:
    listed: list[Parts] = []
    at = {
        (architecture, lag): Setting(architecture, (64,), (lag,), None, FIVE_SYMBOLS)
        for architecture in (TANH, GRU, LSTM)
        for lag in FIVE_SYMBOLS.lags
    }
    for setting in at.values():
        text = f"{place(setting)}: is full RTRL more than {GAP:g} above the best trace (something to transport)?"
        listed.append((text, query_of(setting, ("floor", "full")), equal(GAP, _INF, difference("full", "floor"))))
    for zone, words in (
        ((REDUNDANT, _INF), f"does k = 4 recover at least {REDUNDANT:g} % of it (redundant)"),
        ((-_INF, MOSTLY_LOST), f"does k = 4 recover at most {MOSTLY_LOST:g} % of it (the other paths are needed)"),
    ):
        listed += [recovers(setting, "k4", zone, words) for setting in at.values()]
    for setting in at.values():
        text = f"{place(setting)}: is e-prop, a unit's own path, at most {GAP:g} below full RTRL?"
        listed.append((text, query_of(setting, ("eprop", "full")), equal(-GAP, _INF, difference("eprop", "full"))))
    tanh = [at[TANH, lag] for lag in FIVE_SYMBOLS.lags]
    half = (HALF, _INF)
    for rule, words in (("half", "does BPTT over half of lag + 1 steps"), ("snap", "does SnAp-1")):
        listed += [recovers(setting, rule, half, f"{words} recover half of it") for setting in tanh]
    for setting in tanh:
        text = f"{place(setting)}: is BPTT over lag + 1 steps within {GAP:g} of full RTRL?"
        criterion = equal(-_INF, GAP, farthest((("reaching", "full", ""),)))
        listed.append((text, query_of(setting, ("reaching", "full")), criterion))
    for setting in tanh:
        text = f"{place(setting)}: are random and largest weights at k = 4 within {GAP:g} of the ring?"
        criterion = equal(-_INF, GAP, farthest((("random4", "k4", ""), ("oracle4", "k4", ""))))
        listed.append((text, query_of(setting, ("k4", "random4", "oracle4")), criterion))
    listed += [law(TANH, lag, centre, FIVE_SYMBOLS) for lag in FIVE_SYMBOLS.lags for centre in (0, 1)]
    return tuple(Question(f"D{i}", *parts) for i, parts in enumerate(listed, 1))


QUESTIONS = _questions()
"""D1 and so on, in the order of `_questions`."""
