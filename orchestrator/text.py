"""Conversion of untrusted text into text that is safe to record or print; formatting of counts and times in words."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from raysweep.workloads.registry import shortened

CELL_ID = re.compile(r"[0-9a-f]{24}")
"""Pattern of a cell id. Names of files in the store are checked with it, too."""


def encodable(text: str) -> bool:
    """Tell whether a store can hold the text: no NUL, and no lone surrogates (Python's form of non-UTF-8 bytes)."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def storable(text: str) -> str:
    """Replace each character that a store cannot hold by U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def message_of(error: BaseException) -> str:
    """Return an exception's message, even if its `__str__` raises."""
    try:
        return "".join([str(error)])  # `__str__` may return a subclass of str, with methods of its own
    except BaseException as broken:
        return f"<no message: {type(broken).__name__}>"


def join_first(items: Iterable[object], limit: int, separator: str = ", ") -> str:
    """Join the first `limit` items, and append how many are left: `1, 2, 3 and 4 more`."""
    texts = [str(item) for item in items]
    first = separator.join(texts[:limit])
    return first if len(texts) <= limit else f"{first} and {len(texts) - limit:,} more"


def short_repr(value: Any) -> str:
    """Return a value's `repr`, shortened for a message; its type and size if the value is too large to convert."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        size = f"of {value.bit_length():,} bits" if isinstance(value, int) else "too large to print"
        return f"<{type(value).__name__} {size}>"
    return shortened(text)


def one_line(error_type: object, message: object) -> str:
    """Format an error on one line: its type and the first line of its message."""
    first = next((line for line in str(message or "").splitlines() if line.strip()), "")
    return ": ".join(str(part) for part in (error_type, first) if part)[:160] or "no message"


def printable(value: Any) -> str:
    """Replace non-printable characters by U+FFFD, since they could control a terminal."""
    return "".join(
        c if c in "\n\t" or c.isprintable() or unicodedata.category(c) == "Zs" else "\ufffd" for c in str(value)
    )


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Send the output of users' code inside the block to standard error, without control characters.

    Standard output is reserved for results, since a program may read it.
    """
    if sys.stderr is None:
        yield
        return
    stream: Any = _PrintableStream(sys.stderr)
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        yield


class _PrintableStream:
    """A text stream that replaces control characters by U+FFFD, and writes to another stream.

    Args:
        stream: the other stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text. Control characters are replaced by U+FFFD."""
        self._stream.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def at_store(store: str) -> str:
    """Return the `--store` option for a command line; "" for the default store."""
    return "" if store == "results" else f" --store {shlex.quote(store)}"


def shell_quoted(text: str) -> str:
    """Quote text for a shell: with double quotes, or with single quotes if it has a `!`, which shells may expand."""
    return shlex.quote(text) if "!" in text else '"' + re.sub(r'(["$`\\])', r"\\\1", text) + '"'


def duration(seconds: float) -> str:
    """Format a duration in words: `45 s`, `3 min`, `2.5 h`, `3 days`."""
    for unit, length, limit in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < limit * length:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def rate(cells_per_s: float) -> str:
    """Format a rate in words: `120.5 cells/s`, `12 cells a minute`, `3.1 cells an hour`."""
    if cells_per_s >= 1:
        return f"{cells_per_s:,.1f} cells/s"
    return (
        f"{60 * cells_per_s:.3g} cells a minute" if cells_per_s >= 1 / 60 else f"{3600 * cells_per_s:.2g} cells an hour"
    )


def count_cells(count: int) -> str:
    """Format a number of cells in words: `1 cell`, `2,000 cells`."""
    return f"{count:,} cell{'' if count == 1 else 's'}"


def pace_in_words(cells_per_s: float | None, seconds_left: float | None) -> str:
    """Format a rate and a time left: `; 12 cells a minute, about 3 min left`. A part that is None is left out."""
    text = f"; {rate(cells_per_s)}" if cells_per_s else ""
    return text if seconds_left is None else f"{text}, about {duration(seconds_left)} left"
