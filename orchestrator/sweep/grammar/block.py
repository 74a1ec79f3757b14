"""A `[[grid]]` block of a sweep file, and the function that reads it.

`expansion` expands a block to combinations of values.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raysweep.orchestrator.sweep.grammar.axes import Axis, Value, is_values, read_axis, read_values
from raysweep.orchestrator.sweep.grammar.keys import MAX_POINTS, NAME
from raysweep.orchestrator.sweep.grammar.near_misses import ONLY_SEEDS, like_a_range
from raysweep.orchestrator.sweep.grammar.resources import Resources, read_resources, without_accelerator
from raysweep.orchestrator.sweep.grammar.settings import is_line, read_names, read_table
from raysweep.orchestrator.sweep.programs.program import Program
from raysweep.orchestrator.text import short_repr
from raysweep.workloads.registry import unknown_name

ANY_METHOD = "default"
"""The method of a block's cells if the block does not name one."""


@dataclass(frozen=True)
class Sample:
    """The key `sample` of a block: the number of combinations to draw, and the random seed of the draws."""

    count: int
    seed: int = 0


@dataclass(frozen=True)
class Block:
    """One `[[grid]]` block.

    Args:
        methods: its methods.
        ks: its values of k; None is a cell without k.
        axes: name of each setting -> its values.
        resources: the resources of its cells.
        zipped: groups of names whose lists are combined element by element, as by `zip`.
        where: predicates that all cells match.
        exclude: predicates that no cell matches.
        sample: the sample to draw; None: all combinations.
        names_method: whether the file names the method.
        name: the name by which other blocks refer to it.
        needs: names of other blocks. Each cell of this block needs cells of those blocks.
        workload: the function or program of this block alone; "": that of the sweep.
        program: the program of this block alone; None if it has none.
    """

    methods: tuple[str, ...]
    ks: tuple[int | None, ...]
    axes: Mapping[str, Axis]
    resources: Resources
    zipped: tuple[tuple[str, ...], ...] = ()
    where: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    sample: Sample | None = None
    names_method: bool = True
    name: str = ""
    needs: tuple[str, ...] = ()
    workload: str = ""  # a function or a program; "": the sweep's
    program: Program | None = None

    @property
    def is_product(self) -> bool:
        """Whether the block has all combinations of its lists: no zip, predicates, conditions or sample."""
        conditions = any(axis.when is not None for axis in self.axes.values())
        return not (self.zipped or self.where or self.exclude or self.sample or conditions)

    @property
    def size(self) -> int:
        """The number of combinations of values, including method and k.

        Predicates and conditions are ignored, so with them the number is only an upper limit.
        """
        lengths = {name: len(axis.values) for name, axis in self.axes.items()}
        lengths |= {"method": len(self.methods), "k": max(1, len(self.ks))}
        for group in self.zipped:
            lengths |= dict.fromkeys(group[1:], 1)
        if self.sample is not None:
            drawn = [group for group in self.zipped if not {"method", "k"} & set(group)]
            kept = {"method", "k", *(name for group in self.zipped if group not in drawn for name in group)}
            return self.sample.count * math.prod(length for name, length in lengths.items() if name in kept)
        return math.prod(lengths.values())

    def fixed(self, name: str, value: Value) -> Block:
        """Return the block with a single value for a setting, and without the setting in the groups of `zip`."""
        groups = (tuple(member for member in group if member != name) for group in self.zipped)
        zipped = tuple(group for group in groups if len(group) > 1)
        return replace(self, axes={**self.axes, name: Axis((value,))}, zipped=zipped)


