"""Expansion of a block to combinations of values: products, zipped lists, samples, conditions, predicates.

There are no side effects.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from raysweep.orchestrator.sweep.grammar.block import Block, Sample
from raysweep.orchestrator.sweep.grammar.conditions import PredicateError, matching_rows, used_names
from raysweep.orchestrator.sweep.grammar.sampling import draw, draw_index
from raysweep.orchestrator.sweep.identity import canonical_json

Row = dict[str, Any]
"""Name -> value, including `method` and `k`. A setting whose condition `when` is not met is missing."""
_DRAWS_PER_SETTING = 100
_MORE_DRAWS = 2_000
"""A sample of n combinations ends with an error after n * `_DRAWS_PER_SETTING` draws plus this many."""
_BATCH = 256


class Point(NamedTuple):
    """One combination of a block: a method, a k, and a value for each other setting."""

    method: str
    k: int | None
    settings: Mapping[str, Any]


def points(block: Block, config: Mapping[str, Any]) -> Iterator[Point]:
    """Yield the distinct points of a block. Their settings include those of `config`.

    Raises:
        PredicateError: a predicate is invalid, the predicates leave no combination, conditions refer to each other in
            a circle, or a sample is larger than its block; the message begins with the key.
    """
    if block.is_product:
        names = list(block.axes)
        values = [axis.values for axis in block.axes.values()]
        for method, k in itertools.product(block.methods, block.ks or (None,)):
            for combination in itertools.product(*values):
                yield Point(method, k, {**config, **dict(zip(names, combination, strict=True))})
        return
    if circle := _circle(block):
        raise PredicateError(circle)
    rows = _all(block, config) if block.sample is None else _drawn(block, config, block.sample)
    for row in rows:
        yield Point(row.pop("method"), row.pop("k"), {**config, **row})


def predicate_problems(block: Block, config: Mapping[str, Any]) -> list[str]:
    """Describe the problems of a block's predicates that can be detected without expanding it.

    Each message begins with the key.
    """
    names = {"method", "k", *config, *block.axes}
    predicates: list[tuple[str, str, str | None]]
    predicates = [(f".{key}", text, None) for key in ("where", "exclude") for text in getattr(block, key)]
    predicates += [(f".{name}.when", axis.when, name) for name, axis in block.axes.items() if axis.when is not None]
    lines = []
    for key, text, own in predicates:
        try:
            _matches(key, text, [], config, names - {own}, own)
        except PredicateError as error:
            lines.append(str(error))
    return [*lines, *filter(None, [_circle(block)])]


def _circle(block: Block) -> str:
    """Describe settings whose conditions `when` refer to each other in a circle; "" if there are none."""
    names = [name for name, axis in block.axes.items() if axis.when is not None]
    used = {name: used_names(block.axes[name].when or "", names) - {name} for name in names}
    left: set[str] = set()
    while left != set(names):  # without those that use none of the others, or that none of the others uses
        left = set(names)
        names = [name for name in names if used[name] & left and any(name in used[other] for other in names)]
    if not names:
        return ""
    return f".{names[0]}.when: the conditions refer to each other in a circle: {', '.join(names)}; remove one of them"


def _dimensions(block: Block) -> list[tuple[tuple[str, ...], list[tuple[Any, ...]]]]:
    """Return the independent dimensions of a block: names that vary together, and their tuples of values.

    Settings with a distribution are left out.
    """
    values: dict[str, tuple[Any, ...]] = {"method": block.methods, "k": block.ks or (None,)}
    values |= {name: axis.values for name, axis in block.axes.items() if axis.distribution is None}
    group_of = {name: group for group in block.zipped for name in group}
    groups = dict.fromkeys(group_of.get(name, (name,)) for name in values)
    return [(group, list(zip(*(values[name] for name in group), strict=True))) for group in groups]


def _all(block: Block, config: Mapping[str, Any]) -> list[Row]:
    rows = _filtered(_unique(_conditioned(_product(_dimensions(block)), block, config)), block, config)
    if not rows and block.methods:
        key = "where" if block.where else "exclude"
        raise PredicateError(f".{key}: leaves none of the block's settings")
    return rows


def _product(dimensions: list[tuple[tuple[str, ...], list[tuple[Any, ...]]]]) -> list[Row]:
    names = [name for group, _ in dimensions for name in group]
    combinations = itertools.product(*(values for _, values in dimensions))
    return [dict(zip(names, itertools.chain(*combination), strict=True)) for combination in combinations]


def _drawn(block: Block, config: Mapping[str, Any], sample: Sample) -> list[Row]:
    """Draw the combinations of a sample. Each draw is combined with all methods and values of k."""
    dimensions = _dimensions(block)
    kept = [(group, values) for group, values in dimensions if {"method", "k"} & set(group)]
    lists = [(group, values) for group, values in dimensions if not {"method", "k"} & set(group)]
    drawn = {name: axis for name, axis in block.axes.items() if axis.distribution is not None}
    multiplied = _product(kept)
    result: list[Row] = []
    seen: set[str] = set()
    count = 0
    draws = _DRAWS_PER_SETTING * sample.count + _MORE_DRAWS
    for start in range(0, draws, _BATCH):
        rows: list[Row] = []
        for number in range(start, start + _BATCH):
            row: Row = {}
            for group, values in lists:
                row |= zip(group, values[draw_index(len(values), sample.seed, number, ",".join(group))], strict=True)
            row |= {name: draw(axis, sample.seed, number, name) for name, axis in drawn.items()}
            ordered = {name: row[name] for name in block.axes if name in row}
            rows += [{**combination, **ordered, _NUMBER: number} for combination in multiplied]
        rows = _filtered(_conditioned(rows, block, config), block, config)
        for _, of_draw in itertools.groupby(rows, key=lambda row: row[_NUMBER]):
            plain = [{name: value for name, value in row.items() if name != _NUMBER} for row in of_draw]
            new = {text: row for row in plain if (text := canonical_json(row)) not in seen}
            if new:
                seen |= new.keys()
                result += new.values()
                count += 1
            if count == sample.count:
                return result
    raise PredicateError(
        f".sample: {draws:,} draws gave only {count:,} distinct setting{'' if count == 1 else 's'}, fewer than "
        f"{sample.count:,}; ask for fewer, or give the settings more values"
    )


_NUMBER = "\0"
"""Key of a row for the number of its draw. No setting can have this name."""


def _conditioned(rows: list[Row], block: Block, config: Mapping[str, Any]) -> list[Row]:
    """Remove each setting from the rows that do not match its `when`. Conditions apply in the order of the file."""
    names = {"method", "k", *config, *block.axes}
    for name, axis in block.axes.items():
        if axis.when is not None:
            matches = _matches(f".{name}.when", axis.when, rows, config, names - {name}, own=name)
            rows = [
                row if match else {key: value for key, value in row.items() if key != name}
                for row, match in zip(rows, matches, strict=True)
            ]
    return rows


def _filtered(rows: list[Row], block: Block, config: Mapping[str, Any]) -> list[Row]:
    names = {"method", "k", *config, *block.axes}
    for key, predicates in (("where", block.where), ("exclude", block.exclude)):
        for predicate in predicates:
            matches = _matches(f".{key}", predicate, rows, config, names)
            rows = [row for row, match in zip(rows, matches, strict=True) if match == (key == "where")]
    return rows


def _matches(
    key: str, predicate: str, rows: list[Row], config: Mapping[str, Any], names: Collection[str], own: str | None = None
) -> list[bool]:
    try:
        return matching_rows(predicate, [{**config, **row} for row in rows], names, own)
    except PredicateError as error:
        raise PredicateError(f"{key}: {error}") from None


def _unique(rows: Iterable[Row]) -> list[Row]:
    return list({canonical_json(row): row for row in reversed(list(rows))}.values())[::-1]
