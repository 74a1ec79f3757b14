"""Registries: dicts from name to entry. A missing name raises `UnknownName`, which suggests the nearest one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class UnknownName(LookupError):
    """Raised for an unknown name. The message suggests the nearest valid name and lists all valid ones."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> str:
    """Build a one-line message with the unknown name, the nearest valid name and all valid names."""
    names = sorted(valid, key=lambda valid_name: (int(valid_name) if valid_name.isdecimal() else 0, valid_name))
    near = nearest(str(name), names)
    hint = f" did you mean {near!r}?" if near else ""
    return f"unknown {kind} {shortened(repr(name))};{hint} Known: {', '.join(names) or 'none yet'}"


def nearest(name: str, valid: Sequence[str]) -> str | None:
    """Return the valid name that is spelled most similarly, or that has the same initials (lr, learning_rate).

    None if no name is similar, or if `name` is a number.
    """
    if name.isdecimal():
        return None
    near = difflib.get_close_matches(name, valid, n=1)
    alike = [each for each in valid if name in _short_forms(each) or each in _short_forms(name)]
    return next(iter([*near, *alike]), None)


def _short_forms(name: str) -> tuple[str, ...]:
    words = [word for word in name.split("_") if word]
    return ("".join(word[0] for word in words),) if len(words) > 1 else ()


def shortened(text: str) -> str:
    """Return the text without its middle if it has more than 200 characters, otherwise unchanged."""
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH // 2]}…{text[-_MAX_LENGTH // 2 :]}"


_MAX_LENGTH = 200


class Registry(dict[str, T]):
    """The named entries of one kind, such as all learning rules.

    Args:
        kind: the word for an entry in messages ("learning rule").
        entries: name -> entry.
    """

    def __init__(self, kind: str, entries: Mapping[str, T]) -> None:
        super().__init__(entries)
        self.kind = kind

    def __missing__(self, name: str) -> T:
        raise UnknownName(unknown_name(self.kind, name, self))
