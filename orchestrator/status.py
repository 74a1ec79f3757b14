"""What an attempt may end in, which budget that is charged to, and how large the budgets are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    pass


Budget = Literal["own_errors", "losses", "memory"]


CHARGES: tuple[Budget, ...] = ("own_errors", "losses", "memory")
"""What attempts are charged to, each with a limit of its own."""


class Policy(NamedTuple):
    """What follows an attempt that ended in a status.

    Args:
        budget: what it is charged to; None: nobody's fault, tried again for free.
        again: whether it is tried again at all.
        wait: whether a back-off is due first.
    """

    budget: Budget | None
    again: bool = True
    wait: bool = True


POLICIES: dict[str, Policy] = {
    "failed": Policy("own_errors"),
    "timed_out": Policy("own_errors"),
    "crashed": Policy("losses"),
    "lost": Policy("losses"),
    "out_of_memory": Policy("memory"),
    "preempted": Policy(None, wait=False),
    "cancelled": Policy(None, again=False),
}
"""Status -> policy; the only other status is `done`."""


LOSS_BUDGET = 5
"""Infrastructure losses that a cell may suffer in one launch's budget."""


MEMORY_BUDGET = 1
"""Times that a cell may run out of memory: it is tried again with more, once."""


def statuses_of(budget: Budget) -> list[str]:
    """The statuses that are charged to it."""
    return [status for status, policy in POLICIES.items() if policy.budget == budget]


def used_up(charged: Mapping[Budget, Any], retries: Any) -> Any:
    """Whether a cell has no more attempts: of numbers, or of data frame expressions."""
    return (charged["own_errors"] > retries) | (charged["losses"] > LOSS_BUDGET) | (charged["memory"] > MEMORY_BUDGET)
