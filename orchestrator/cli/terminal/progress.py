"""Printed progress of a running launch: an updated line for people (`launch.display`), JSON lines for programs."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from raysweep.orchestrator.cli.terminal.output import event
from raysweep.orchestrator.launch.display import Line, News

if TYPE_CHECKING:
    from raysweep.orchestrator.schedule.progress import Progress

EVENTS_S = 2.0
"""Seconds between two JSON lines of progress with `--json`."""


@contextlib.contextmanager
def live(as_json: bool, at: str = "") -> Iterator[Callable[[Progress], None]]:
    """Provide a function that prints the progress of a launch. On exit, clear the line on the terminal.

    `at` is the `--store` option of suggested commands.
    """
    if as_json:
        yield _Events()
        return
    line = Line(sys.stderr.isatty(), at)
    try:
        yield line
    finally:
        line.clear()


class _Events:
    """Prints progress as JSON objects of the kinds `progress` and `bad_attempt`, for `--json`."""

    def __init__(self) -> None:
        self.last = 0.0
        self.news = News()

    def __call__(self, progress: Progress) -> None:
        for bad in self.news(progress)[1]:
            event("bad_attempt", **bad._asdict())
        now = time.monotonic()
        is_last = not progress.left and not progress.uncommitted
        if not is_last and (now - self.last < EVENTS_S or not progress.left):  # else the last commit follows at once
            return
        self.last = now
        cells_per_s, seconds_left = progress.pace(now)
        event(
            "progress", done=progress.done - progress.uncommitted, failed=progress.failed, running=progress.running,
            left=progress.left + progress.uncommitted,
            to_retry=progress.to_retry, bad_attempts=progress.bad_attempts, cells_per_s=round(cells_per_s, 6),
            seconds_left=None if seconds_left is None else round(seconds_left, 1),
            paused=progress.paused, waiting=list(progress.waiting), slow=[cell_id for cell_id, *_ in progress.slow],
        )  # fmt: skip
