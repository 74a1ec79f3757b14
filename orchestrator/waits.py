"""Named waits of a launch. A wait that takes long is reported, and calls that may never return have a time limit."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Unfinished
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

LONG_S = 30.0
"""Seconds after which a wait is reported."""
_LOOK_S = 1.0  # between two looks of the watchdog; a simulated signal reaches a waiting main thread as late as this

_Returned = TypeVar("_Returned")


class TookTooLong(Exception):
    """A call did not return within its time limit. The text names the call."""


@dataclass
class _Wait:
    what: str
    bound: float | None
    began: float
    is_reported: bool = False


class _Watchdog(threading.Thread):
    """Reports each wait of this process that takes longer than `LONG_S`, once."""

    def __init__(self) -> None:
        super().__init__(name="raysweep-watchdog", daemon=True)
        self.waits: list[_Wait] = []
        self.any = threading.Event()  # set while there is a wait

    def run(self) -> None:
        while self.any.wait():
            time.sleep(_LOOK_S)
            for wait in list(self.waits):
                seconds = time.monotonic() - wait.began
                if seconds >= LONG_S and not wait.is_reported:
                    wait.is_reported = True
                    bound = "" if wait.bound is None else f", for {wait.bound:g} s at most"
                    logging.getLogger("raysweep").warning(f"waiting for {seconds:.0f} s: {wait.what}{bound}")


_watchdog = _Watchdog()
_starting = threading.Lock()
_abandoned: set[str] = set()  # names of threads
_last_acts: list[Callable[[], None]] = []


def _forget_parent() -> None:
    """Let a forked child start its own watchdog at its next wait, since threads do not survive a fork."""
    global _watchdog, _starting
    _watchdog, _starting = _Watchdog(), threading.Lock()
    _abandoned.clear()
    _last_acts.clear()


os.register_at_fork(after_in_child=_forget_parent)


@contextlib.contextmanager
def waiting(what: str, bound: float | None = None) -> Iterator[None]:
    """Name the wait inside the block, as in `waiting("starting Ray")`.

    `bound` is a time limit in seconds. It is only reported, not enforced.
    """
    watchdog, wait = _watchdog, _Wait(what, bound, time.monotonic())
    with _starting:
        if not watchdog.is_alive():
            watchdog.start()
        watchdog.waits.append(wait)
        watchdog.any.set()
    try:
        yield
    finally:
        with _starting:
            watchdog.waits.remove(wait)
            if not watchdog.waits:
                watchdog.any.clear()


def before_exit(act: Callable[[], None]) -> None:
    """Call a function when the process ends, either by `exit_now` or normally."""
    _last_acts.append(act)
    atexit.register(act)


def exit_now(code: int) -> NoReturn:
    """End the process, calling only the functions of `before_exit`: the interpreter's exit handlers may hang."""
    for act in _last_acts:
        with contextlib.suppress(Exception):
            act()
    os._exit(code)


def is_any_abandoned() -> bool:
    """Return whether any `CallThread` of this process was abandoned.

    If so, the library that it called was not shut down, and this library's exit handlers may hang or crash.
    """
    return bool(_abandoned)


class CallThread(threading.Thread):
    """A daemon thread that runs calls one after another. A caller can stop waiting for its call.

    Signals interrupt the caller, even if the call hangs.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._why_lost = ""
        self.start()

    def run(self) -> None:
        """Run calls until `end` is called. The exception of a call is raised in its caller."""
        while (call := self._calls.get()) is not None:
            function, reply = call
            try:
                value = function()
            except BaseException as error:
                reply.set_exception(error)
            else:
                reply.set_result(value)
                del value
            del call, function, reply

    def end(self) -> None:
        """End the thread after the calls that are already queued."""
        self._calls.put(None)

    def abandon(self, reason: str) -> None:
        """Refuse all further calls, and do not wait for the present one."""
        self._why_lost = reason
        _abandoned.add(self.name)
        self.end()

    def call(self, what: str, seconds: float, function: Callable[[], _Returned]) -> _Returned:
        """Run the function on the thread, and return its result. A call from the thread itself runs at once.

        Args:
            what: the name of the wait.
            seconds: its time limit.
            function: the function, without arguments.

        Raises:
            TookTooLong: the function did not return in time, or the thread was abandoned before.
        """
        if threading.current_thread() is self:
            return function()
        if self._why_lost:
            raise TookTooLong(self._why_lost)
        reply: Future[_Returned] = Future()
        self._calls.put((function, reply))
        until = time.monotonic() + seconds
        with waiting(what, seconds):
            while True:
                try:
                    return reply.result(max(0.0, min(_LOOK_S, until - time.monotonic())))
                except Unfinished:
                    if reply.done():
                        raise  # the function's own error
                    if time.monotonic() >= until:
                        self.abandon(f"{what} took longer than {seconds:g} s")
                        raise TookTooLong(self._why_lost) from None
