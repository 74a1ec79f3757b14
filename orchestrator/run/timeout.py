"""A cell's timeout, and the stack that a dying worker leaves in a file (the fault file).

A timeout has three layers:

1. At the limit, an alarm signal raises `CellTimeout` in the cell. The worker lives on, and the traceback shows
   where the cell hung.
2. If the cell does not react, because it holds the GIL or swallows the exception, faulthandler ends the process a
   few seconds later. Before that, it writes the stack to the chunk's fault file.
3. If the process still runs, `schedule.driver` kills the chunk.
"""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


class CellTimeout(BaseException):
    """Raised in a cell at its timeout. Not an `Exception`, so that a cell's `except Exception` does not catch it."""


@contextlib.contextmanager
def deadline(limit: float | None, faults: IO[str] | None, position: int) -> Iterator[None]:
    """Raise `CellTimeout` in the block after `limit` seconds.

    If the block has not ended after another `hard_grace(limit)` seconds, the process is ended.

    Args:
        limit: the timeout in seconds; None: no timeout.
        faults: the chunk's fault file, which gets the stack of a process that is ended; None: the process is not
            ended.
        position: index of the task in its chunk, which is written into the fault file.
    """
    if limit is None:
        yield
        return
    if faults is not None:
        faults.seek(0)
        faults.truncate()
        faults.write(f"{position}\n")
        faults.flush()
        faulthandler.dump_traceback_later(limit + hard_grace(limit), exit=True, file=faults)
    in_main_thread = threading.current_thread() is threading.main_thread()

    def ring(signum: int, frame: Any) -> None:
        raise CellTimeout(f"ran longer than its timeout of {limit:g} s")

    before = signal.signal(signal.SIGALRM, ring) if in_main_thread else None
    if in_main_thread:
        signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        if in_main_thread:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        if faults is not None:
            faulthandler.cancel_dump_traceback_later()


def hard_grace(limit: float) -> float:
    """Return the seconds from a cell's timeout (`limit` seconds) until its process is ended."""
    return min(5.0, max(1.0, 0.5 * limit))


@contextlib.contextmanager
def fault_log(path: Path | None) -> Iterator[IO[str] | None]:
    """Open the chunk's fault file, and remove it after the block. Yields None if `path` is None.

    If a signal kills the process inside the block, the process's stack is written to the file.
    """
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("w", encoding="utf-8") as file:
        was_enabled = faulthandler.is_enabled()
        faulthandler.enable(file=file)
        try:
            yield file
        finally:
            faulthandler.disable()
            if was_enabled:
                faulthandler.enable()
    path.unlink(missing_ok=True)
