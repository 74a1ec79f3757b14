"""The output of a cell. While the cell runs, file descriptors 1 and 2 of the worker write to a file.

Native code and child processes write to the descriptors, too, so the file holds everything that they print. It
is a file and not a pipe, because a full pipe would block native code that holds the GIL. Lines that Ray's own
threads print cannot be told apart from the cell's.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import fcntl
import functools
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from raysweep.orchestrator.run.messages import Printed

HEAD, TAIL = 64 * 2**10, 192 * 2**10
"""Bytes of an attempt's output that are recorded: at its beginning, and at its end."""
_FREE = 3  # the first descriptor after those of standard streams
_BLOCK = 4096
_SPARE = 16 * TAIL  # bytes between head and tail before the file's middle is freed
_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
"""Escape sequences that set colours, move the cursor, or name the window."""


_NOTHING = Printed("", 0, 0)


class OutputFile:
    """The file for the output of a chunk's cells, one cell after another.

    Args:
        path: the file. After a cell that printed, it is replaced by a new file of the same name. A child process
            that outlived the cell may still write to the old file.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._file = self._open()
        self._saved = tuple(_copy(number) for number in (1, 2))
        self._freed = 0
        self._fresh = False  # descriptors 1 and 2 lead to an empty file

    def _open(self) -> int:
        self._path.unlink(missing_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if file < _FREE:  # the process was started without it, or a cell has closed it
            low, file = file, fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _FREE)
            os.close(low)
        self._inode = os.fstat(file).st_ino
        return file

    @contextlib.contextmanager
    def captured(self) -> Iterator[None]:
        """Redirect descriptors 1 and 2, `sys.stdout` and `sys.stderr` to the file inside the block."""
        before = sys.stdout, sys.stderr
        for stream in before:
            _flush(stream)
        try:
            self.begin()
            yield
        finally:
            self.flush()
            sys.stdout, sys.stderr = before
            for number, saved in zip((1, 2), self._saved, strict=True):
                with contextlib.suppress(OSError):  # a cell may have closed it
                    os.close(number) if saved is None else os.dup2(saved, number)

    def begin(self) -> None:
        """Begin the output of the next cell. Called inside the block of `captured`."""
        if not self._fresh:
            if self.size():
                os.close(self._file)
                self._file, self._freed = self._open(), 0
            for number in (1, 2):
                os.dup2(self._file, number)
        sys.stdout, sys.stderr = _stream(1), _stream(2)

    def printed(self) -> Printed:
        """Return the output of the cell that has just ended. The call is cheap if the cell printed nothing."""
        self.flush()
        self._fresh = self._untouched(1) and self._untouched(2)
        return _NOTHING if self._fresh else read(self._file)

    def _untouched(self, number: int) -> bool:
        """Tell whether a descriptor still refers to the file, and the file is empty."""
        try:
            status = os.fstat(number)
        except OSError:  # the cell has closed it
            return False
        return status.st_ino == self._inode and not status.st_size

    def flush(self) -> None:
        """Flush the buffers of Python's output streams."""
        for number in (1, 2):
            _flush(_stream(number))

    def size(self) -> int:
        """Number of bytes printed by the running cell."""
        return os.fstat(self._file).st_size

    def end(self, count: int) -> tuple[int, bytes]:
        """Return the size of the output in bytes, and its last `count` bytes."""
        size = self.size()
        return size, os.pread(self._file, count, max(0, size - count))

    def free_middle(self) -> None:
        """Free the disk space of the bytes between head and tail. Linux only; elsewhere the file keeps growing."""
        start = -(-max(HEAD, self._freed) // _BLOCK) * _BLOCK
        length = (self.size() - TAIL - start) // _BLOCK * _BLOCK
        if length >= _SPARE and _punch(self._file, start, length):
            self._freed = start + length

    def close(self) -> None:
        """Remove the file."""
        os.close(self._file)
        for saved in self._saved:
            if saved is not None:
                os.close(saved)
        self._path.unlink(missing_ok=True)


def output_path(fault_file: Path) -> Path:
    """Return the path of a chunk's output file, given the path of the chunk's fault file."""
    return fault_file.with_suffix(".output")


def left_output(fault_file: Path) -> Printed | None:
    """Return the output of a dead worker's last cell, and remove its file; None if the file is not on this machine."""
    path = output_path(fault_file)
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return read(file)
    finally:
        os.close(file)
        path.unlink(missing_ok=True)


def read(file: int) -> Printed:
    """Read the head and the tail of a file, as text."""
    size = os.fstat(file).st_size
    if size <= HEAD + TAIL:
        return Printed(clean(os.pread(file, size, 0)), size, 0)
    left_out = size - HEAD - TAIL
    head, tail = os.pread(file, HEAD, 0), os.pread(file, TAIL, size - TAIL)
    return Printed(f"{clean(head)}\n... {left_out:,} bytes left out ...\n{clean(tail)}", size, left_out)


def clean(data: bytes) -> str:
    """Decode output to text. Escape sequences, and text that a carriage return overwrote, are removed."""
    text = data.decode("utf-8", errors="replace")
    if "\x1b" in text:
        text = _CONTROL.sub("", text)
    if "\r" not in text:
        return text
    return "\n".join(next(filter(None, reversed(line.split("\r"))), "") for line in text.split("\n"))


def _copy(number: int) -> int | None:
    try:
        copy = os.dup(number)
    except OSError:  # this process was started without it
        return None
    os.set_inheritable(copy, False)
    return copy


def _flush(stream: TextIO | None) -> None:
    try:
        if stream is not None:
            stream.flush()
    except (ValueError, OSError):
        return  # closed by the cell, or a full disk


_streams: dict[int, TextIO] = {}


def _stream(number: int) -> TextIO:
    """Return a stream that writes to a descriptor. It is reused, since log handlers may hold it after the cell."""
    stream = _streams.get(number)
    if stream is None or stream.closed:
        raw = io.FileIO(number, "wb", closefd=False)
        stream = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding="utf-8", errors=_REPLACED, newline="\n", line_buffering=True
        )
        _streams[number] = stream
    return stream


_REPLACED = "raysweep.replaced"


def _replaced(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "\ufffd".encode() * (error.end - error.start), error.end  # as bytes: text would have to be ASCII


codecs.register_error(_REPLACED, _replaced)

_PUNCH_HOLE, _KEEP_SIZE = 2, 1


def _punch(file: int, start: int, length: int) -> bool:
    """Free the disk space of a range of a file, which then reads as zeros. Returns False if this is not possible."""
    libc = _libc()
    if libc is None:
        return False
    arguments = ctypes.c_int64(start), ctypes.c_int64(length)
    return bool(libc.fallocate(file, _PUNCH_HOLE | _KEEP_SIZE, *arguments) == 0)


@functools.cache
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
