"""A workload by name: one of ours, or a user's `package.module:function`, with what its module declares."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pydantic

import raysweep
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.source import BUNDLED_PACKAGE, OURS, content, reached
from raysweep.orchestrator.text import encodable, message_of, short_repr
from raysweep.workloads import WORKLOADS
from raysweep.workloads.interface import AddedLater
from raysweep.workloads.registry import UnknownName


@dataclass(frozen=True)
class Workload:
    """A workload's function and what stands beside it (see `raysweep.workloads.interface`)."""

    name: str
    module: str
    run: Callable[[Any, Any], Mapping[str, float]]
    version: str
    config_model: Any | None
    methods: Any | None
    settle: Callable[[str, int | None, Any], tuple[int | None, Any]] | None
    cost: Callable[[str, int | None, Any], float] | None
    lacks: Callable[[Any], str | None] | None
    source_path: str
    source_digest: str
    folder: str | None  # where a user's module was found beside the sweep or in the current folder

    def added_later(self) -> dict[str, Any]:
        """Config fields that came after cells had been recorded -> the value old cells had."""
        if self.config_model is None:
            return {}
        return {
            name: mark.old
            for name, field in self.config_model.model_fields.items()
            for mark in field.metadata
            if isinstance(mark, AddedLater)
        }

    def revive(self, config: str) -> Any:
        """A cell's config as the workload sees it: its `Config`, or a plain dict where it declares none.

        Raises:
            pydantic.ValidationError: the config does not fit the model.
        """
        if self.config_model is None:
            return json.loads(config)
        # Strict, but as JSON: text is never taken for a number, while 64.0 is the integer it equals.
        return self.config_model.model_validate_json(config, strict=True)


def load_workload(name: str, search: Sequence[str] = ()) -> Workload:
    """Import the workload.

    Args:
        name: an entry of `WORKLOADS`, or "package.module:function".
        search: folders tried for a user's module before the Python path, in this order.

    Raises:
        InputError: no such workload, or its module does not import, or lacks the function.
    """
    if ":" not in name:
        try:
            target = WORKLOADS[name]
        except UnknownName as error:
            module, dot, function = name.rpartition(".")
            own = f"{module}:{function}" if dot else "package.module:function"
            raise InputError(f"{error}; or name one of your own as {own!r}") from None
        return _declared(name, target, folder=None)
    module = name.partition(":")[0]
    folder = _find(module, search)
    if folder is not None and folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    return _declared(name, name, folder)


def own_files(workload: Workload) -> list[Path]:
    """The files that a user's workload is made of, relative to its folder; none of an installed one's."""
    if workload.folder is None:
        return []
    files = source_files(workload.module, workload.source_path, workload.folder)
    names = [Path(os.path.relpath(file, workload.folder)) for _, file in files]
    return [name for name in names if ".." not in name.parts]


def clashes(workloads: Iterable[Workload]) -> list[str]:
    """Modules of one name that differ, of workloads out of several folders: cells of one launch share their modules."""
    users = {w.folder: w for w in workloads if w.folder is not None}
    found: dict[frozenset[Path], str] = {}
    for folder, workload in users.items():
        for name in own_files(workload):
            file = Path(folder, name)
            top = name.parts[0].removesuffix(".py")
            for elsewhere in users.keys() - {folder}:
                same = Path(elsewhere, name)
                form = Path(elsewhere, f"{top}.py") if len(name.parts) > 1 else Path(elsewhere, top, "__init__.py")
                others = [other for other in (same, form) if other.is_file() and content(other) != content(file)]
                for other in others:
                    problem = (
                        f"{file} and {other}: two modules of one name, and cells of one launch share their modules; "
                        "launch the sweeps one after the other, or rename one"
                    )
                    found.setdefault(frozenset((file, other)), problem)
    return sorted(found.values())


def passed_over(workload: Workload, folder: str) -> str | None:
    """What to warn of where a module of this name lies in a folder as well, and another is what runs."""
    if workload.folder is None or os.path.realpath(folder) == os.path.realpath(workload.folder):
        return None
    spec = importlib.machinery.PathFinder.find_spec(workload.module.partition(".")[0], [folder])
    if spec is None or spec.origin is None:
        return None
    return (
        f"{workload.name} runs out of {workload.folder}, where it was launched, and not out of {folder}; "
        "name the sweep's file to run what is there"
    )


def _find(module: str, search: Sequence[str]) -> str | None:
    top = module.partition(".")[0]
    if top == OURS:
        return None
    for folder in search:
        spec = importlib.machinery.PathFinder.find_spec(top, [folder])
        # A folder without __init__.py is a namespace anything could match: only real code counts.
        if spec is None or spec.origin is None:
            continue
        loaded = getattr(sys.modules.get(top), "__file__", None)
        if loaded is not None and Path(loaded).resolve() != Path(spec.origin).resolve():
            raise InputError(
                f"workload module {top!r} is {spec.origin}, but another module of this name is already "
                f"imported from {loaded}; rename one of them"
            )
        return folder
    return None


