"""A cell's deadline, and what a dying worker leaves behind.

A deadline has two layers here (the third, the driver's, is in `drive`): an alarm signal raises in the
cell at its limit, so that the worker lives on and the traceback says where it hung; a little later
faulthandler ends a process that did not react (held the GIL, swallowed the exception), leaving its stack
in the chunk's fault file.
"""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

NODE_WAIT_MIN = 30.0
"""Minutes that cells wait for a node which an autoscaler is to bring, once nothing else runs."""
SLOW_FACTOR, SLOW_S = 5.0, 60.0
"""A cell is called slow after so many times what its like took, and no earlier than this."""


class CellTimeout(BaseException):
    """Raised in a cell at its limit. Not an `Exception`, so that a cell's own `except` lets it through."""


@contextlib.contextmanager
def deadline(limit: float | None, faults: IO[str] | None, position: int) -> Iterator[None]:
    """Raise `CellTimeout` in the cell after `limit` seconds; end the process a little later."""
    if limit is None:
        yield
        return
    if faults is not None:
        faults.seek(0)
        faults.truncate()
        faults.write(f"{position}\n")
        faults.flush()
        faulthandler.dump_traceback_later(limit + hard_grace(limit), exit=True, file=faults)
    can_signal = threading.current_thread() is threading.main_thread()

    def ring(signum: int, frame: Any) -> None:
        raise CellTimeout(f"ran longer than its timeout of {limit:g} s")

    before = signal.signal(signal.SIGALRM, ring) if can_signal else None
    if can_signal:
        signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        if can_signal:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        if faults is not None:
            faulthandler.cancel_dump_traceback_later()


def hard_grace(limit: float) -> float:
    """Seconds past its limit after which a cell's process is ended."""
    return min(5.0, max(1.0, 0.5 * limit))


@contextlib.contextmanager
def fault_log(path: Path | None) -> Iterator[IO[str] | None]:
    """The chunk's fault file: a process that dies of a signal leaves its stack there."""
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
