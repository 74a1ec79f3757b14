"""Hints about common mistakes in sweep files: TOML syntax, and text that was meant as a range."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from raysweep.workloads.registry import shortened

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"\s*{_NUMBER}\s*(?:\.\.+|…)\s*{_NUMBER}\s*", re.ASCII)
_PLACE = re.compile(r"at line (\d+), column \d+")
_LINE = re.compile(r"\s*(?P<key>[\w.-]+)\s*(?P<sign>[:=])\s*(?P<value>[^#]*?)\s*(?:#.*)?")
_WORDS = {"True": "true", "False": "false", "None": "", "null": "", "nil": ""}

ONLY_SEEDS = "only seeds may be a range; list the values one by one"


def like_a_range(value: Any) -> bool:
    """Tell whether a value is text like `1e-4..1e-1`."""
    return isinstance(value, str) and _RANGE.fullmatch(value) is not None


def toml_hint(text: str, error: tomllib.TOMLDecodeError) -> str:
    """Return a hint to append to the message of a TOML syntax error: the line's text and its likely correction.

    "" if the line is unknown.
    """
    if text.startswith("\ufeff"):
        return "; the file begins with a byte-order mark: save it as UTF-8 without one"
    place = _PLACE.search(str(error))
    lines = text.split("\n")
    if place is None or int(place[1]) > len(lines):
        return ""
    line = lines[int(place[1]) - 1].strip()
    if "overwrite" in str(error):
        return f": {shortened(line)}; the key has a value already: remove one of them"
    is_character = "haracter" in str(error)  # an illegal one, or an escaped one
    if line.count('"') % 2:
        return f": {shortened(line)}; a quote is not closed"
    return f": {shortened(line)}{_correction(line, not is_character)}" if line else ""


def _correction(line: str, is_value: bool) -> str:
    parts = _LINE.fullmatch(line)
    if parts is None:
        return ""
    key, value = parts["key"], parts["value"]
    if _RANGE.fullmatch(value):
        return f'; a range is text: {key} = "{value}"' if key == "seeds" else f"; {ONLY_SEEDS}"
    if value in _WORDS:
        word = _WORDS[value]
        return f"; write {key} = {word}" if word else f"; TOML has no {value}: leave the key out"
    if re.fullmatch(r"[A-Za-z_][\w:./-]*", value):
        return f'; text stands in quotes: {key} = "{value}"'
    if re.match(r"\(.*\)$", value):
        return f"; a list stands in square brackets: {key} = [{value[1:-1]}]"
    if parts["sign"] == ":":
        return f"; TOML has = between key and value: {key} = {value}"
    return f"; write {key} = a number, text in quotes, true, false, or a list of these in square brackets" * is_value
