"""A walk over two versions of a source, side by side. It compares all code that the workload's function reaches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from raysweep.orchestrator.code.effects import ORDERED
from raysweep.orchestrator.code.names import Names, Target, loaded
from raysweep.orchestrator.code.units import Unit

Chain = tuple[str, ...]
Imported = tuple[dict[str, Chain], dict[str, Chain]]

EVALUATED = frozenset(["eval", "exec", "globals", "vars", "compile"])
"""Identifiers whose use means that a statement may reach every name of its module."""


def _evaluates(words: frozenset[str]) -> bool:
    """Tell whether a unit uses a builtin such as `eval`. `model.eval` and `re.compile` do not count."""
    return bool(words & EVALUATED) or ("builtins" in words and not EVALUATED.isdisjoint(word[1:] for word in words))


class Difference(NamedTuple):
    """A part of the source that changed.

    Args:
        file: the path of its file, or `the sweep file`.
        what: the part, such as "function fit", "class Model", "module-level code", "imports" or "file".
        chain: the parts through which the workload uses it, from the workload's function to the user of this part.
        before: its text in the first version; None if only the second version has it.
        after: its text in the second version; None if only the first version has it.
    """

    file: str
    what: str
    chain: tuple[str, ...]
    before: str | None
    after: str | None


@dataclass
class Walk:
    """Walks two versions of a source side by side, from the workload's function or the program's script.

    Args:
        old: the first version.
        new: the second version.
        strict: compare the texts of errors as well, and follow the names in annotations of functions.
        changes: the differences, once `compare` has run.
        words: `Unit.words` of all units that the walk reached.
        reads_errors: whether one of these units uses a caught exception (`Unit.reads_errors`).
    """

    old: Names
    new: Names
    strict: bool = False
    changes: list[Difference] = field(default_factory=list)
    words: frozenset[str] = frozenset()
    reads_errors: bool = False
    _chains: dict[tuple[Unit, Unit], Chain] = field(default_factory=dict)
    _pairs: list[tuple[Unit, Unit]] = field(default_factory=list)
    _met: tuple[dict[Unit, Chain], dict[Unit, Chain]] = field(default_factory=lambda: ({}, {}))
    _reported: set[Difference] = field(default_factory=set)

    def compare(self) -> None:
        """Collect all differences in `changes`.

        Raises:
            NotPython: a file cannot be parsed, or a version lacks the workload's function.
        """
        words: set[str] = set()
        old, new = self.old.source, self.new.source
        for side in (self.old, self.new):
            side.require_start()
        for name in dict.fromkeys([*old.roots, *new.roots]):
            self._pair_all(
                [self.old.named(old.module, name, (), set()), self.new.named(new.module, name, (), set())],
                (), name,
            )  # fmt: skip
        imported: Imported = ({}, {})
        while True:
            self._drain()
            before = len(self._chains), len(imported[0]), len(imported[1])
            for side, modules, met in zip((self.old, self.new), imported, self._met, strict=True):
                self._import_all(side, modules, met)
            for one, other in self._match(imported)[0]:
                self._compare_effects(self.old.effects(one), self.new.effects(other), imported[1][other])
            self._drain()
            if (len(self._chains), len(imported[0]), len(imported[1])) == before:
                break
        self._compare_imports(imported)
        for met in self._met:
            for unit in met:
                words |= unit.words
                self.reads_errors |= unit.reads_errors
        self.words = frozenset(words)

    def _drain(self) -> None:
        strict = self.strict
        while self._pairs:
            one, other = self._pairs.pop()
            chain = (*self._chains[one, other], self.new.part(other))
            if changed := one.meaning(strict) != other.meaning(strict):
                self._report(one, other, self._chains[one, other])
            refs = one.refs(strict), other.refs(strict)
            if _evaluates(one.words | other.words):
                self._pair_module(one.module, other.module, chain)
            for ref in sorted({*refs[0], *refs[1]}):
                sides = zip((self.old, self.new), (one, other), refs, strict=True)
                targets = [side.targets(unit, ref) if ref in own else [] for side, unit, own in sides]
                self._pair_all(targets, chain, ref.name, changed=changed)

    def _pair_all(self, targets: Sequence[list[Target]], chain: Chain, name: str, *, changed: bool = False) -> None:
        """Compare the targets that one name has in the two versions.

        Args:
            targets: the targets in the old version, and those in the new one.
            chain: the parts through which the workload uses the name.
            name: the name.
            changed: whether the part that uses the name is reported as changed already. In this case, other targets
                of the name are not reported.
        """
        old, new = ([side.expanded(t) for t in ts] for side, ts in zip((self.old, self.new), targets, strict=True))
        for met, units in zip(self._met, (old, new), strict=True):
            for group in units:
                for unit in group if isinstance(group, list) else []:
                    met.setdefault(unit, chain)
        if len(old) != len(new):
            if not changed:
                self._report_name(old, new, chain, name)
            self._explore(old, new, chain)
            return
        for one, other in zip(old, new, strict=True):
            if isinstance(one, str) or isinstance(other, str):
                if one != other and not changed:
                    self._report_name([one], [other], chain, name)
                self._explore([one], [other], chain)
            elif len(one) != len(other):
                self._explore([one], [other], chain)
                by_label = [{u.label: u for u in units} for units in (one, other)]
                for label in sorted(by_label[0].keys() ^ by_label[1].keys()):
                    self._report(by_label[0].get(label), by_label[1].get(label), chain)
            else:
                for pair in zip(one, other, strict=True):
                    self._pair(*pair, chain)

    def _pair_module(self, one: str, other: str, chain: Chain) -> None:
        """Compare all names of a module: `one` in the old version, `other` in the new one."""
        for name in sorted({*self.old.names(one), *self.new.names(other)}):
            self._pair_all([self.old.named(one, name, (), set()), self.new.named(other, name, (), set())], chain, name)

    def _pair(self, one: Unit, other: Unit, chain: Chain) -> None:
        if (one, other) not in self._chains:
            self._chains[one, other] = chain
            self._pairs.append((one, other))

    def _explore(self, old: Sequence[str | list[Unit]], new: Sequence[str | list[Unit]], chain: Chain) -> None:
        """Record all units that the given targets reach, without comparing them.

        These targets have no counterpart in the other version. Only the imports and words of the units are used.
        """
        for side, met, groups in ((self.old, self._met[0], old), (self.new, self._met[1], new)):
            waiting = [(unit, chain) for group in groups if isinstance(group, list) for unit in group]
            seen = set()
            while waiting:
                unit, above = waiting.pop()
                if unit in seen:
                    continue
                seen.add(unit)
                met.setdefault(unit, above)
                below = (*above, side.part(unit))
                for ref in unit.refs(self.strict):
                    for target in side.targets(unit, ref):
                        expanded = side.expanded(target)
                        waiting += [(u, below) for u in expanded] if isinstance(expanded, list) else []

    def _import_all(self, side: Names, modules: dict[str, Chain], met: dict[Unit, Chain]) -> None:
        """Add to `modules` all modules that are imported when the units in `met` run, in the order of import."""
        waiting: list[tuple[str, Chain]] = [(name, ()) for name in side.source.mains]
        for unit, chain in list(met.items()):
            waiting.append((unit.module, chain))
            waiting += [(name, (*chain, side.part(unit))) for name in loaded(unit)]
        for name, chain in waiting:
            self._import(side, name, chain, modules)

    def _import(self, side: Names, name: str, chain: Chain, modules: dict[str, Chain]) -> None:
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            full = ".".join(parts[:end])
            if full in modules:
                continue
            module = side.module(full)
            if module is None:
                continue
            modules[full] = chain
            for below in module.imports:
                self._import(side, below, (*chain, side.files[full].path), modules)

    def _match(self, imported: Imported) -> tuple[list[tuple[str, str]], list[str], list[str]]:
        """Pair the imported modules of both versions: by name, or by equal effects if a module was renamed.

        Returns:
            The pairs, and the unpaired modules with effects: those of the old version, and those of the new one.
        """
        olds, news = (
            {name: self._code(side.effects(name)) for name in modules}
            for side, modules in zip((self.old, self.new), imported, strict=True)
        )
        pairs = [(name, name) for name in olds if name in news]
        moved: dict[tuple[str, ...], list[str]] = {}
        for name, code in news.items():
            if code and name not in olds:
                moved.setdefault(code, []).append(name)
        gone = []
        for name, code in olds.items():
            if code and name not in news:
                other = moved[code].pop(0) if moved.get(code) else None
                pairs += [] if other is None else [(name, other)]
                gone += [name] if other is None else []
        return pairs, gone, [name for names in moved.values() for name in names]

    def _compare_imports(self, imported: Imported) -> None:
        """Report how the imports of the two versions differ.

        Compared are the effects of modules that only one version imports, the installed packages, and the
        `__future__` imports. The order of import is compared only if there are no other differences.
        """
        _, gone, added = self._match(imported)
        for side, names, chains in ((self.old, gone, imported[0]), (self.new, added, imported[1])):
            for name in names:
                for unit in side.effects(name):
                    is_old = side is self.old
                    self._report(unit if is_old else None, None if is_old else unit, chains[name])
                    self._explore([[unit]] if is_old else [], [] if is_old else [[unit]], chains[name])
        sides = list(zip((self.old, self.new), imported, self._met, strict=True))
        outside = [side.outside(modules, met) for side, modules, met in sides]
        futures = [{f for name in modules if (m := side.module(name)) for f in m.future} for side, modules, _ in sides]
        for (one, other), what in ((outside, "imports"), (futures, "__future__ imports")):
            if one - {"annotations"} != other - {"annotations"}:
                texts = ("\n".join(sorted(names)) for names in (one, other))
                self._add(Difference(self._main_file(), what, (), *texts))
        orders = [
            [
                self._code(side.effects(name))
                for name in modules
                if any(u.effects == ORDERED for u in side.effects(name))
            ]
            for side, modules, _ in sides
        ]
        if not self.changes and orders[0] != orders[1]:
            self._add(Difference(self._main_file(), "order of imports", (), None, None))

    def _main_file(self) -> str:
        file = self.new.files.get(self.new.source.module or next(iter(self.new.source.mains), ""))
        return file.path if file else self.new.source.workload

    def _compare_effects(self, old: Sequence[Unit], new: Sequence[Unit], chain: Chain) -> None:
        for met, units in zip(self._met, (old, new), strict=True):
            for unit in units:
                met.setdefault(unit, chain)
        if self._code(old) == self._code(new):
            for pair in zip(old, new, strict=True):
                self._pair(*pair, chain)
            return
        counts = [Counter(u.meaning(self.strict) for u in units) for units in (old, new)]
        extra = [
            [u for u in units if counts[1 - i][u.meaning(self.strict)] < counts[i][u.meaning(self.strict)]]
            for i, units in enumerate((old, new))
        ]
        for one in extra[0]:
            other = next((u for u in extra[1] if u.label == one.label), None)
            extra[1] = [u for u in extra[1] if u is not other]
            self._report(one, other, chain)
        for other in extra[1]:
            self._report(None, other, chain)
        if not any(counts[0] - counts[1]) and not any(counts[1] - counts[0]):  # in another order
            self._report(old[0], new[0], chain)
        self._explore([list(old)], [list(new)], chain)

    def _code(self, units: Sequence[Unit]) -> tuple[str, ...]:
        return tuple(unit.meaning(self.strict) for unit in units)

    def _report_name(
        self, old: Sequence[str | list[Unit]], new: Sequence[str | list[Unit]], chain: Chain, name: str
    ) -> None:
        """Report a name that has other targets in the new version than in the old one."""
        units = [[u for g in groups if isinstance(g, list) for u in g] for groups in (old, new)]
        if any(units):
            self._report(units[0][0] if units[0] else None, units[1][0] if units[1] else None, chain)
            return
        texts = (", ".join(str(g) for g in groups) or None for groups in (old, new))
        self._add(
            Difference(chain[-1].partition(":")[0] if chain else self._main_file(), f"name {name}", chain, *texts)
        )

    def _report(self, one: Unit | None, other: Unit | None, chain: Chain) -> None:
        side, unit = (self.new, other) if other is not None else (self.old, one)
        if unit is not None:
            texts = (None if u is None else u.text for u in (one, other))
            self._add(Difference(side.files[unit.module].path, unit.label, chain, *texts))

    def _add(self, difference: Difference) -> None:
        if difference._replace(chain=()) not in self._reported:
            self._reported.add(difference._replace(chain=()))
            self.changes.append(difference)
