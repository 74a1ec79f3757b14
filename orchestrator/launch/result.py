"""The result of a launch: counts of its cells, and tables of their metrics and failures from its store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from raysweep.orchestrator.query.hints import literal
from raysweep.orchestrator.schedule.plan import Plan
from raysweep.orchestrator.schedule.progress import Progress
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import ATTEMPTS
from raysweep.orchestrator.sweep.grammar.settings import flattened
from raysweep.orchestrator.text import count_cells

if TYPE_CHECKING:
    from raysweep.analysis.questions.best import Best

_ENDED_BADLY = ("failed", "crashed", "timed_out", "out_of_memory", "lost", "preempted", "cancelled")
_ERRORS = ("status", "attempt", "error_type", "error_message", "cell_id")
_LAST = ("status", "seconds", "cell_id")
"""Columns of `Result.frame` that come after the settings and metrics."""


@dataclass(frozen=True)
class Result:
    """The result of a launch. The number of requested cells is `asked` = `done` + `failed` + `left`.

    `ran` is the number of cells that this launch completed. With `--until decided`, `verdicts` holds the verdicts on
    the questions (`analysis.questions.declared.Verdict`); otherwise it is None.
    """

    asked: int
    done: int
    ran: int
    failed: int
    left: int
    exhausted: int  # failed cells that were not tried, since their attempts were used up before
    changed: int  # done cells whose code has changed since, and that were not run again
    seconds: float
    stopped: str | None
    warnings: tuple[str, ...]
    store: Store = field(repr=False, compare=False)
    _plan: Plan = field(repr=False, compare=False)
    verdicts: tuple[Any, ...] | None = field(default=None, repr=False)

    @property
    def exit_code(self) -> int:
        """The exit code: 130 if interrupted; 0 if all requested cells are done; otherwise 1.

        With `--until decided`, 0 means that all questions are decided.
        """
        if self.stopped == "interrupted":
            return 130
        if self.verdicts is not None:
            return 0 if all(verdict.decided for verdict in self.verdicts) else 1
        return 0 if self.done == self.asked else 1

    @property
    def reruns(self) -> int:
        """The number of cells that were done before, and that this launch ran again because their code had changed."""
        return self._plan.frame.filter((pl.col("state") == "changed") & pl.col("run")).height

    @property
    def held(self) -> int:
        """The number of `changed` cells that this launch did not run, since they need other changed cells.

        Those were not requested (see `Plan.held`).
        """
        return self._plan.held

    @property
    def counts(self) -> dict[str, Any]:
        """The counts, the duration in seconds, the reason for an early end, and warnings, by name."""
        counts = {name: value for name, value in vars(self).items() if name not in ("store", "_plan", "verdicts")}
        return counts if self.verdicts is None else counts | {"verdicts": [asdict(v) for v in self.verdicts]}

    @property
    def summary(self) -> str:
        """The counts of cells in one line of text."""
        if not self.asked:
            return "nothing to run: no cells requested"
        if not self.ran and not self.failed and self.done == self.asked:
            return f"nothing to run: all {self.asked:,} cells are done"
        parts = [f"{self.done:,} of {self.asked:,} cells done ({self.ran:,} now, in {self.seconds:.1f} s)"]
        if self.failed:
            before = f" ({self.exhausted:,} of them had no attempts left)" if self.exhausted else ""
            parts.append(f"{self.failed:,} failed{before}")
        if self.left:
            parts.append(f"{self.left:,} left")
        return "; ".join(parts)

    @property
    def frame(self) -> pl.DataFrame:
        """The requested cells, one row per cell: method, k, seed, settings, metrics, status, seconds and cell id.

        Columns without any value are left out. Cells that were done before this launch are included.
        """
        frame, settings = self._read()
        metrics = [name for name in frame.columns if name not in settings and name not in _FIXED]
        columns = [*settings, *metrics, *_LAST]
        return frame.select(name for name in columns if name == "status" or frame[name].null_count() < frame.height)

    @property
    def failures(self) -> pl.DataFrame:
        """The requested cells that ended without success: settings, and status and error of the last attempt."""
        frame, settings = self._read()
        return frame.filter(pl.col("status").is_in(_ENDED_BADLY)).select(*settings, *_ERRORS)

    def best(self, metric: str, *, better: str = "lower") -> Best:
        """Rank the settings by a metric, and return which of them may be the best; see `raysweep.best`.

        All cells of the launch's experiments are compared, including those of other launches.

        Raises:
            InputError: there is no such metric.
        """
        from raysweep.analysis.questions.best import best

        names = ", ".join(map(literal, self._plan.table.variants["experiment"].unique().sort()))
        return best(self.store, metric, better=better, where=f"experiment IN ({names})")

    def _read(self) -> tuple[pl.DataFrame, list[str]]:
        """Return rows of the SQL table `cells` in the plan's order, and the names of method, k, seed and settings."""
        ids = self._plan.table.cells.select("cell_id")
        frame = ids.join(self.store.sql("SELECT * FROM cells"), on="cell_id", how="left", maintain_order="left")
        keys = ["method", "k", "seed"] if frame["k"].null_count() < frame.height else ["method", "seed"]
        return frame, [
            *keys,
            *(name for name in _settings(self._plan.table.variants["config"]) if name in frame.columns),
        ]


