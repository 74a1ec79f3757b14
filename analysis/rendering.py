"""Rendering of values and tables as text: absent values, significant digits, Markdown tables, JSON."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

ABSENT = "–"


def decimals(value: float, digits: int) -> int:
    """Return the number of decimal places at which a nonzero number shows `digits` significant digits."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))


def number(value: float | None, extreme: str) -> str:
    """Format a number with three significant digits; a dash for None.

    Args:
        value: the number.
        extreme: the format of numbers below 1e-4 or from 1e5 on, such as `.2g`.
    """
    if value is None:
        return ABSENT
    if value and not 1e-4 <= abs(value) < 1e5:
        return format(value, extreme)
    return f"{value:.{decimals(value, 3) if value else 0}f}"


def escaped(text: str) -> str:
    """Escape text for one field of a Markdown table. Line breaks become spaces."""
    return text.replace("|", "\\|").replace("\n", " ")


def markdown_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    numeric: Sequence[bool] = (),
    escape: Callable[[str], str] = escaped,
) -> str:
    """Format a Markdown pipe table.

    Args:
        head: the column headings.
        rows: the text of each field, row by row.
        numeric: for each column, whether it is aligned right; empty: all are aligned left.
        escape: the function that escapes the text of one field.
    """
    rule = ["---:" if right else "---" for right in numeric or [False] * len(head)]
    lines = [[escape(text) for text in head], rule, *([escape(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def wrapped(text: str, width: int, indent: str = "") -> str:
    """Wrap text into lines of at most `width` characters. Words, such as paths, are never broken."""
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def to_json(document: Mapping[str, Any]) -> str:
    """Encode a document as indented JSON, for programs and readers."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
