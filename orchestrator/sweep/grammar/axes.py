"""The values of one setting in a `[[grid]]` block: a list, a linspace or logspace, or a distribution to draw from."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from raysweep.orchestrator.sweep.grammar.keys import MAX_POINTS, VALUE_NAMES
from raysweep.orchestrator.sweep.grammar.near_misses import like_a_range
from raysweep.orchestrator.sweep.grammar.settings import check_value, is_line
from raysweep.orchestrator.text import short_repr
from raysweep.workloads.registry import unknown_name

Scalar = bool | int | float | str
Value = Scalar | list[Any]

DISTRIBUTIONS = ("uniform", "loguniform", "integers")
"""Distributions that are defined by two bounds. The distribution `choice` is defined by a list instead."""
_SOURCES = tuple(name for name in VALUE_NAMES if name != "when")
_LIKENESS = 0.8
"""Minimum similarity at which a key counts as a misspelling of one of `VALUE_NAMES`; 1 is equality."""
_DIGITS = 12
"""A number of a linspace or logspace with more digits than this is rounded to `_ROUNDED` digits."""
_ROUNDED = 6


@dataclass(frozen=True)
class Axis:
    """The values of one setting.

    Args:
        values: the values to try or to draw from; empty for a distribution with bounds.
        distribution: an entry of `DISTRIBUTIONS`, or None.
        bounds: the lowest and highest value of the distribution.
        when: the predicate that decides whether a cell has the setting; None: all cells have it.
        is_drawn: whether the values can be used only in a block with a sample.
    """

    values: tuple[Value, ...] = ()
    distribution: str | None = None
    bounds: tuple[int | float, int | float] = (0, 0)
    when: str | None = None
    is_drawn: bool = False


def is_values(table: dict[str, Any]) -> bool:
    """Return whether a table in a block describes the values of a setting, rather than holding nested settings."""
    return (
        any(key in VALUE_NAMES and isinstance(item, list | str) for key, item in table.items())
        or (bool(table) and table.keys() <= set(VALUE_NAMES))
        or _is_misspelt(table)
    )


def _is_misspelt(table: dict[str, Any]) -> bool:
    """Tell whether the only key of a table resembles one of `VALUE_NAMES`, and its value is a list."""
    if len(table) != 1:
        return False
    key, value = next(iter(table.items()))
    is_near = bool(difflib.get_close_matches(key, _SOURCES, n=1, cutoff=_LIKENESS))
    return key not in VALUE_NAMES and isinstance(value, list) and is_near


def read_axis(value: Any, where: str, problems: list[str], *, repeats: bool = False) -> Axis:
    """Read the values that a block has for a setting; add problems to `problems`.

    Args:
        value: the value in the file.
        where: its place in messages.
        problems: the list to which problems are added.
        repeats: whether a value may appear several times, as in a list of `zip`.
    """
    if not isinstance(value, dict):
        return Axis(read_values(value, where, problems, repeats=repeats))
    when = value.get("when")
    if when is not None and (not is_line(when) or not when.strip()):
        problems.append(f"{where}.when: {short_repr(when)} is not an SQL predicate, such as \"optimizer = 'sgd'\"")
        when = None
    unknown = [key for key in value if key not in VALUE_NAMES]
    if unknown:
        name = where.partition(".")[2]
        setting = f'; if it is a setting, write it in quotes: "{name}.{unknown[0]}"' if _is_misspelt(value) else ""
        problems += [f"{where}: {unknown_name('key', key, VALUE_NAMES)}{setting}" for key in unknown]
        return Axis((), when=when)
    sources = [key for key in value if key != "when"]
    if len(sources) != 1:
        given = f"{', '.join(sources)} are given" if sources else "when stands alone"
        problems.append(f"{where}: {given}; give one of {', '.join(_SOURCES)}")
        return Axis((), when=when)
    source, given = sources[0], value[sources[0]]
    at = f"{where}.{source}"
    if source in ("values", "choice"):
        if not isinstance(given, list):
            problems.append(f"{at}: {short_repr(given)} is not a list; write {source} = [{_bare(given)}]")
            return Axis((), when=when)
        values = read_values(given, at, problems, repeats=repeats)
        return Axis(values, when=when, is_drawn=source == "choice")
    if source in ("linspace", "logspace"):
        return Axis(_space(source, given, at, problems), when=when)
    bounds = _bounds(source, given, at, problems)
    return Axis((), source, bounds, when, is_drawn=True)


def read_values(
    value: Any, where: str, problems: list[str], *, own_rule: bool = False, repeats: bool = False
) -> tuple[Any, ...]:
    """Return the values of a key; add problems to `problems`.

    Args:
        value: a value or a list of values.
        where: its place in messages.
        problems: the list to which problems are added.
        own_rule: whether the caller checks each value.
        repeats: whether a value may appear several times.
    """
    if value is None:
        problems.append(f"{where}: missing; give a value or a list of values")
        return ()
    values = value if isinstance(value, list) else [value]
    if not values:
        problems.append(f"{where}: an empty list makes no cells; add at least one value")
    for item in () if own_rule else values:
        check_value(item, where, problems)
    if repeats:
        return tuple(values)
    distinct = [v for i, v in enumerate(values) if not any(v == u and type(v) is type(u) for u in values[:i])]
    if len(distinct) < len(values):
        repeated = next(v for i, v in enumerate(values) if v in values[:i])
        problems.append(f"{where}: {short_repr(repeated)} appears twice; remove one of them")
    return tuple(distinct)


def _bare(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) and not like_a_range(value) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _space(kind: str, given: Any, where: str, problems: list[str]) -> tuple[int | float, ...]:
    if not isinstance(given, list) or len(given) != 3 or not all(map(_is_number, given)):
        problems.append(f"{where}: {short_repr(given)} is not [first, last, count], such as {_EXAMPLES[kind]}")
        return ()
    first, last, count = given
    if not isinstance(count, int) or not 2 <= count <= MAX_POINTS:
        problems.append(f"{where}: the count {short_repr(count)} is not an integer from 2 to {MAX_POINTS:,}")
        return ()
    if first == last:
        problems.append(f"{where}: both ends are {short_repr(first)}; give two different ends, or write the value")
        return ()
    if kind == "logspace" and (first <= 0 or last <= 0):
        exponents = f"; the ends are the values, not their exponents: write {_EXAMPLES[kind]}"
        problems.append(f"{where}: {short_repr(min(first, last))} is not positive{exponents}")
        return ()
    return linspace(first, last, count) if kind == "linspace" else logspace(first, last, count)


_EXAMPLES = {
    "linspace": "[0, 1, 5]", "logspace": "[1e-4, 1e-1, 4]", "uniform": "[0, 1]", "loguniform": "[1e-4, 1e-1]",
    "integers": "[1, 8]",
}  # fmt: skip


def linspace(first: float, last: float, count: int) -> tuple[int | float, ...]:
    """Return `count` evenly spaced numbers from `first` to `last`."""
    with localcontext(prec=50):
        low, high = Decimal(str(first)), Decimal(str(last))
        step = (high - low) / (count - 1)
        inner = [_printable(low + i * step, abs(step)) for i in range(1, count - 1)]
    return (first, *inner, last)


def logspace(first: float, last: float, count: int) -> tuple[int | float, ...]:
    """Return `count` numbers from `first` to `last`, each with the same ratio to the one before."""
    with localcontext(prec=50):
        low, high = Decimal(str(first)), Decimal(str(last))
        step = (high / low).ln() / (count - 1)
        values = [low * (i * step).exp() for i in range(1, count - 1)]
        inner = [_printable(value, value) for value in values]
    return (first, *inner, last)


def _printable(value: Decimal, scale: Decimal) -> int | float:
    """Round a number, unless it has at most `_DIGITS` significant digits.

    `_ROUNDED` digits are kept, counted from the place of the first digit of `scale`.
    """
    short = round(value, _DIGITS - 1 - value.adjusted()) if value else value
    if abs(short - value) > abs(value) * Decimal("1e-30"):
        short = round(value, _ROUNDED - 1 - scale.adjusted())
    return int(short) if short == short.to_integral_value() else float(short)


def _bounds(kind: str, given: Any, where: str, problems: list[str]) -> tuple[int | float, int | float]:
    if not isinstance(given, list) or len(given) != 2 or not all(map(_is_number, given)):
        problems.append(f"{where}: {short_repr(given)} is not [low, high], such as {_EXAMPLES[kind]}")
        return 0, 0
    low, high = given
    if low >= high:
        problems.append(f"{where}: {short_repr(given)} is not [low, high]: the first number is not below the second")
    elif kind == "loguniform" and low <= 0:
        problems.append(
            f"{where}: {short_repr(low)} is not positive; the bounds are the values, not their exponents: write "
            f"{_EXAMPLES[kind]}"
        )
    elif kind == "integers" and not (isinstance(low, int) and isinstance(high, int)):
        problems.append(f"{where}: {short_repr(given)} is not a pair of integers")
    elif kind == "integers" and not -(2**63) <= low < high < 2**63:
        problems.append(f"{where}: {short_repr(given)} does not fit in 64 bits")
    return low, high
