"""Text from strangers (cells, users' modules, command lines) made fit to record or show; counts and times in words."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

_SHOWN = 200


def encodable(text: str) -> bool:
    """Whether a store can hold it: no lone surrogates (what Python makes of bytes that are no UTF-8), no NUL."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def storable(text: str) -> str:
    """The text with a replacement character for what a store can't hold; where there is nothing, itself."""
    if text.isascii() and "\0" not in text:
        return text
    return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def message_of(error: BaseException) -> str:
    """An exception's message; its own `__str__` may raise anything."""
    try:
        return "".join([str(error)])  # a subclass of str could do as it likes
    except BaseException as broken:
        return f"<no message: {type(broken).__name__}>"


def listed(items: Iterable[object], most: int, between: str = ", ") -> str:
    """The first of them, and how many more there are: `1, 2, 3 and 4 more`."""
    texts = [str(item) for item in items]
    first = between.join(texts[:most])
    return first if len(texts) <= most else f"{first} and {len(texts) - most:,} more"


CELL_ID = re.compile(r"[0-9a-f]{24}")
"""What cells are called, in the store's files too."""


def short_repr(value: Any) -> str:
    """`repr`, short enough for a message; of integers too long for one, their size."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        size = f"of {value.bit_length():,} bits" if isinstance(value, int) else "too large to print"
        return f"<{type(value).__name__} {size}>"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}…{text[-_SHOWN // 2 :]}"


def one_line(error_type: object, message: object) -> str:
    """An error on one line: its type and the first line of its message."""
    first = next((line for line in str(message or "").splitlines() if line.strip()), "")
    return ": ".join(str(part) for part in (error_type, first) if part)[:160] or "no message"


def printable(value: Any) -> str:
    """Text without control characters, which could command a terminal."""
    return "".join(
        c if c in "\n\t" or c.isprintable() or unicodedata.category(c) == "Zs" else "\ufffd" for c in str(value)
    )


def at_store(store: str) -> str:
    """What commands need to find the store; nothing where it is the default."""
    return "" if store == "results" else f" --store {shlex.quote(store)}"


def duration(seconds: float) -> str:
    """`45 s`, `3 min`, `2.5 h`, `3 days`."""
    for unit, length, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def rate(cells_per_s: float) -> str:
    """`120.5 cells/s`, `12 cells a minute`, `3.1 cells an hour`."""
    if cells_per_s >= 1:
        return f"{cells_per_s:,.1f} cells/s"
    return (
        f"{60 * cells_per_s:.3g} cells a minute" if cells_per_s >= 1 / 60 else f"{3600 * cells_per_s:.2g} cells an hour"
    )


def count_cells(count: int) -> str:
    """Say `1 cell`, `2,000 cells`."""
    return f"{count:,} cell{'' if count == 1 else 's'}"
