"""Import of a workload by its name: a bundled one, or a user's `package.module:function`."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pydantic

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.source import OURS, source_digest
from raysweep.orchestrator.text import encodable, message_of, short_repr
from raysweep.workloads import WORKLOADS
from raysweep.workloads.interface import AddedLater
from raysweep.workloads.registry import UnknownName


@dataclass(frozen=True)
class Workload:
    """A workload's function, and its module's declarations (see `raysweep.workloads.interface`)."""

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
    folder: str | None  # in which a user's module was found; None for bundled and installed ones

    def added_later(self) -> dict[str, Any]:
        """Config fields that were added after cells had been recorded, each with its value in those cells.

        Raises:
            ValueError: a field is marked with the `AddedLater` of another copy of raysweep.
        """
        fields = {} if self.config_model is None else self.config_model.model_fields
        marks = [(name, mark) for name, field in fields.items() for mark in field.metadata]
        for name, mark in marks:
            if type(mark).__name__ == AddedLater.__name__ and not isinstance(mark, AddedLater):
                raise ValueError(
                    f"the mark of field {name!r} is imported from {type(mark).__module__!r}; "
                    f"import it from {AddedLater.__module__!r}"
                )
        return {name: mark.old for name, mark in marks if isinstance(mark, AddedLater)}

    def revive(self, config: str) -> Any:
        """Parse a cell's config into the workload's `Config`, or into a dict if the workload declares none.

        Raises:
            pydantic.ValidationError: the config does not fit the model.
        """
        if self.config_model is None:
            return json.loads(config)
        # Strict, but as JSON: text is never read as a number, but 64.0 is read as the integer 64.
        return self.config_model.model_validate_json(config, strict=True)


def load_workload(name: str, search: Sequence[str] = ()) -> Workload:
    """Import a workload, and read its declarations.

    Args:
        name: an entry of `WORKLOADS`, or "package.module:function".
        search: folders in which a user's module is searched, in this order, before the Python path.

    Raises:
        InputError: the workload is unknown, its module does not import, or the module lacks the function.
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
    top = module.partition(".")[0]
    bare = next((path for place in search if (path := Path(place, top)).is_dir()), None) if top.isidentifier() else None
    if folder is None and bare is not None and importlib.util.find_spec(top) is None:
        raise InputError(f"workload {name!r}: {bare} has no __init__.py; create an empty one")
    if folder is not None and folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    return _declared(name, name, folder)


def shadowed_module(workload: Workload, folder: str) -> str | None:
    """Warn if the folder contains a module of the workload's name but another one runs; otherwise return None."""
    if workload.folder is None or os.path.realpath(folder) == os.path.realpath(workload.folder):
        return None
    spec = importlib.machinery.PathFinder.find_spec(workload.module.partition(".")[0], [folder])
    if spec is None or spec.origin is None:
        return None
    return (
        f"{workload.name} runs from {workload.folder}, where it was launched, not from {folder}; "
        "to run the module there, name the sweep's file"
    )


def _find(module: str, search: Sequence[str]) -> str | None:
    top = module.partition(".")[0]
    if top == OURS:
        return None
    for folder in search:
        spec = importlib.machinery.PathFinder.find_spec(top, [folder])
        # Without __init__.py any folder could be a namespace package: only modules and packages with code count.
        if spec is None or spec.origin is None:
            continue
        loaded = getattr(sys.modules.get(top), "__file__", None)
        if loaded is not None and Path(loaded).resolve() != Path(spec.origin).resolve():
            raise InputError(
                f"workload module {top!r} is {spec.origin}, but a module of this name is already imported from "
                f"{loaded}; rename one of them"
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
        raise InputError(f"workload {name!r} fails to import: {message_of(error)}{_renamed(error)}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's module may raise anything, SystemExit included
        raise InputError(f"workload {name!r} fails to import: {type(error).__name__}: {message_of(error)}") from error
    path = str(vars(module).get("__file__") or module_name)
    declared = {
        what: _declaration(module, what, f"workload {name!r}: {path}")
        for what in (function, "VERSION", "Config", "METHODS", "settle", "cost", "lacks")
    }
    run = declared[function]
    if not callable(run):
        names = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module_name]
        raise InputError(f"workload {name!r}: {module_name} has no function {function!r}; it has: {', '.join(names)}")
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


_RENAMED = ("analysis", "orchestrator", "workloads")


def _renamed(error: ModuleNotFoundError) -> str:
    """Return a hint if the missing module has the name of a raysweep package before version 0.1.0; otherwise ""."""
    missing = error.name or ""
    if missing.partition(".")[0] not in _RENAMED:
        return ""
    return f"; if you mean raysweep's: since version 0.1.0 its name is raysweep.{missing}"


def _declaration(module: ModuleType, what: str, where: str) -> Any:
    """Read a module's declaration named `what`, and check its type (see `raysweep.workloads.interface`)."""
    try:
        value = getattr(module, what, None)
        if value is None:
            return None
        if what == "VERSION":
            fits = isinstance(value, str | int | float)  # text of other objects may differ between processes
            value = str(value)
            fits = fits and 0 < len(value) <= 300 and encodable(value)
        elif what == "Config":
            fits = isinstance(value, type) and issubclass(value, pydantic.BaseModel)
        elif what == "METHODS":
            fits = not isinstance(value, str) and all(isinstance(name, str) for name in value)
        else:
            fits = what not in ("settle", "cost", "lacks") or callable(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # from the module's own __getattr__ or the collection's own __iter__
        raise InputError(f"{where}: {what}: {type(error).__name__}: {message_of(error)}") from None
    if not fits:
        raise InputError(f"{where}: {what} is {short_repr(value)}; it must be {_DECLARED[what]}")
    return value


_DECLARED = {
    "VERSION": "text of at most 300 characters, or a number",
    "Config": "a pydantic model (a class derived from pydantic.BaseModel)",
    "METHODS": "a collection of method names",
    "settle": "a function (method, k, config) -> (k, config)",
    "cost": "a function (method, k, config) -> float",
    "lacks": "a function (config) -> text or None",
}
