"""Text from strangers (cells, users' modules, command lines): made fit to be recorded or shown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

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
