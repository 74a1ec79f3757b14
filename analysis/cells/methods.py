"""The rows (methods with settings) that tables, figures and claims compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """A row of a table or figure, and the conditions that its cells meet.

    Args:
        key: the row's name in data frames and in the paper's values.
        label: the row's name for readers.
        method: the cells' method.
        k: the cells' k; None matches any.
        config: config values that distinguish the row from others of the same method.
    """

    key: str
    label: str
    method: str
    k: int | None = None
    config: Mapping[str, object] = field(default_factory=dict)

    def has(self, method: str, k: int | None, config: Mapping[str, object]) -> bool:
        """Tell whether a cell with this method, k and config belongs to the row."""
        return (
            method == self.method
            and (self.k is None or k == self.k)
            and all(name in config and config[name] == value for name, value in self.config.items())
        )


# Recurrent networks: Experiments 1 to 6 and 9.

TRACES = Row("traces_decay095", "k = 0, decay 0.95", "traces", 0, {"decay": 0.95})
"""Traces of decay .95, the paper's floor (0 %) of recovery. The paper does not state the decay; .95 reproduces its
errors.
"""
DECAY_0 = Row("traces_decay0", "k = 0, decay 0", "traces", 0, {"decay": 0.0})
"""Traces of decay 0: only the immediate derivative (Eq. 5) is used, and nothing is propagated."""
FULL = Row("full", "full RTRL", "rtrl")
UORO = Row("uoro", "UORO", "uoro")


def sparse(k: int, selection: str | None = None, *, label: str = "") -> Row:
    """Build the row of sparse RTRL with k sources per unit, chosen by `selection`; None matches any selection."""
    named = selection if selection != "ring" else None
    return Row(
        named or f"k{k}",
        label or f"k = {k}" + (f", {named}" if named else ""),
        "sparse_rtrl",
        k,
        {} if selection is None else {"selection": selection},
    )


K4 = sparse(4, "ring")


def bptt(window: int, key: str = "bptt") -> Row:
    """Build the row of BPTT truncated to `window` steps."""
    return Row(key, f"BPTT, window {window}", "bptt", None, {"window": window})


# Vision transformer: Experiments 7 and 8.

TRANSFORMER = {"heads": 12, "head_dim": 16}
"""Config values of all vision transformer cells in tables, figures and claims."""
DENSE = Row("dense_ref", "dense_ref", "dense_ref")
TRACE_LIKE = Row("trace_like", "trace_like", "trace_like", 1)
"""The row in which gradients go through one random head of each block. It defines 0 % recovery."""
NO_REPLAY = Row("no_replay", "dense, no replay", "no_replay")
RANDOM_HEADS = Row("random", "random", "random", 6)
RANKINGS = {
    "fisher_oracle": "Fisher oracle",
    "entropy_oracle": "entropy oracle",
    "entropy_anti": "entropy anti",
    "fisher_anti": "Fisher anti",
}


def sparse_heads(k: int) -> Row:
    """Build the row in which gradients go through k random heads of each block."""
    return Row(f"k{k}", f"sparse, k = {k}", "sparse", k)


def ranked_heads(method: str) -> Row:
    """Build the row in which gradients go through the six heads that the ranking of `method` prefers."""
    return Row(method, RANKINGS[method], method, 6)
