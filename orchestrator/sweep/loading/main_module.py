"""The code of a workload that is defined in `__main__`, as in a notebook. Other processes cannot import this code.

The workload's functions are sent to workers by value. Their source is recorded as text. It consists of the functions
and classes of `__main__` that the workload uses, the values of the globals that it uses, and the files that this code
imports from the current folder. Names that only `eval` or `getattr` use are not found.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import linecache
import os
import pickle
import symtable
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.loading.imports import Code
from raysweep.orchestrator.sweep.loading.source import OURS, content, imported, reached

MAIN = "__main__"
_seen: dict[int, tuple[Any, bytes]] = {}
"""Id of a helper module's spec -> the spec, and the content of the module's file when first seen.

A helper module is one that `__main__` imports from the current folder. A reload of the module creates a new spec, and
so a new entry.
"""


def main_code(workload: str, names: Sequence[str], folder: str | None) -> Code:
    """Collect the source of these names of `__main__`, and of all names and files that they use.

    Args:
        workload: the workload's name, for messages.
        names: the names of its function and its other declarations.
        folder: the folder from which helper modules are imported.

    Raises:
        InputError: the value of a global has no text that identifies it, or a file has changed since its import.
    """
    space = vars(sys.modules[MAIN])
    parts: dict[str, str] = {}
    modules: set[str] = set()
    waiting = [name for name in names if name in space]
    while waiting:
        name = waiting.pop()
        if name in parts or name not in space:
            continue
        try:
            parts[name], used, imports = _described(space[name])
        except ValueError as error:
            raise InputError(f"workload {workload!r} uses the global {name}, {error}") from None
        waiting += used
        modules |= imports
    contents = {f"{MAIN}:{name}": parts[name].encode() for name in sorted(parts)}
    files: dict[str, bytes] = {}
    if folder is not None:
        helpers = {file for module in modules for file in reached(module, Path(folder))}
        for file in sorted(helpers):
            text = contents[file.as_posix()] = files[str(Path(folder, file))] = content(Path(folder, file))
            _refuse_changed(workload, file, text)
    return Code(contents, files, folder)


def _described(value: Any) -> tuple[str, set[str], set[str]]:
    """Describe the value of a global of `__main__`.

    Returns:
        A text that identifies the value, the names of the globals of `__main__` that the value uses, and the names of
            the modules that it uses.
    """
    if isinstance(value, ModuleType):
        return f"module {value.__name__}", set(), {value.__name__}
    module = getattr(value, "__module__", None)
    if isinstance(value, type) or callable(value):
        if module != MAIN:
            return f"{module}.{getattr(value, '__qualname__', type(value).__qualname__)}", set(), {str(module)}
        return _class(value) if isinstance(value, type) else _function(value)
    return _data(value), set(), set()


def _function(value: Any) -> tuple[str, set[str], set[str]]:
    function = inspect.unwrap(value)
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType):
        return _data(value), set(), set()
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise ValueError("whose source cannot be found; define it in a cell or a file") from None
    if not _is_current(function.__code__):
        raise ValueError("whose file has changed since this process began; start it again")
    used, modules = set(_globals_of(text)), set(imported(text.encode(), ()))
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        more, others, imports = _described(cell.cell_contents)
        text, used, modules = f"{text}\n{name}: {more}", used | others, modules | imports
    return text, used, modules


def _class(value: type) -> tuple[str, set[str], set[str]]:
    """Describe a class of `__main__` (see `_described`).

    A class in a notebook has no source text, so its fields, bases, constants and methods are described.
    """
    fields = getattr(value, "model_fields", None) or getattr(value, "__dataclass_fields__", None) or {}
    lines = [f"class {value.__name__}", *(f"{name}: {field}" for name, field in fields.items())]
    used, modules = {base.__name__ for base in value.__mro__[1:] if base.__module__ == MAIN}, set[str]()
    lines += [f"base {base.__module__}.{base.__qualname__}" for base in value.__bases__]
    for name, member in vars(value).items():
        member = getattr(member, "__func__", getattr(member, "fget", member))
        if isinstance(member, FunctionType) and member.__module__ == MAIN:
            try:
                text, others, imports = _function(member)
            except ValueError:
                continue  # generated, as by dataclasses
            lines.append(text)
            used, modules = used | others, modules | imports
        elif isinstance(member, bool | int | float | str | bytes | tuple) and not name.startswith("__"):
            lines.append(f"{name} = {member!r}")
    return "\n".join(lines), used - {value.__name__}, modules


def _data(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    try:
        return f"{type(value).__qualname__} {hashlib.sha256(pickle.dumps(value, protocol=5)).hexdigest()}"
    except Exception:
        kind = type(value).__qualname__
        raise ValueError(
            f"of type {kind}, whose versions cannot be told apart; create it in the function, or pass a setting"
        ) from None


def _is_current(code: CodeType) -> bool:
    """Tell whether the file or notebook cell that defined a function still contains this function's code."""
    text, file = "".join(linecache.getlines(code.co_filename)), code.co_filename
    try:
        # IPython compiles a cell statement by statement. CPython compiles calls of an imported module's functions
        # otherwise if it compiles the import at the same time.
        statements = [ast.Module([statement], type_ignores=[]) for statement in ast.parse(text, file).body]
        compiled = (compile(source, file, "exec") for source in (ast.parse(text, file), *statements))
        return any(_steps(part) == _steps(code) for whole in compiled for part in _codes(whole))
    except SyntaxError:  # a cell with syntax of its own, such as await
        return True


def _steps(code: CodeType) -> tuple[Any, ...]:
    constants = [constant for constant in code.co_consts if not isinstance(constant, CodeType)]
    return code.co_name, code.co_code, code.co_names, repr(constants)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _globals_of(text: str) -> Iterator[str]:
    """Yield the global names that a function's source uses."""
    try:
        waiting = [symtable.symtable(text, MAIN, "exec")]
    except SyntaxError:
        return
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
                yield symbol.get_name()


def _refuse_changed(workload: str, file: Path, text: bytes) -> None:
    """Raise InputError if a helper file, whose content is `text`, has changed since this process imported it."""
    parts = file.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is None or name.partition(".")[0] == OURS:
        return
    first = _seen.setdefault(id(spec), (spec, text))[1]
    if first != text or _newer_than_bytecode(spec):
        raise InputError(
            f"workload {workload!r} uses {file}, which has changed since this process imported it; run "
            f"importlib.reload({name}), then the cell that defines the workload, or restart the kernel"
        )


def _newer_than_bytecode(spec: Any) -> bool:
    """Tell whether a module's file has changed since its bytecode was cached; False if unknown."""
    try:
        header = Path(spec.cached).read_bytes()[:16]
        stat = os.stat(spec.origin)
    except (OSError, TypeError):
        return False
    if header[:4] != importlib.util.MAGIC_NUMBER or header[4:8] != b"\0\0\0\0":
        return False
    cached = int.from_bytes(header[8:12], "little"), int.from_bytes(header[12:16], "little")
    return cached != (int(stat.st_mtime) & 0xFFFFFFFF, stat.st_size & 0xFFFFFFFF)