def read_block(raw: Any, shared: Resources, where: str, quoted: dict[str, bool], problems: list[str]) -> Block:
    """Read a block; add problems to `problems`.

    Args:
        raw: the block's table.
        shared: the sweep's resources.
        where: the block's place in messages, such as `grid[0]`.
        quoted: see `settings.read_names`.
        problems: the list to which problems are added.
    """
    table = dict(read_table(raw, where, problems))
    if not isinstance(raw, dict):
        return Block((), (None,), {}, shared)
    given = table.pop("resources", {})
    resources = read_resources(given, shared, f"{where}.resources", problems)
    if not resources.gpus and (custom := without_accelerator(resources.custom)) != resources.custom:
        if not isinstance(given, dict) or "gpus" not in given or "accelerator" in given:
            problems.append(f"{where}: resources.accelerator names a GPU, but its cells have none; add gpus = 1")
        resources = replace(resources, custom=custom)
    for key in ("seed", "seeds"):
        if table.pop(key, None) is not None:
            problems.append(f"{where}.{key}: seeds belong at the top of the file and apply to every block")
    if "methods" in table and "method" not in table:
        problems.append(f"{where}.methods: the key is method, also for a list; write method = [...]")
        table["method"] = table.pop("methods")
    name = table.pop("block", "")
    if name != "" and not (isinstance(name, str) and re.fullmatch(NAME, name)):
        problems.append(
            f"{where}.block: {short_repr(name)} is no name; write a letter or digit, then up to 99 of A-Za-z0-9._-"
        )
        name = ""
    needs = table.pop("needs", [])
    needs = needs if isinstance(needs, list) else [needs]
    for each in needs:
        if not isinstance(each, str):
            problems.append(f"{where}.needs: {short_repr(each)} is not the name of a block")
    names_method = "method" in table
    zipped = set(_flat(table.get("zip", [])))
    methods = _methods(table.pop("method", ANY_METHOD), f"{where}.method", problems, repeats="method" in zipped)
    ks = _ks(table.pop("k"), f"{where}.k", problems, repeats="k" in zipped) if "k" in table else (None,)
    has_sample = "sample" in table
    sample = _sample(table.pop("sample"), f"{where}.sample", problems) if has_sample else None
    keys = {key: table.pop(key, []) for key in ("zip", "where", "exclude")}
    before = len(problems)
    names = read_names(table, where, quoted, problems, is_values)
    axes = {
        name: read_axis(value, f"{where}.{name}", problems, repeats=name in zipped) for name, value in names.items()
    }
    if not has_sample and len(problems) == before:
        problems += [
            f"{where}.{name}: {axis.distribution or 'choice'} draws values, but the block has no sample; add sample = "
            "20, or " + ("write the list alone" if axis.distribution is None else "list the values or their linspace")
            for name, axis in axes.items()
            if axis.is_drawn
        ]
    lists: dict[str, tuple[Any, ...]] = {name: () if axis.distribution else axis.values for name, axis in axes.items()}
    lists |= {"method": methods, "k": ks if ks != (None,) else ()}
    return Block(
        methods=methods,
        ks=ks,
        axes=axes,
        resources=resources,
        zipped=_zipped(keys["zip"], lists, f"{where}.zip", problems, complete=len(problems) == before),
        where=_predicates(keys["where"], f"{where}.where", problems),
        exclude=_predicates(keys["exclude"], f"{where}.exclude", problems),
        sample=sample,
        names_method=names_method,
        name=name,
        needs=tuple(dict.fromkeys(each for each in needs if isinstance(each, str))),
    )


def _flat(names: Any) -> list[str]:
    """Return the names in the value of the key `zip`, which is not checked yet."""
    parts = names if isinstance(names, list) else []
    return [name for part in parts for name in (part if isinstance(part, list) else [part]) if isinstance(name, str)]


def _methods(value: Any, where: str, problems: list[str], *, repeats: bool) -> tuple[str, ...]:
    methods = read_values(value, where, problems, own_rule=True, repeats=repeats)
    for method in methods:
        if not method or not is_line(method):
            problems.append(f"{where}: {short_repr(method)} is not one line of text of 1 to 300 characters")
    return tuple(method for method in methods if isinstance(method, str))


