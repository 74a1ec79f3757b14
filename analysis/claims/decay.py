"""The follow-up's claims (arXiv 2603.28750) about the decay of traces. The paper uses traces as 0 % of recovery."""

from __future__ import annotations

import math

from raysweep.analysis.cells.methods import DECAY_0, FULL, TRACES, Row
from raysweep.analysis.claims import chaos, criteria, lstm
from raysweep.analysis.claims import sine as experiment1
from raysweep.analysis.claims.claim import FOLLOW_UP, Cells, Claim, Interval, Line, scored_cells

FAMILY = "decay"
PLATEAU = (0.1, 0.3, 0.5)
_WORDS = "immediate derivatives (decay 0) match full RTRL, so are no worse,"

decay0 = Claim(
    "F-decay0",
    FAMILY,
    "arXiv 2603.28750",
    (
        Line("no worse, sine", f"{_WORDS} on the sine", "match", criteria.no_worse(DECAY_0.key, "full"),
             experiment1.cells(DECAY_0, FULL)),
        Line("no worse, Lorenz, n = 64", f"{_WORDS} on Lorenz", "match", criteria.no_worse(DECAY_0.key, "full"),
             chaos.lorenz(64, DECAY_0, FULL)),
        Line("no worse, Lorenz, n = 128", f"{_WORDS} on Lorenz with 128 units", "match",
             criteria.no_worse(DECAY_0.key, "full"), chaos.lorenz(128, DECAY_0, FULL)),
        Line("no worse, multi-sine", f"{_WORDS} on multi-sine", "match", criteria.no_worse(DECAY_0.key, "full"),
             chaos.multi_sine(DECAY_0, FULL)),
        Line("no worse, sine, SGD", f"{_WORDS} on the sine with SGD (v3)", "match",
             criteria.no_worse(DECAY_0.key, "full"), experiment1.sgd_cells(DECAY_0, FULL)),
        Line("no worse, LSTM", f"{_WORDS} for the LSTM on the sine (v3)", "match",
             criteria.no_worse(DECAY_0.key, "full"), lstm.sine(DECAY_0, FULL)),
        Line("the decay is why traces fail", "on the sine decay .95 alone costs two orders of magnitude", "two orders",
             criteria.orders(TRACES.key, DECAY_0.key, 2), experiment1.cells(TRACES, DECAY_0)),
    ),
    FOLLOW_UP,
)  # fmt: skip


def _key(decay: float) -> str:
    return f"decay_{decay:g}"


def cells(*decays: float) -> tuple[Cells, ...]:
    """Select the cells of traces with these decays. Row keys are of the form `decay_0.5`."""
    rows = tuple(Row(_key(decay), f"decay {decay:g}", "traces", 0, {"decay": decay}) for decay in decays)
    return (scored_cells("paper/decay", "decay", "post_last_500", rows, {"hidden": 64}),)


_PERSISTENCE = Cells(
    "paper/decay",
    "decay",
    (Row("0.95", "decay 0.95", "traces", 0, {"decay": 0.95}),),
    {"hidden": 64},
    metric="persistence_post_last_500",
    prefix="persistence_",
)

sweep = Claim(
    "F-decaysweep",
    FAMILY,
    "arXiv 2603.28750",
    (
        *(
            Line(
                f"plateau, decay {decay:g} no worse",
                f"decay up to .5 is a safe plateau: {decay:g} is no worse than 0",
                "plateau",
                criteria.no_worse(_key(decay), _key(0.0)),
                cells(0.0, decay),
            )
            for decay in PLATEAU
        ),
        Line(
            "0.95 recovers nothing",
            "decay .95 recovers 0 %: no better than predicting no change",
            "0 %",
            Interval(criteria.ratio("decay_0.95", "persistence_0.95"), 0.0, math.inf, "ratio to persistence", math.exp),
            (*cells(0.95), _PERSISTENCE),
        ),
    ),
    FOLLOW_UP,
)
