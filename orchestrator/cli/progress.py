"""What a launch says while it runs: a line that changes for people, an object a line for machines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from raysweep.orchestrator.cli.output import event
from raysweep.orchestrator.text import duration, printable, rate

if TYPE_CHECKING:
    from raysweep.orchestrator.schedule.progress import Progress

TERMINAL_S, LINES_S, EVENTS_S = 0.2, 10.0, 2.0
"""Between two looks: on a terminal, elsewhere, of `--json`."""
SOON_S = 2.0
"""What went wrong, or what cells wait for, may call for somebody's hand, and is said as soon as this."""
SHOWN = 3
"""Bad attempts that are named between two looks, the last ones."""


def live(as_json: bool, at: str = "") -> Callable[[Progress], None]:
    """What is to be told how a launch goes; `at`: see `console.at_store`."""
    if as_json:
        return _Events()
    return _Line(sys.stderr.isatty(), at)


class _Line:
    """A line that changes on a terminal, one every ten seconds elsewhere; before it what went wrong since the last."""

    def __init__(self, terminal: bool, at: str) -> None:
        self.terminal, self.at = terminal, at
        self.began = time.monotonic()
        self.last, self.told = 0.0, 0
        self.waiting: tuple[str, ...] = ()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        news = progress.waiting != self.waiting or progress.bad_attempts != self.told
        pause = TERMINAL_S if self.terminal else SOON_S if news else LINES_S
        if now - self.last < pause:
            return
        self.last, self.waiting = now, progress.waiting
        lines = self._bad(progress)
        if self.terminal:
            print("\r\x1b[K", end="", file=sys.stderr)
        for line in lines:
            print(printable(line), file=sys.stderr)
        text = printable(self._text(progress, now))
        if not self.terminal:
            print(text, file=sys.stderr, flush=True)
        else:
            print(text if progress.left else "", end="", file=sys.stderr, flush=True)

    def _bad(self, progress: Progress) -> list[str]:
        new = progress.bad_attempts - self.told
        self.told = progress.bad_attempts
        named = list(progress.bad)[-min(new, SHOWN) :] if new else []
        lines = [f"{bad.status}: {bad.reason} (raysweep show {bad.cell_id[:8]}{self.at})" for bad in named]
        more = new - len(named)
        return [*([f"{more:,} more bad attempt{'' if more == 1 else 's'}"] if more else []), *lines]

    def _text(self, progress: Progress, now: float) -> str:
        cells_per_s, seconds_left = progress.pace(self.began, now)
        running = f"{progress.running:,} running, " if progress.running else ""
        again = f"{progress.to_retry:,} to be tried again, " if progress.to_retry else ""
        text = f"{progress.done:,} done, {running}{again}{progress.failed:,} failed, {progress.left:,} left"
        if cells_per_s:
            text += f"; {rate(cells_per_s)}"
        if seconds_left is not None and progress.left:
            text += f", about {duration(seconds_left)} more"
        if progress.slow:
            cell_id, seconds, usual = progress.slow[0]
            more = f" and {len(progress.slow) - 1:,} more" if len(progress.slow) > 1 else ""
            text += f"; slow: {cell_id[:8]} for {duration(seconds)}, its like took {duration(usual)}{more}"
        if progress.waiting:
            text += f"; waiting for {', and '.join(progress.waiting)}"
        return text


class _Events:
    """`--json`: `progress` and `bad_attempt` objects."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.last, self.told = 0.0, 0

    def __call__(self, progress: Progress) -> None:
        new = min(progress.bad_attempts - self.told, len(progress.bad))
        for bad in list(progress.bad)[len(progress.bad) - new :]:
            event("bad_attempt", **bad._asdict())
        self.told = progress.bad_attempts
        now = time.monotonic()
        if now - self.last < EVENTS_S and progress.left:
            return
        self.last = now
        cells_per_s, seconds_left = progress.pace(self.began, now)
        event(
            "progress", done=progress.done, failed=progress.failed, running=progress.running, left=progress.left,
            to_retry=progress.to_retry, bad_attempts=progress.bad_attempts, cells_per_s=round(cells_per_s, 6),
            seconds_left=None if seconds_left is None else round(seconds_left, 1),
            waiting=list(progress.waiting), slow=[cell_id for cell_id, *_ in progress.slow],
        )  # fmt: skip
