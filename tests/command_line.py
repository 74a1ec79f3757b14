"""Running raysweep's command line in tests: in this process, which is restored afterwards, or in a separate one."""

from __future__ import annotations

import _thread
import contextlib
import functools
import importlib
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, ModuleType

import pytest
import typer
from typer.main import get_command as build

ROOT = Path(__file__).resolve().parent.parent
PATHS = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
"""Of this checkout: the package, and the tests."""
RAYSWEEP = [sys.executable, "-m", "raysweep"]
TERMINAL = {"COLUMNS": "160"}

Ended = subprocess.CompletedProcess[str]


def environment() -> dict[str, str]:
    """Environment variables for a child process, with this checkout first on the Python path."""
    return {**os.environ, "PYTHONPATH": PATHS, **TERMINAL}


def in_own_process(arguments: Sequence[str], folder: Path, timeout: float = 90) -> Ended:
    """Run a command line in a separate process, with `folder` as its current folder."""
    return subprocess.run(
        [*RAYSWEEP, *arguments], cwd=folder, env=environment(), capture_output=True, text=True, timeout=timeout
    )


def starts_ray(arguments: Sequence[str]) -> bool:
    """Whether a command line may start Ray or connect to it; such a command line never runs in pytest's process."""
    return "--address" in arguments


def in_this_process(
    arguments: Sequence[str], folder: Path, timeout: float = 90, variables: Mapping[str, str] = TERMINAL
) -> Ended:
    """Run a command line through the CLI's entry point, and undo its effects on this process.

    Exit code, encoded streams, current folder and imports of users' modules are as in a separate process.

    Args:
        arguments: the arguments after `raysweep`.
        folder: the current folder of the command.
        timeout: seconds after which the command is interrupted.
        variables: environment variables to add.
    """
    with restored():
        return called(arguments, folder, timeout, variables)


def called(
    arguments: Sequence[str], folder: Path, timeout: float = 90, variables: Mapping[str, str] = MappingProxyType({})
) -> Ended:
    """Run a command line as `in_this_process` does, but restore only streams, variables and folder: much faster."""
    from raysweep.orchestrator.cli.app import main

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n") for _ in range(2))
    watchdog = threading.Timer(timeout, _thread.interrupt_main)
    watchdog.daemon = True
    with pytest.MonkeyPatch.context() as patch, open(os.devnull, encoding="utf-8") as empty:
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        patch.syspath_prepend(folder)  # as `python -m` does
        patch.setattr(
            "typer.main.get_command", _built
        )  # as many times as commands are run, it takes most of their time
        patch.setattr("raysweep.orchestrator.cli.app.exit_now", sys.exit)  # os._exit would end the tests
        patch.setattr(sys, "argv", ["raysweep", *arguments])
        patch.setattr(sys.modules["__main__"], "__package__", None, raising=False)  # usage lines would show pytest's
        for name, stream in (("stdin", empty), ("stdout", out), ("stderr", err)):
            patch.setattr(sys, name, stream)
        watchdog.start()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            traceback.print_exc(file=err)
            code = 1
        finally:
            watchdog.cancel()
    return Ended(arguments, code, _text(out), _text(err))


@functools.cache
def _built(app: typer.Typer) -> object:
    return build(app)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    written = stream.detach()
    assert isinstance(written, io.BytesIO)
    return written.getvalue().decode(errors="replace")


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR1)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Start without users' modules and cached results, as a new process would; restore the earlier state at the end."""
    variables, path, hook = dict(os.environ), list(sys.path), sys.excepthook
    folder, temporary = Path.cwd(), tempfile.tempdir
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
    standard_output = os.dup(1)
    tempfile.tempdir = None
    forget_users()
    try:
        yield
    finally:
        forget_users()
        tempfile.tempdir = temporary
        os.dup2(standard_output, 1)
        os.close(standard_output)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.chdir(folder)
        sys.path[:], sys.excepthook = path, hook
        for name in os.environ.keys() - variables.keys():
            del os.environ[name]
        os.environ.update(variables)


INSTALLED = (str(ROOT), sys.prefix, sys.base_prefix, os.path.dirname(os.__file__))
_not_users: dict[str, ModuleType] = {}
"""Modules seen before that are not users': by name, so that each is examined once."""


def forget_users() -> None:
    """Unload users' modules (neither Python's, nor of an installed package, nor ours); clear our functions' caches."""
    for name, module in list(sys.modules.items()):
        if _not_users.get(name) is not module:
            names = getattr(module, "__dict__", {})  # without the `__getattr__` of a module, which may raise anything
            places = [names.get("__file__"), *names.get("__path__", ())]
            paths = [place for place in places if isinstance(place, str) and os.path.isabs(place)]
            if any(not path.startswith(INSTALLED) for path in paths):
                del sys.modules[name]
                continue
            _not_users[name] = module
        if name.startswith("raysweep."):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
    importlib.invalidate_caches()
