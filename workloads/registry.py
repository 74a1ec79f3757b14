"""Registries: literal dicts whose KeyError suggests the nearest name and lists the valid ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class UnknownName(LookupError):
    """An unknown name; the message suggests the nearest valid name and lists all of them."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> str:
    """A one-line message with the unknown name, the nearest valid one and all valid ones."""
    names = sorted(valid)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r};{hint} Known: {', '.join(names) or 'none yet'}"


class Registry(dict[str, T]):
    """Entries of one kind: name -> entry.

    Args:
        kind: the word for an entry in messages ("learning rule").
        entries: the literal mapping.
    """

    def __init__(self, kind: str, entries: Mapping[str, T]) -> None:
        super().__init__(entries)
        self.kind = kind

    def __missing__(self, name: str) -> T:
        raise UnknownName(unknown_name(self.kind, name, self))
