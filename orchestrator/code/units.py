"""Top-level statements of Python files, as comparable units: without comments, docstrings and layout.

A change of a unit that only defines a name matters to the code that uses this name. A change of a unit with effects
at import matters to all code that imports the file. A statement whose effects are unknown counts as one with effects.
"""

from __future__ import annotations

import ast
import copy
import symtable
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

from raysweep.orchestrator.code.effects import NONE, ORDERED, REGISTERING, Effects, Import
from raysweep.orchestrator.code.stripped import Stripped, Unannotated, is_text, outside_raise


class Ref(NamedTuple):
    """A global name that a unit uses, and the attributes after it: `np.random.seed` is `np` with (random, seed)."""

    name: str
    attributes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Unit:
    """A statement at the top of a file.

    Args:
        module: the full name of the file's module.
        label: its description for people: "function fit", "module-level code".
        node: its syntax tree.
        text: its source text.
        effects: `NONE`, `SOME` or `ORDERED`.
        imports: name -> its target, for the names that import statements inside the unit bind.
    """

    module: str
    label: str
    node: ast.stmt
    text: str
    effects: int = NONE
    imports: dict[str, Import] = field(default_factory=dict)

    def meaning(self, strict: bool) -> str:
        """Return a text that is equal for two statements if they have the same meaning.

        With `strict`, texts of errors count as well (see `Stripped`).
        """
        return self._form[strict][0]

    def refs(self, strict: bool) -> tuple[Ref, ...]:
        """Return the global names that the unit uses, sorted.

        Unless `strict`, names in annotations of functions without decorators do not count.
        """
        return self._form[strict][1]

    @cached_property
    def _form(self) -> _Forms:
        return _Forms(self)

    @cached_property
    def reads_errors(self) -> bool:
        """Whether the unit uses a caught exception (`except E as error`) other than in a raise statement."""
        for node in ast.walk(self.node):
            if isinstance(node, ast.ExceptHandler) and node.name is not None:
                stripped = Stripped(strict=False, imports=False).visit(copy.deepcopy(node))
                if any(isinstance(part, ast.Name) and part.id == node.name for part in outside_raise(stripped)):
                    return True
        return False

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of the unit, marked by kind: identifiers (`fit`), attributes (`.fit`) and strings (`'fit`)."""
        return frozenset(_words(self.node))


class _Forms(dict[bool, tuple[str, tuple[Ref, ...]]]):
    """Cache of a unit's meaning and references: `strict` -> (meaning, references)."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self._unit = unit

    def __missing__(self, strict: bool) -> tuple[str, tuple[Ref, ...]]:
        unit = self._unit
        node = Stripped(strict=strict, imports=True).visit(copy.deepcopy(unit.node))
        own = f"{unit.module}\n" if "__file__" in unit.words else ""
        text = own + ast.dump(node)
        used = _globals(unit.text) | _in_annotations(unit.node)
        names = _names(node if strict else Unannotated().visit(node))
        refs = tuple(sorted({ref for ref in names if ref.name in used or ref.name in unit.imports}))
        self[strict] = text, refs
        return self[strict]


@dataclass(frozen=True, eq=False)
class Module:
    """A Python file, split into its top-level statements.

    Args:
        name: the module's full name.
        package: the package that contains it; its own name for an `__init__.py`.
        units: its top-level statements except imports, in order.
        bound: name -> the units and imports that bind it.
        stars: modules from which it imports all names (`import *`).
        imports: modules that are imported whenever this module is imported.
        future: its `__future__` imports.
    """

    name: str
    package: str
    units: tuple[Unit, ...]
    bound: dict[str, list[Unit | Import]]
    stars: tuple[str, ...]
    imports: tuple[str, ...]
    future: tuple[str, ...]


class NotPython(ValueError):
    """A source cannot be split into units: a file cannot be parsed or was not recorded, or the function is missing."""


@lru_cache(maxsize=2048)
def module_of(name: str, is_package: bool, source: bytes, main: bool = False) -> Module:
    """Parse a Python file, and split it into its top-level statements.

    Args:
        name: the module's full name.
        is_package: whether the file is an `__init__.py`.
        source: the file's content.
        main: whether the file runs as a script, so that its block `if __name__ == "__main__"` counts.

    Raises:
        NotPython: the file cannot be parsed.
    """
    tree, lines = parsed(source)
    package = name if is_package else name.rpartition(".")[0]
    module = Module(name, package, (), {}, (), (), ())
    units: list[Unit] = []
    stars: list[str] = []
    imports: list[str] = []
    future: list[str] = []
    registering = any(word.encode() in source for word in REGISTERING)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            future += [alias.name for alias in node.names]
            continue
        if is_text(node) or _never_runs(node, main):
            continue
        for statement in _imports_in(node, functions=False):
            imports += _modules(statement, package)
            if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
                stars.append(_source(statement, package))
        if isinstance(node, ast.Import | ast.ImportFrom):
            for bound, target in _bindings(node, package):
                module.bound.setdefault(bound, []).append(target)
            continue
        local = dict(pair for s in _imports_in(node, functions=True) for pair in _bindings(s, package))
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        text = "\n".join(lines[first - 1 : node.end_lineno])
        effects = Effects(module.bound, registering).of(node)
        unit = Unit(name, _label(node, effects), node, text, effects, local)
        units.append(unit)
        for bound in _bound_by(node):
            module.bound.setdefault(bound, []).append(unit)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for statement in _imports_in(node, functions=False):
                for bound, target in _bindings(statement, package):
                    module.bound.setdefault(bound, []).append(target)
    return Module(name, package, tuple(units), module.bound, tuple(stars), tuple(imports), tuple(sorted(future)))


