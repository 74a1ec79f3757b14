"""Resolution of names in one version of a source: to definitions, to modules, or to names of installed packages."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from raysweep.orchestrator.code.effects import Import
from raysweep.orchestrator.code.source import Source, SourceFile
from raysweep.orchestrator.code.units import Module, NotPython, Ref, Unit, module_of


class Whole(NamedTuple):
    """A module as the target of a name: the code uses the whole module rather than one name in it."""

    module: str


Target = Unit | Whole | str
"""The target of a name: a definition in the source, a module of the source, or a full name outside the source."""


def content_of(file: SourceFile) -> bytes:
    """Return a file's content; raise `NotPython` if the file was too large to record."""
    if file.content is None:
        raise NotPython(f"{file.path} was not recorded")
    return file.content


class Names:
    """Resolves the names in one version of a source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.files = {file.module: file for file in source.files if file.module}

    def require_start(self) -> None:
        """Raise `NotPython` unless the source has a start for the comparison.

        The start is the workload's function, or the scripts of a program, all in one folder.
        """
        source = self.source
        if source.module and not self.named(source.module, source.roots[0], (), set()):
            raise NotPython(f"{source.module} has no {source.roots[0]} that can be found by reading it")
        if not source.module and (not source.mains or any("." in main for main in source.mains)):
            raise NotPython("no script, or scripts in several folders")

    def module(self, name: str) -> Module | None:
        """Parse the module `name`, and return it; None if the source has no such module."""
        file = self.files.get(name)
        if file is None:
            return None
        is_package = file.path.endswith("__init__.py")
        return module_of(name, is_package, content_of(file), name in self.source.mains)

    def names(self, module: str) -> Collection[str]:
        """Return the names that a module binds."""
        taken = self.module(module)
        return () if taken is None else taken.bound

    def targets(self, unit: Unit, ref: Ref) -> list[Target]:
        """Resolve a name that a unit uses, together with the attributes after it.

        Return its targets. There are several if it is bound more than once, and none if it is a builtin.
        """
        if ref.name in unit.imports:
            return self._imported(unit.imports[ref.name], ref.attributes, set())
        return self.named(unit.module, ref.name, ref.attributes, set())

    def named(self, module: str, name: str, attributes: Sequence[str], seen: set[tuple[str, str]]) -> list[Target]:
        """Resolve a name of a module, together with the attributes after it.

        Return its targets; none if the module does not bind the name. `seen` holds the pairs (module, name) that are
        being resolved. It ends cycles.
        """
        taken = self.module(module)
        if taken is None or (module, name) in seen:
            return []
        seen.add((module, name))
        matches: list[Target] = []
        for bound in taken.bound.get(name, ()):
            matches += self._imported(bound, attributes, seen) if isinstance(bound, Import) else [bound]
        for star in taken.stars:
            if of_star := self.named(star, name, attributes, seen):
                matches += [*of_star, *self.named(star, "__all__", (), seen)]
        if matches:
            return matches
        if f"{module}.{name}" in self.files:
            return self._of_module(f"{module}.{name}", attributes, seen)
        return []

    def _imported(self, target: Import, attributes: Sequence[str], seen: set[tuple[str, str]]) -> list[Target]:
        if target.name is None:
            return self._of_module(target.module, attributes, seen)
        if target.module in self.files and (matches := self.named(target.module, target.name, attributes, seen)):
            return matches
        if f"{target.module}.{target.name}" in self.files:
            return self._of_module(f"{target.module}.{target.name}", attributes, seen)
        if target.module in self.files and "__getattr__" in self.names(target.module):
            return [Whole(target.module)]
        return [f"{target.module}.{target.name}"]

    def _of_module(self, module: str, attributes: Sequence[str], seen: set[tuple[str, str]]) -> list[Target]:
        inside = module in self.files or any(name.startswith(f"{module}.") for name in self.files)
        if not inside:
            return [".".join((module, *attributes))]
        if not attributes:
            return [Whole(module)]
        if module in self.files and (matches := self.named(module, attributes[0], attributes[1:], seen)):
            return matches
        if (below := f"{module}.{attributes[0]}") in self.files or any(n.startswith(f"{below}.") for n in self.files):
            return self._of_module(below, attributes[1:], seen)
        return [Whole(module)] if module in self.files else []

    def expanded(self, target: Target) -> str | list[Unit]:
        """Return the units of a target: the definition itself, or all units of a module.

        A full name outside the source is returned unchanged.
        """
        if isinstance(target, Whole):
            module = self.module(target.module)
            return sorted(module.units, key=lambda unit: unit.label) if module else []
        return [target] if isinstance(target, Unit) else target

    def part(self, unit: Unit) -> str:
        """Describe a unit with its file: `model.py: function fit`."""
        return f"{self.files[unit.module].path}: {unit.label}"

    def effects(self, name: str) -> list[Unit]:
        """Return the units of a module whose execution at import may do more than bind names."""
        module = self.module(name)
        return [] if module is None else [unit for unit in module.units if unit.effects]

    def outside(self, modules: Iterable[str], units: Iterable[Unit]) -> set[str]:
        """Return the top-level names of the installed packages that the given modules and units import."""
        names = {name for each in modules if (module := self.module(each)) for name in module.imports}
        names |= {name for unit in units for name in loaded(unit)}
        own = {name.partition(".")[0] for name in self.files}
        return {top for name in names if (top := name.partition(".")[0]) not in own} - set(sys.stdlib_module_names)


def loaded(unit: Unit) -> Iterator[str]:
    """Yield the full names of modules that the import statements inside a unit may load."""
    for target in unit.imports.values():
        yield target.module
        if target.name is not None:
            yield f"{target.module}.{target.name}"
