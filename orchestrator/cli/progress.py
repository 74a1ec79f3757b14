"""Printed progress of a running launch: an updated line for people, JSON lines for programs."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from raysweep.orchestrator.cli.output import event, pace_in_words
from raysweep.orchestrator.text import duration, printable

if TYPE_CHECKING:
    from raysweep.orchestrator.schedule.progress import FailedAttempt, Progress

TERMINAL_S, LINES_S, EVENTS_S = 0.2, 10.0, 2.0
"""Seconds between two updates: on a terminal, without a terminal, with `--json`."""
NEWS_S = 2.0
"""The same without a terminal, if attempts have failed or cells wait for other nodes since the last update."""
MAX_NAMED = 3
"""Maximum number of unsuccessful attempts that an update names; it names the last ones."""


@contextlib.contextmanager
def live(as_json: bool, at: str = "") -> Iterator[Callable[[Progress], None]]:
    """Provide a function that prints the progress of a launch; for `at` see `at_store`. No text is left on its line."""
    if as_json:
        yield _Events()
        return
    line = _Line(sys.stderr.isatty(), at)
    try:
        yield line
    finally:
        line.clear()


class _News:
    """Counts the failed attempts since its last call."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, progress: Progress) -> tuple[int, list[FailedAttempt]]:
        """Return the number of new failed attempts, and the newest of them: `progress.bad` holds only the last few."""
        new = progress.bad_attempts - self.count
        self.count = progress.bad_attempts
        return new, list(progress.bad)[-new:] if new else []


class _Line:
    """Prints an updated line on a terminal, otherwise a line every ten seconds. Failed attempts get their own lines."""

    def __init__(self, terminal: bool, at: str) -> None:
        self.terminal, self.at = terminal, at
        self.last = 0.0
        self.news = _News()
        self.waiting: tuple[str, ...] = ()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        is_news = progress.waiting != self.waiting or progress.bad_attempts != self.news.count
        pause = TERMINAL_S if self.terminal else NEWS_S if is_news else LINES_S
        if now - self.last < pause:
            return
        self.last, self.waiting = now, progress.waiting
        self.clear()
        for line in self._bad(progress):
            print(printable(line), file=sys.stderr)
        text = printable(self._text(progress, now))
        if not self.terminal:
            print(text, file=sys.stderr, flush=True)
        else:
            print(text if progress.left else "", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line from the terminal, so that other text may follow."""
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _bad(self, progress: Progress) -> list[str]:
        new, attempts = self.news(progress)
        named = attempts[-MAX_NAMED:]
        lines = [f"{bad.status}: {bad.reason} (raysweep show {bad.cell_id[:8]}{self.at})" for bad in named]
        more = new - len(named)
        return [f"{more:,} more unsuccessful attempt{'' if more == 1 else 's'}", *lines] if more else lines

    def _text(self, progress: Progress, now: float) -> str:
        cells_per_s, seconds_left = progress.pace(now)
        counts = [f"{progress.done:,} done"]
        counts += [f"{progress.running:,} running"] if progress.running else []
        counts += [f"{progress.to_retry:,} waiting for a retry"] if progress.to_retry else []
        text = ", ".join([*counts, f"{progress.failed:,} failed", f"{progress.left:,} left"])
        text += pace_in_words(cells_per_s, seconds_left if progress.left else None)
        if progress.slow:
            cell_id, seconds, usual = progress.slow[0]
            more = f" and {len(progress.slow) - 1:,} more" if len(progress.slow) > 1 else ""
            text += f"; slow: {cell_id[:8]}, {slow(seconds, usual)}{more}"
        if progress.paused:
            text += f"; paused (raysweep continue{self.at})"
        if progress.waiting:
            text += f"; waiting for {', and '.join(progress.waiting)}"
        return text


def slow(seconds: float, usual: float) -> str:
    """Format a running cell's slowness: `40 min so far (similar cells took 3 min)`."""
    return f"{duration(seconds)} so far (similar cells took {duration(usual)})"


class _Events:
    """Prints progress as JSON objects of the kinds `progress` and `bad_attempt`, for `--json`."""

    def __init__(self) -> None:
        self.last = 0.0
        self.news = _News()

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
