"""Protection against standard streams that are closed from the start, or whose reader ends while a launch runs."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any

_NOBODY_READS = (errno.EPIPE, errno.EIO)  # a pipe without a reader, a terminal that was closed


def open_missing() -> None:
    """Open the null device for each standard stream that the caller of this process has closed.

    Otherwise the next file to be opened would get the stream's descriptor, and hence its output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one, unless it is taken
            setattr(sys, name, os.fdopen(descriptor, "w" if number else "r", encoding="utf-8", closefd=False))


def outlive_readers() -> list[OSError]:
    """Let this process go on when its output cannot be written any more. Later output is dropped.

    Returns:
        A list to which errors of later writes will be added. The loss of the reader does not count as an error.
    """
    problems: list[OSError] = []
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        buffer = getattr(stream, "buffer", None)
        is_unbuffered = isinstance(buffer, io.FileIO)  # with PYTHONUNBUFFERED
        if is_unbuffered or isinstance(getattr(buffer, "raw", None), io.FileIO):  # not in a test or a notebook
            stream.flush()
            file = io.BufferedWriter(_Output(stream.fileno(), problems))
            by_line = is_unbuffered or stream.line_buffering or name == "stderr"
            setattr(sys, name, io.TextIOWrapper(file, stream.encoding, stream.errors, line_buffering=by_line))
    return problems


class _Output(io.FileIO):
    """An output file that is replaced by the null device at the first error of a write."""

    def __init__(self, descriptor: int, problems: list[OSError]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._problems = problems

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _NOBODY_READS:
                self._problems.append(error)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return len(data)
