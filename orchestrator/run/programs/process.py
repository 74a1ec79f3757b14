"""A program's process group: how it is started, watched and ended.

If this worker is killed, its guard (`run.guard`) ends the program.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import secrets
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

MARK = "RAYSWEEP_PROGRAM"
"""Environment variable that marks a program and everything that it starts."""
POLL_S = 0.5
"""Seconds between two calls of `tick` in `RunningProgram.watch`."""
GRACE_S = 0.5
"""Seconds between SIGTERM and SIGKILL when a program is ended. Must be less than any result of `timeout.hard_grace`."""
MAX_LINE = 2**16  # characters; a longer line is cut
_BLOCK = 2**16
_LAST_READS = 32  # of a pipe after its program has ended; a pipe holds at most 1 MiB by default


class Usage(NamedTuple):
    """CPU seconds and peak memory of a program and its children."""

    cpu_seconds: float
    peak_rss: int  # in the units of `ru_maxrss`


_LINE_END = re.compile(r"(\r\n|\r|\n)")


class Lines:
    """Splits a stream of bytes into lines, and also writes the decoded text to a stream of this process.

    A carriage return ends a line as well, so each state of a progress bar is a line.

    Args:
        stream: function that returns the stream to write the text to.
        receive: called for each line with two arguments: the line without its end, and True if the next line
            overwrites it on a terminal.
    """

    def __init__(self, stream: Callable[[], IO[str]], receive: Callable[[str, bool], None]) -> None:
        self._stream, self._receive = stream, receive
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def feed(self, data: bytes, final: bool = False) -> None:
        """Process the next bytes of the stream. With `final`, the stream has ended, and so has its last line."""
        text = self._decoder.decode(data, final)
        if text:
            with contextlib.suppress(OSError, ValueError):  # a full disk or a closed terminal does not end the cell
                self._stream().write(text)
                self._stream().flush()
        *parts, rest = _LINE_END.split(self._rest + text)
        self._rest = rest[-MAX_LINE:]
        for line, end in zip(parts[::2], parts[1::2], strict=True):
            if line:
                self._receive(line[:MAX_LINE], end == "\r")
        if final and self._rest:
            self._receive(self._rest, False)
            self._rest = ""


class RunningProgram:
    """A started program. Use it as a context manager: at the end of the block its process group is killed.

    After an exception, processes that have left the group are killed as well.

    Args:
        argv: the words of its command line.
        folder: its current folder.
        env: its environment.
        foreground: whether it runs in this terminal's foreground, with the terminal's standard input.

    Raises:
        OSError: the program cannot be started.
    """

    def __init__(self, argv: Sequence[str], folder: Path, env: Mapping[str, str], *, foreground: bool = False) -> None:
        self._own_group = not foreground
        self._mark = secrets.token_hex(8)
        self.exit_code: int | None = None
        self.usage = Usage(0.0, 0)
        pipes = os.pipe(), os.pipe()
        self._pipes = [read for read, _ in pipes]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                argv,
                cwd=folder,
                env={**env, MARK: self._mark},
                stdin=None if foreground else subprocess.DEVNULL,
                stdout=pipes[0][1],
                stderr=pipes[1][1],
                start_new_session=not foreground,
            )
        except BaseException:
            self._close()
            raise
        finally:
            for _, written in pipes:
                os.close(written)

    def __enter__(self) -> RunningProgram:
        return self

    def watch(self, stdout: Lines, stderr: Lines, tick: Callable[[], None]) -> int:
        """Read the program's output until the program ends, and return its exit code.

        If a signal killed the program, the exit code is minus the signal's number.

        Args:
            stdout: receives its standard output.
            stderr: receives its standard error.
            tick: called every `POLL_S` seconds.
        """
        sinks = {}
        with selectors.DefaultSelector() as selector:
            for file, lines in zip(self._pipes, (stdout, stderr), strict=True):
                os.set_blocking(file, False)
                selector.register(file, selectors.EVENT_READ)
                sinks[file] = lines
            ended = _ended_file(self._process.pid)
            try:
                if ended is not None:
                    selector.register(ended, selectors.EVENT_READ)
                last = time.monotonic()
                while not self._reap(block=False):
                    # Without a file that is readable at its end, the program's end is looked for instead.
                    for key, _ in selector.select(POLL_S if ended is not None else 0.02):
                        if key.fd in sinks and not _read(key.fd, sinks[key.fd]):
                            selector.unregister(key.fd)
                    if time.monotonic() - last >= POLL_S:
                        tick()
                        last = time.monotonic()
            finally:
                if ended is not None:
                    os.close(ended)
        self._end_group()
        for file, lines in sinks.items():
            for _ in range(_LAST_READS):
                if not _read(file, lines):
                    break
            lines.feed(b"", final=True)
        return self.exit_code or 0

    def terminate(self, grace_s: float) -> None:
        """Send SIGTERM to the process group, and wait up to `grace_s` seconds for the program to end."""
        self._signal(signal.SIGTERM)
        limit = time.monotonic() + grace_s
        while not self._reap(block=False) and time.monotonic() < limit:
            time.sleep(0.01)

    def __exit__(self, *error: object) -> None:
        if self.exit_code is None:  # an exception: a timeout, a cancellation, our own error
            try:
                self.terminate(GRACE_S)
            finally:
                self._end_group()
                self._reap(block=True)
        if any(error):
            _end_marked(self._mark)  # children that have left the group
        self._close()

    def _close(self) -> None:
        for file in self._pipes:
            os.close(file)

    def _end_group(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._own_group:
                os.killpg(self._process.pid, number)  # its number is not reused while the group has a process
            elif self.exit_code is None:
                os.kill(self._process.pid, number)

    def _reap(self, *, block: bool) -> bool:
        """Collect the program's exit code if it has ended, and return whether it has. `block` waits for the end."""
        if self.exit_code is not None:
            return True
        pid, status, usage = os.wait4(self._process.pid, 0 if block else os.WNOHANG)
        if pid == 0:
            return False
        self.exit_code = self._process.returncode = os.waitstatus_to_exitcode(status)
        self.usage = Usage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
        return True


def _end_marked(mark: str) -> None:
    """Kill the processes whose environment contains this mark. Works on Linux only."""
    word = f"\0{MARK}={mark}\0".encode()
    for _ in range(10):  # one may start another meanwhile
        killed = 0
        for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
            if name.isdigit():
                with contextlib.suppress(OSError):  # it has ended, or is another user's
                    if word in b"\0" + Path("/proc", name, "environ").read_bytes():
                        os.kill(int(name), signal.SIGKILL)
                        killed += 1
        if not killed:
            return


def _ended_file(pid: int) -> int | None:
    """Return a file descriptor that becomes readable when the process ends; None if the system has none."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # an older kernel
        return None


def _read(file: int, lines: Lines) -> bool:
    """Pass the bytes that a pipe holds now to `lines`. Returns False if there were none."""
    try:
        data = os.read(file, _BLOCK)
    except BlockingIOError:
        return False
    lines.feed(data)
    return bool(data)