def _declared(name: str, target: str, folder: str | None) -> Workload:
    module_name, _, function = target.partition(":")
    if not module_name or not function.isidentifier():
        raise InputError(f"workload {name!r} is not of the form 'package.module:function'")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.startswith(error.name):
            raise InputError(
                f"workload {name!r}: no module {error.name!r} beside the sweep file, in the current folder "
                "or on the Python path"
            ) from None
        raise InputError(f"workload {name!r} does not import: {message_of(error)}") from None
    except BaseException as error:  # a user's module may raise anything, SystemExit included
        if isinstance(error, KeyboardInterrupt):
            raise
        raise InputError(f"workload {name!r} does not import: {type(error).__name__}: {message_of(error)}") from error
    path = str(vars(module).get("__file__") or module_name)
    declared = {
        what: _declaration(module, what, f"workload {name!r}: {path}")
        for what in (function, "VERSION", "Config", "METHODS", "settle", "cost", "lacks")
    }
    run = declared[function]
    if not callable(run):
        known = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module_name]
        raise InputError(f"workload {name!r}: {module_name} has no function {function!r}; it has: {', '.join(known)}")
    version = declared["VERSION"]
    return Workload(
        name=name,
        module=module_name,
        run=run,
        version="1" if version is None else version,
        config_model=declared["Config"],
        methods=declared["METHODS"],
        settle=declared["settle"],
        cost=declared["cost"],
        lacks=declared["lacks"],
        source_path=path,
        source_digest=source_digest(module_name, path, folder),
        folder=folder,
    )


def _declaration(module: ModuleType, what: str, where: str) -> Any:
    """What a module declares under a name, as `raysweep.workloads.interface` defines it; None where it says nothing."""
    try:
        value = getattr(module, what, None)
        if value is None:
            return None
        if what == "VERSION":
            value = str(value)
            fits = 0 < len(value) <= 300 and encodable(value)
        elif what == "Config":
            fits = isinstance(value, type) and issubclass(value, pydantic.BaseModel)
        elif what == "METHODS":
            fits = not isinstance(value, str) and all(isinstance(name, str) for name in value)
        else:
            fits = what not in ("settle", "cost", "lacks") or callable(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module's own __getattr__, a collection's own __iter__
        raise InputError(f"{where}: {what}: {type(error).__name__}: {message_of(error)}") from None
    if not fits:
        raise InputError(f"{where}: {what} is {short_repr(value)}; it must be {_DECLARED[what]}")
    return value


_DECLARED = {
    "VERSION": "a line of text of 300 characters at most",
    "Config": "a pydantic model (a class derived from pydantic.BaseModel)",
    "METHODS": "a collection of method names",
    "settle": "a function (method, k, config) -> (k, config)",
    "cost": "a function (method, k, config) -> float",
    "lacks": "a function (config) -> text or None",
}


@lru_cache(maxsize=64)
def source_digest(module: str, path: str, folder: str | None = None) -> str:
    """16 hex characters over `source_files`."""
    digest = hashlib.sha256()
    for name, file in source_files(module, path, folder):
        digest.update(name.encode() + b"\0" + content(file) + b"\0")
    return digest.hexdigest()[:16]


def source_files(module: str, path: str, folder: str | None = None) -> list[tuple[str, Path]]:
    """The files that a workload is made of, with the names under which they count.

    Of a bundled workload, what it imports from our workloads. Of a user's, the whole top-level package of a module
    that is in one, else its file; then what these import from the folder that is shipped with it.

    Args:
        module: of the workload.
        path: its file.
        folder: where it was found, if it is a user's and no installed package.
    """
    if module.startswith(f"{BUNDLED_PACKAGE}."):
        root = Path(raysweep.__file__).resolve().parents[1]
        files = [(p.as_posix(), (root / p).resolve()) for p in reached(module, root, BUNDLED_PACKAGE)]
        return [(name.removeprefix(f"{OURS}/"), file) for name, file in files]
    top, inner = module.partition(".")[0], module.count(".")
    is_package = Path(path).name == "__init__.py"
    if inner or is_package:
        root = Path(path).parents[inner - (not is_package)]
        own = [p.relative_to(root) for p in root.rglob("*.py") if "__pycache__" not in p.parts]
        if folder is not None:
            own = [p for p in own if not any(part.startswith(".") or part == "results" for part in p.parts)]
        files = [(p.as_posix(), root / p) for p in sorted(own)]
    else:
        files = [(Path(path).name, Path(path))]
    if folder is not None:
        helpers = [p for p in reached(module, Path(folder)) if p.parts[0] not in (top, f"{top}.py")]
        files += [(p.as_posix(), Path(folder, p)) for p in helpers]
    return [(name, file) for name, file in files if file.is_file()]
