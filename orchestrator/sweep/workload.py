"""A workload by name, imported and described: one of ours, or a user's `package.module:function`."""

from __future__ import annotations

import importlib
import importlib.machinery
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
    """A workload's function and its module's declarations (see `raysweep.workloads.interface`)."""

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
    folder: str | None  # that a user's module was found in; None for bundled and installed ones

    def added_later(self) -> dict[str, Any]:
        """Config fields added after cells had been recorded -> the value that old cells had.

        Raises:
            ValueError: a field is marked with the `AddedLater` of another copy of raysweep.
        """
        fields = {} if self.config_model is None else self.config_model.model_fields
        marks = [(name, mark) for name, field in fields.items() for mark in field.metadata]
        for name, mark in marks:
            if type(mark).__name__ == AddedLater.__name__ and not isinstance(mark, AddedLater):
                raise ValueError(
                    f"the mark of {name!r} is imported from {type(mark).__module__!r}; "
                    f"import it from {AddedLater.__module__!r}"
                )
        return {name: mark.old for name, mark in marks if isinstance(mark, AddedLater)}

    def revive(self, config: str) -> Any:
        """A cell's config as the workload sees it: its `Config`, or a plain dict if it declares none.

        Raises:
            pydantic.ValidationError: the config does not fit the model.
        """
        if self.config_model is None:
            return json.loads(config)
        # Strict, but as JSON: text is never read as a number, while 64.0 is the integer it equals.
        return self.config_model.model_validate_json(config, strict=True)


def load_workload(name: str, search: Sequence[str] = ()) -> Workload:
    """Import the workload.

    Args:
        name: an entry of `WORKLOADS`, or "package.module:function".
        search: folders tried for a user's module before the Python path, in this order.

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
    if folder is not None and folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    return _declared(name, name, folder)


def shadowed_module(workload: Workload, folder: str) -> str | None:
    """A warning if the folder holds a module of the workload's name, but another one runs."""
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
        # A folder without __init__.py is a namespace package, which any folder could be: only code counts.
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
        raise InputError(f"workload {name!r} does not import: {message_of(error)}{_renamed(error)}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's module may raise anything, SystemExit included
        raise InputError(f"workload {name!r} does not import: {type(error).__name__}: {message_of(error)}") from error
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
    """A hint for modules that import ours by the names they had before 0.1.0, as the end of a message."""
    missing = error.name or ""
    if missing.partition(".")[0] not in _RENAMED:
        return ""
    return f"; if raysweep's is meant: since version 0.1.0 it is imported as raysweep.{missing}"


def _declaration(module: ModuleType, what: str, where: str) -> Any:
    """A declaration of the module, of the type that `raysweep.workloads.interface` defines; None if missing."""
    try:
        value = getattr(module, what, None)
        if value is None:
            return None
        if what == "VERSION":
            fits = isinstance(value, str | int | float)  # of another object, each process might make another text
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
    "VERSION": "text of 300 characters at most, or a number",
    "Config": "a pydantic model (a class derived from pydantic.BaseModel)",
    "METHODS": "a collection of method names",
    "settle": "a function (method, k, config) -> (k, config)",
    "cost": "a function (method, k, config) -> float",
    "lacks": "a function (config) -> text or None",
}
