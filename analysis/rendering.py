"""Rendering of values and tables: the sign for an absent number, digits, Markdown tables, wrapped text, JSON."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

ABSENT = "–"


def decimals(value: float, digits: int) -> int:
    """Decimal places that show a number, not 0, with so many significant digits."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))


def escaped(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def markdown_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    numeric: Sequence[bool] = (),
    escape: Callable[[str], str] = escaped,
) -> str:
    """A pipe table.

    Args:
        head: the columns' names.
        rows: text of each cell.
        numeric: which columns are aligned to the right; empty: none.
        escape: makes text fit for a cell.
    """
    rule = ["---:" if right else "---" for right in numeric or [False] * len(head)]
    lines = [[escape(text) for text in head], rule, *([escape(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def wrapped(text: str, width: int, indent: str = "") -> str:
    """Text in lines of at most `width` letters; words, as paths and commands are, stay whole."""
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def to_json(document: Mapping[str, Any]) -> str:
    """JSON for programs that is legible too."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