def parsed(source: bytes) -> tuple[ast.Module, list[str]]:
    """Parse a file; return its syntax tree and its lines.

    Raises:
        NotPython: the file cannot be parsed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        return tree, source.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotPython(str(error)) from None


def _label(node: ast.stmt, effects: int) -> str:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return f"function {node.name}"
    if isinstance(node, ast.ClassDef):
        return f"class {node.name}"
    names = list(_bound_by(node)) if isinstance(node, ast.Assign | ast.AnnAssign) else []
    return ", ".join(names) if names and effects != ORDERED else "module-level code"


def _never_runs(node: ast.stmt, main: bool) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    if isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__":
        is_main = isinstance(test.comparators[0], ast.Constant) and test.comparators[0].value == "__main__"
        return is_main and isinstance(test.ops[0], ast.Eq) and not main and not node.orelse
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING" and not node.orelse


def _bound_by(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds in its module, except imported names."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    waiting: list[ast.AST] = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield part.name
            continue
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store | ast.Del):
            yield part.id
        if isinstance(part, ast.ExceptHandler) and part.name:
            yield part.name
        waiting += ast.iter_child_nodes(part)


def _imports_in(node: ast.AST, *, functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements in a statement; those inside functions only if `functions`."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    if functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _imports_in(child, functions=functions)


def _source(node: ast.ImportFrom, package: str) -> str:
    around = package.split(".") if package else []
    around = around[: max(0, len(around) - node.level + 1)] if node.level else []
    return ".".join([*around, *([node.module] if node.module else [])])


def _modules(node: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    """Return the full names of modules that an import statement may load. A package comes before its modules."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    source = _source(node, package)
    return [source, *(f"{source}.{alias.name}" for alias in node.names if alias.name != "*")]


def _bindings(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Import]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.asname:
                yield alias.asname, Import(alias.name, None)
            else:
                top = alias.name.partition(".")[0]
                yield top, Import(top, None)
    else:
        for alias in node.names:
            if alias.name != "*":
                yield alias.asname or alias.name, Import(_source(node, package), alias.name)


def _globals(text: str) -> set[str]:
    """Return the names in a statement's text that are not local variables of functions in it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            waiting = [symtable.symtable(text, "unit", "exec")]
    except (SyntaxError, ValueError, RecursionError):
        return {part for part in text.replace(".", " ").split() if part.isidentifier()}
    names: set[str] = set()
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        is_function = table.get_type() == "function"
        names.update(s.get_name() for s in table.get_symbols() if not is_function or s.is_global())
    return names


def _in_annotations(tree: ast.stmt) -> set[str]:
    """Return the names in string annotations of a statement, such as `x: "Model"`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            for part in ast.walk(node.annotation):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    names.update(ref.name for ref in _of_text(part.value))
    return names


def _of_text(text: str) -> Iterator[Ref]:
    try:
        yield from _names(ast.parse(text, mode="eval"))
    except (SyntaxError, ValueError, RecursionError):
        return


def _names(node: ast.AST) -> Iterator[Ref]:
    """Yield the names in a syntax tree, each with the attributes after it. Annotations in strings are parsed."""
    if isinstance(node, ast.Attribute):
        attributes: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            attributes.insert(0, base.attr)
            base = base.value
        if isinstance(base, ast.Name):
            yield Ref(base.id, tuple(attributes))
            return
    elif isinstance(node, ast.Name):
        yield Ref(node.id, ())
        return
    elif isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
        for part in ast.walk(node.annotation):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield from _of_text(part.value)
    for child in ast.iter_child_nodes(node):
        yield from _names(child)


def _words(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute):
            yield f".{part.attr}"
        elif isinstance(part, ast.alias):
            yield from part.name.split(".")
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield f"'{part.value}"


@lru_cache(maxsize=2048)
def whole_meaning(source: bytes, *, is_file: bool = True) -> bytes:
    """Return bytes that are equal for two sources if they differ only in comments, docstrings and layout.

    If the source cannot be parsed, its own bytes are returned.

    Args:
        source: Python code.
        is_file: whether it is a whole file. Otherwise it is a function, a class or the value of a global that a
            notebook defines. A constant that stands alone is then compared, and not removed as a docstring.
    """
    stripped = Stripped(strict=True, imports=False)
    try:
        tree = parsed(source)[0]
        if is_file:
            return ast.dump(stripped.visit(tree)).encode()
        return "\n".join(ast.dump(stripped.visit(statement)) for statement in tree.body).encode()
    except (NotPython, RecursionError):
        return source