def _ks(value: Any, where: str, problems: list[str], *, repeats: bool) -> tuple[int | None, ...]:
    ks = read_values(value, where, problems, own_rule=True, repeats=repeats)
    for k in ks:
        if isinstance(k, bool) or not isinstance(k, int):
            ranges = f"; {ONLY_SEEDS}" if like_a_range(k) else ""
            problems.append(f"{where}: {short_repr(k)} is not an integer; give integers of 0 or more{ranges}")
        elif k < 0:
            problems.append(f"{where}: {short_repr(k)} is negative; give integers of 0 or more")
        elif k >= 2**63:
            problems.append(f"{where}: {short_repr(k)} does not fit in 64 bits; k is at most 2^63 - 1")
    return tuple(k for k in ks if isinstance(k, int) and not isinstance(k, bool) and 0 <= k < 2**63)


def _sample(value: Any, where: str, problems: list[str]) -> Sample | None:
    table = value if isinstance(value, dict) else {"count": value}
    for key in table:
        if key not in ("count", "seed"):
            problems.append(f"{where}: {unknown_name('key', key, ('count', 'seed'))}")
    count, seed = table.get("count"), table.get("seed", 0)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_POINTS:
        kept = ""
        if not isinstance(value, dict):
            kept = "; sample is the number of settings to draw: a setting of this name can only be in [config]"
        problems.append(f"{where}: {short_repr(count)} is not an integer from 1 to {MAX_POINTS:,}{kept}")
        return None
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        problems.append(f"{where}.seed: {short_repr(seed)} is not an integer of 0 or more")
        return None
    return Sample(count, seed)


def _predicates(value: Any, where: str, problems: list[str]) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    for text in given:
        if not is_line(text) or not text.strip():
            problems.append(f'{where}: {short_repr(text)} is not an SQL predicate, such as "lr < 0.1 or width = 64"')
    return tuple(text for text in given if isinstance(text, str))


def _zipped(
    value: Any, lists: Mapping[str, tuple[Any, ...]], where: str, problems: list[str], *, complete: bool
) -> tuple[tuple[str, ...], ...]:
    """Read the key `zip`, and return its groups of names; add problems to `problems`.

    Args:
        value: the value of the key.
        lists: the values of each name; empty if it has no list.
        where: the key's place in messages.
        problems: the list to which problems are added.
        complete: whether `lists` has all names of the block.
    """
    if value == []:
        return ()
    groups: Sequence[Any] = value if isinstance(value, list) and all(isinstance(g, list) for g in value) else [value]
    for group in groups:
        if not isinstance(group, list) or len(group) < 2 or not all(isinstance(name, str) for name in group):
            problems.append(f'{where}: {short_repr(group)} is not a list of two names or more, such as ["lr", "width"]')
            return ()
    counts = Counter(name for group in groups for name in group)
    problems += [f"{where}: {name!r} appears twice" for name, count in counts.items() if count > 1]
    for group in groups:
        missing = [name for name in group if not lists.get(name)]
        problems += [
            f"{where}: {name!r} has no list of values in this block"
            if name in lists
            else f"{where}: {unknown_name('setting', name, [n for n, values in lists.items() if values])}"
            for name in missing
            if complete or name not in lists
        ]
        known = {name: lists[name] for name in group if lists.get(name)}
        if len({len(values) for values in known.values()}) > 1:
            shown = ", ".join(f"{name} has {len(values)}" for name, values in known.items())
            problems.append(f"{where}: the lists differ in length: {shown}; give each as many values")
        elif not missing:
            steps = [repr(step) for step in zip(*known.values(), strict=True)]  # 1, 1.0 and true are three values
            if repeated := next((i for i, step in enumerate(steps) if step in steps[:i]), None):
                values = ", ".join(f"{name} = {short_repr(own[repeated])}" for name, own in known.items())
                problems.append(f"{where}: {values} appears twice; remove one of them")
    return tuple(tuple(group) for group in groups)
