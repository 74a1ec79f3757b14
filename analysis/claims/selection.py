"""Experiment 3: the selection of the four sources that a unit keeps (Sec. 4.3, Table 6; Sec. 4.8)."""

from __future__ import annotations

from raysweep.analysis.cells.methods import FULL, K4, TRACES, Row, sparse
from raysweep.analysis.claims import criteria
from raysweep.analysis.claims.claim import Cells, Claim, Line, scored_cells

FAMILY = "selection"
STRATEGIES = ("random", "oracle", "anti_oracle", "dynamic")
TASKS = {
    "sine": ("paper/e3-selection-sine", "selection_sine", "post_last_500"),
    "Lorenz": ("paper/e3-selection-lorenz", "selection_lorenz", "post_all"),
}


def cells(task: str, *rows: Row) -> tuple[Cells, ...]:
    """Select Table 6's cells on one task."""
    sweep, experiment, window = TASKS[task]
    return (scored_cells(sweep, experiment, window, rows, {"hidden": 64}),)


selection = Claim(
    "E3-selection",
    FAMILY,
    "Sec. 4.3, Table 6",
    (
        *(
            Line(
                f"{task}, {name} against ring",
                f"no strategy has a consistent advantage: {name} is as good as the ring on {task}",
                "no consistent winner (50 runs)",
                criteria.comparable(name, "k4"),
                cells(task, K4, sparse(4, name)),
            )
            for task in TASKS
            for name in STRATEGIES
        ),
        Line(
            "Lorenz, dynamic worst",
            "the dynamic oracle is slightly worst on Lorenz",
            "slightly worst",
            criteria.highest("dynamic", ("k4", *STRATEGIES[:-1])),
            cells("Lorenz", K4, *(sparse(4, name) for name in STRATEGIES)),
        ),
    ),
)

_PAPER = {"fisher_oracle": 78.8, "fisher_anti": 79.4, "random": 88.7}

fisher = Claim(
    "E3-fisher",
    FAMILY,
    "Sec. 4.8",
    (
        *(
            Line(
                f"level, {name}",
                f"selection {name} on the sine recovers {percent} %",
                f"{percent} (3 seeds)",
                criteria.recovery_level(name, TRACES.key, "full", percent),
                cells("sine", TRACES, sparse(4, name), FULL),
            )
            for name, percent in _PAPER.items()
        ),
        Line(
            "no gap",
            "Fisher's oracle and its opposite recover the same",
            "-0.6 points",
            criteria.recovery_difference("fisher_oracle", "fisher_anti", TRACES.key, "full"),
            cells("sine", TRACES, sparse(4, "fisher_oracle"), sparse(4, "fisher_anti"), FULL),
        ),
    ),
)
