"""Waits have a name and a bound: a call that never returns is given up, and a long wait is reported once."""

from __future__ import annotations

import logging
import re
import signal
import threading
import time

import pytest

from raysweep.orchestrator import waits
from raysweep.orchestrator.waits import CallThread, TookTooLong, waiting


@pytest.fixture(autouse=True)
def none_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "_abandoned", set())
    monkeypatch.setattr(waits, "_LOOK_S", 0.05)


def its_own_error() -> None:
    raise TimeoutError("its own")


def test_a_call_that_never_returns_is_given_up_and_so_are_all_later_ones() -> None:
    calls, never = CallThread("test"), threading.Event()
    assert calls.call("an answer", 5, lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        calls.call("an error", 5, lambda: 1 // 0)
    with pytest.raises(TimeoutError, match="its own"):
        calls.call("an error of the call itself", 5, its_own_error)
    assert not waits.is_any_abandoned()
    began = time.monotonic()
    with pytest.raises(TookTooLong, match=r"^starting Ray took longer than 0\.2 s$"):
        calls.call("starting Ray", 0.2, never.wait)
    with pytest.raises(TookTooLong, match="starting Ray"):
        calls.call("ending Ray", 60, lambda: None)
    assert time.monotonic() - began < 5
    assert waits.is_any_abandoned()
    never.set()


def test_an_idle_thread_that_is_given_up_counts_too() -> None:
    """Its last call failed: what it called is in an unknown state, and may crash at the interpreter's exit."""
    idle = CallThread("idle")
    idle.call("nothing", 5, lambda: None)
    idle.abandon("Ray was given up")
    assert waits.is_any_abandoned()


def test_a_call_may_make_calls_on_its_own_thread() -> None:
    calls = CallThread("test")
    assert calls.call("outer", 5, lambda: calls.call("inner", 5, threading.current_thread)) is calls


def test_signals_interrupt_the_caller_and_not_the_call() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    calls, go_on, seen = CallThread("test"), threading.Event(), []
    timer = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        calls.call("something long", 60, lambda: seen.append(go_on.wait()))
    assert time.monotonic() - began < 10
    signal.signal(signal.SIGINT, before)
    go_on.set()
    calls.call("the next", 5, lambda: None)
    assert seen == [True]


def test_a_long_wait_is_reported_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(waits, "LONG_S", 0.1)
    with caplog.at_level(logging.WARNING, "raysweep"), waiting("the moon", 7):
        time.sleep(1.5)
    (record,) = caplog.records
    # A watchdog that looked just before the wait, or gets no core, looks again within this second and a half.
    assert re.fullmatch(r"waiting for [012] s: the moon, for 7 s at most", record.getMessage())
