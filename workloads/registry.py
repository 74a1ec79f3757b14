"""The one registry mechanism: a literal dict whose misses say what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class UnknownName(LookupError):
    """A name that no entry has; its text names the near miss and every valid name."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """One line: what is unknown, what was probably meant, what is valid."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r};{hint} Known: {', '.join(names)}"


class Registry(dict[str, T]):
    """Entries of one kind by name.

    Args:
        kind: what an entry is, as a message calls it ("learning rule").
        entries: the literal mapping.
    """

    def __init__(self, kind: str, entries: Mapping[str, T]) -> None:
        super().__init__(entries)
        self.kind = kind

    def __missing__(self, name: str) -> T:
        raise UnknownName(unknown_name(self.kind, name, self))
