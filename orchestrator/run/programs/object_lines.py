"""Reads JSON objects from a program's output. An object is one line, or several lines as by `json.dumps(indent=2)`."""

from __future__ import annotations

import ast
import json
from typing import Any

MAX_LINES, MAX_LITERAL = 10_000, 10_000
"""Maximum number of lines of one object, and of characters of a printed Python dict."""


class ObjectLines:
    """Finds JSON objects in a stream of lines. A printed Python dict (`print({"loss": 0.5})`) counts as one."""

    def __init__(self) -> None:
        self._open: list[str] = []  # lines of an object that has not ended

    def add(self, line: str) -> dict[str, Any] | None:
        """Add the next line; return the object that this line completes, if any."""
        text = line.rstrip()
        if text == "{" or len(self._open) >= MAX_LINES:
            self._open = [text] if text == "{" else []
            return None
        if self._open:
            self._open.append(text)
        if text == "}":
            whole, self._open = "\n".join(self._open), []
            return _parsed(whole)
        return _parsed(text) if text.lstrip().startswith("{") and text.endswith("}") else None


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = _literal(text) if "'" in text and len(text) <= MAX_LITERAL else None
    return row if isinstance(row, dict) else None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