_FIXED = {*ATTEMPTS.names, "sweep", "metrics"}


def _settings(configs: Iterable[str]) -> list[str]:
    """Return the keys of all configs, in the order of their first occurrence."""
    return list(dict.fromkeys(key for config in configs for key in flattened(json.loads(config))))


def result_of(planned: Plan, progress: Progress | None, began: float, warnings: Iterable[str], store: Store) -> Result:
    """Build the result of a launch.

    Args:
        planned: the launch's plan.
        progress: its progress at the end; None if no cell was to run.
        began: when the launch began, in seconds on the monotonic clock.
        warnings: warnings to the user.
        store: the launch's store.
    """
    counts = planned.counts()
    ran, failed = (progress.done, progress.failed) if progress else (0, 0)
    changed, exhausted = (
        planned.frame.filter((pl.col("state") == state) & ~pl.col("run")).height for state in ("changed", "failed")
    )
    result = _result(planned, progress, began, warnings, store, counts["done"] + changed + ran, failed + exhausted)
    return replace(result, exhausted=exhausted, changed=changed)


def result_of_rounds(
    planned: Plan, progress: Progress | None, began: float, warnings: Iterable[str], store: Store
) -> Result:
    """Build the result of a launch in rounds.

    Args:
        planned: a plan of the cells of all rounds, computed after the last round.
        progress: counts of all rounds; None if no cell was to run.
        began: when the launch began, in seconds on the monotonic clock.
        warnings: warnings to the user.
        store: the launch's store.
    """
    counts = planned.counts()
    done = counts["done"] + counts["changed"]
    result = _result(planned, progress, began, warnings, store, done, counts["failed"])
    return replace(result, changed=counts["changed"])


def _result(
    planned: Plan,
    progress: Progress | None,
    began: float,
    warnings: Iterable[str],
    store: Store,
    done: int,
    failed: int,
) -> Result:
    """Build a result. The caller sets `exhausted` and `changed`."""
    return Result(
        asked=len(planned.table),
        done=done,
        ran=progress.done if progress else 0,
        failed=failed,
        left=len(planned.table) - done - failed,
        exhausted=0,
        changed=0,
        seconds=time.monotonic() - began,
        stopped=progress.stopped if progress else None,
        warnings=(*warnings, *(progress.notes if progress else ()), *_of_cancelled(progress)),
        store=store,
        _plan=planned,
    )


def _of_cancelled(progress: Progress | None) -> list[str]:
    if progress is None or not progress.cancelled:
        return []
    verb = "was" if progress.cancelled == 1 else "were"
    return [f"{count_cells(progress.cancelled)} {verb} cancelled by raysweep cancel; the next launch runs them"]
