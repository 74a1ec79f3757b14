"""Interrupts of a running launch: Ctrl-C and other signals, and the loss of its store to another launch."""

from __future__ import annotations

import _thread
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raysweep.orchestrator.errors import Fenced
from raysweep.orchestrator.executors.executor import Executor
from raysweep.orchestrator.process import signals_handled
from raysweep.orchestrator.schedule.driver import Driver
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.waits import exit_now

FENCED_S = 8.0
"""Seconds in which a process may end by itself after its store was taken over. Then the process is ended."""


@contextmanager
def interruptible(driver: Driver, executor: Executor, writer: StoreWriter, hard: threading.Timer) -> Iterator[None]:
    """End the launch cleanly at the first signal inside the block, and at once at the second.

    If another launch takes over the store, start the timer `hard` (see `hard_end`), and interrupt the block.

    Raises:
        Fenced: the store was taken over.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    leaving = threading.Lock()  # a signal that is simulated later would meet another handler

    def stop(signum: int, frame: Any) -> None:
        if driver.stop_requested and not writer.is_fenced:
            raise KeyboardInterrupt
        driver.stop_requested = True
        executor.interrupt()
        if writer.is_fenced:
            raise writer.fenced()

    def lose() -> None:
        hard.start()
        with leaving:
            if in_main_thread and writer.on_fenced is lose:
                _thread.interrupt_main(signal.SIGTERM)  # calls `stop`

    with signals_handled(stop):
        writer.on_fenced = lose
        try:
            yield
        finally:
            with leaving:
                writer.on_fenced = lambda: None


def hard_end(writer: StoreWriter, *, exits: bool) -> threading.Timer:
    """Return a timer of `FENCED_S` seconds that ends the process, even if the main thread hangs.

    Args:
        writer: the writer of the store that was taken over.
        exits: whether the process only runs this launch. Otherwise the timer does nothing.
    """

    def end() -> None:
        if exits:
            logging.getLogger("raysweep").error(f"error: {writer.fenced()}")
            exit_now(Fenced.exit_code)

    timer = threading.Timer(FENCED_S, end)
    timer.daemon = True
    return timer
