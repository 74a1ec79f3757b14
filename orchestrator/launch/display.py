"""Progress of a running launch for people: an updated line on a terminal, lines in a file, a bar in a notebook."""

from __future__ import annotations

import contextlib
import html
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from raysweep.orchestrator.schedule.progress import FailedAttempt, Progress
from raysweep.orchestrator.text import duration, pace_in_words, printable

TERMINAL_S, LINES_S, NOTEBOOK_S = 0.2, 10.0, 0.5
"""Seconds between two updates: on a terminal, without a terminal, in a notebook."""
NEWS_S = 2.0
"""Seconds between two updates without a terminal if there is news.

News is a failed attempt, or a change of the nodes that cells wait for.
"""
MAX_NAMED = 3
"""Maximum number of unsuccessful attempts that an update names; it names the last ones."""

Report = Callable[[Progress], None]


@contextlib.contextmanager
def shown(progress: Report | bool | None) -> Iterator[tuple[Report | None, Callable[[str], None]]]:
    """Provide a function that shows a launch's progress (or None), and a function that shows a text at the end.

    Args:
        progress: the user's own function for the progress. True shows the progress, False does not; None shows it
            only in a notebook.
    """
    notebook = in_notebook()
    if progress is False or (progress is None and not notebook):
        yield None, _silent
    elif callable(progress):
        yield progress, _silent
    elif notebook:
        bar = Bar()
        yield bar, bar.end
    else:
        line = Line(sys.stderr.isatty(), "")
        try:
            yield line, _silent
        finally:
            line.clear()


def _silent(text: str) -> None:
    """Do nothing with the text."""


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook. This does not import IPython."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class News:
    """Counts the failed attempts since its last call."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, progress: Progress) -> tuple[int, list[FailedAttempt]]:
        """Return the number of new failed attempts, and the newest of them: `progress.bad` holds only the last few."""
        new = progress.bad_attempts - self.count
        self.count = progress.bad_attempts
        return new, list(progress.bad)[-new:] if new else []


class Bar:
    """Shows the progress as a bar and a line of text below the notebook's cell, updated in place."""

    def __init__(self) -> None:
        from IPython.display import display

        self.last, self.total, self.done = 0.0, 0, 0
        self.handle: Any = display(self._content("starting"), raw=True, display_id=True)

    def __call__(self, progress: Progress) -> None:
        """Show the progress, at most once every `NOTEBOOK_S`."""
        now = time.monotonic()
        self.total, self.done = progress.total, progress.done + progress.failed
        if now - self.last >= NOTEBOOK_S:
            self.last = now
            self.end(in_words(progress, now))

    def end(self, text: str) -> None:
        """Show a final text beside the bar."""
        self.handle.update(self._content(text), raw=True)

    def _content(self, text: str) -> dict[str, str]:
        bar = f'<progress value="{self.done}" max="{self.total}"></progress> ' if self.total else ""
        return {"text/plain": printable(text), "text/html": f"<div>{bar}{html.escape(printable(text))}</div>"}


class Line:
    """Prints an updated line on a terminal; elsewhere, a line every `LINES_S`.

    Each failed attempt gets a line of its own.

    Args:
        terminal: whether standard error is a terminal.
        at: the `--store` option to print in the commands that a line suggests.
    """

    def __init__(self, terminal: bool, at: str) -> None:
        self.terminal, self.at = terminal, at
        self.last = 0.0
        self.news = News()
        self.waiting: tuple[str, ...] = ()

    def __call__(self, progress: Progress) -> None:
        """Print the progress, unless the last update was printed too recently."""
        now = time.monotonic()
        is_news = progress.waiting != self.waiting or progress.bad_attempts != self.news.count
        pause = TERMINAL_S if self.terminal else NEWS_S if is_news else LINES_S
        if now - self.last < pause:
            return
        self.last, self.waiting = now, progress.waiting
        self.clear()
        for line in self._bad(progress):
            sys.stderr.write(f"{printable(line)}\n")
        text = printable(in_words(progress, now))
        if not self.terminal:
            sys.stderr.write(f"{text}\n")
        elif progress.left:
            sys.stderr.write(text)
        sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line from the terminal, so that other text may follow."""
        if self.terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _bad(self, progress: Progress) -> list[str]:
        new, attempts = self.news(progress)
        named = attempts[-MAX_NAMED:]
        lines = [f"{bad.status}: {bad.reason} (raysweep show {bad.cell_id[:8]}{self.at})" for bad in named]
        more = new - len(named)
        return [f"{more:,} more unsuccessful attempt{'' if more == 1 else 's'}", *lines] if more else lines


def in_words(progress: Progress, now: float) -> str:
    """Format the counts, the rate, the time left and slow cells; `now` is on the monotonic clock."""
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
        text += "; paused (raysweep continue)"
    if progress.waiting:
        text += f"; waiting for {', and '.join(progress.waiting)}"
    return text


def slow(seconds: float, usual: float) -> str:
    """Format a running cell's slowness: `40 min so far (similar cells took 3 min)`."""
    return f"{duration(seconds)} so far (similar cells took {duration(usual)})"
