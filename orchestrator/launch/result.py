"""The result of a launch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from raysweep.orchestrator.schedule.plan import Plan
from raysweep.orchestrator.schedule.progress import Progress


@dataclass(frozen=True)
class Result:
    """The result of a launch: `asked` = done + failed + left cells. `ran` cells were run by this launch.

    `verdicts` are those of a launch until its questions are decided (`analysis.questions.declared.Verdict`).
    """

    asked: int
    done: int
    ran: int
    failed: int
    left: int
    exhausted: int  # failed cells that were not tried, since their attempts were used up before
    changed: int  # done cells whose code has changed since, and that were not run again
    seconds: float
    stopped: str | None = None
    warnings: tuple[str, ...] = ()
    verdicts: tuple[Any, ...] | None = field(default=None, repr=False)

    @property
    def exit_code(self) -> int:
        """Exit code: 0 if all requested cells are done, or all questions decided; 130 if interrupted; otherwise 1."""
        if self.stopped == "interrupted":
            return 130
        if self.verdicts is not None:
            return 0 if all(verdict.decided for verdict in self.verdicts) else 1
        return 0 if self.done == self.asked else 1


def result_of(planned: Plan, progress: Progress | None, began: float, warnings: list[str]) -> Result:
    """The result of a launch that ran a plan; `progress` is None if no cell was to run."""
    counts = planned.counts()
    ran = progress.done if progress else 0
    failed = progress.failed if progress else 0
    changed, exhausted = (
        planned.frame.filter((pl.col("state") == state) & ~pl.col("run")).height for state in ("changed", "failed")
    )
    done = counts["done"] + changed + ran
    return Result(
        asked=len(planned.table),
        done=done,
        ran=ran,
        failed=failed + exhausted,
        left=len(planned.table) - done - failed - exhausted,
        exhausted=exhausted,
        changed=changed,
        seconds=time.monotonic() - began,
        stopped=progress.stopped if progress else None,
        warnings=(*warnings, *(progress.notes if progress else ())),
    )


def result_of_rounds(
    planned: Plan, progress: Progress | None, began: float, warnings: list[str], verdicts: Sequence[Any],
    ended: str | None,
) -> Result:  # fmt: skip
    """The result of a launch in rounds.

    Args:
        planned: a plan of the cells of all rounds, made after the last one.
        progress: counts of all rounds; None if no cell was to run.
        began: when the launch began, on the monotonic clock.
        warnings: the launch's warnings.
        verdicts: the verdicts on its questions.
        ended: the reason why it ended although questions are open.
    """
    counts = planned.counts()
    done = counts["done"] + counts["changed"]
    return Result(
        asked=len(planned.table),
        done=done,
        ran=progress.done if progress else 0,
        failed=counts["failed"],
        left=len(planned.table) - done - counts["failed"],
        exhausted=0,
        changed=counts["changed"],
        seconds=time.monotonic() - began,
        stopped=(progress.stopped if progress else None) or ended,
        warnings=(*warnings, *(progress.notes if progress else ())),
        verdicts=tuple(verdicts),
    )
