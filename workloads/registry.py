"""Registries: dicts from name to entry. A KeyError suggests the nearest name and lists the valid ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class UnknownName(LookupError):
    """Raised for an unknown name. The message suggests the nearest valid name and lists all valid ones."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> str:
    """Format one line with the unknown name, the nearest valid name and all valid names."""
    names = sorted(valid)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r};{hint} Known: {', '.join(names) or 'none yet'}"


class Registry(dict[str, T]):
    """The named entries of one kind, such as all learning rules.

    Args:
        kind: the word for an entry in messages ("learning rule").
        entries: name -> entry, a literal.
    """

    def __init__(self, kind: str, entries: Mapping[str, T]) -> None:
        super().__init__(entries)
        self.kind = kind

    def __missing__(self, name: str) -> T:
        raise UnknownName(unknown_name(self.kind, name, self))
