"""Import of a workload by its name: a bundled one, or a user's `package.module:function`."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pydantic

from raysweep.orchestrator.code.source import inputs_digest, with_inputs
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.process import is_signalled
from raysweep.orchestrator.sweep.grammar.inputs import InputFile, Inputs, files_of
from raysweep.orchestrator.sweep.loading.imports import Code, read_code
from raysweep.orchestrator.sweep.loading.main_module import MAIN, main_code
from raysweep.orchestrator.sweep.loading.source import OURS, content
from raysweep.orchestrator.sweep.programs.program import Program
from raysweep.orchestrator.text import encodable, message_of, printable_output, short_repr
from raysweep.workloads import WORKLOADS
from raysweep.workloads.interface import AddedLater
from raysweep.workloads.registry import UnknownName, nearest


@dataclass(frozen=True)
class Workload:
    """A workload's function and its module's declarations (see `raysweep.workloads.interface`), or a program."""

    name: str
    module: str  # "" for a program
    run: Callable[[Any, Any], Mapping[str, float]]  # not called for a program
    version: str
    config_model: Any | None
    methods: Any | None
    settle: Callable[[str, int | None, Any], tuple[int | None, Any]] | None
    cost: Callable[[str, int | None, Any], float] | None
    lacks: Callable[[Any], str | None] | None
    source_path: str
    source_digest: str
    folder: str | None  # of a user's module or a program's files; None for bundled and installed ones
    code: Code = field(default_factory=lambda: Code({}, {}))
    program: Program | None = None
    inputs: Mapping[str, InputFile] = field(default_factory=dict)  # path, relative to the sweep file's folder
    input_folder: str = ""

    @property
    def inputs_digest(self) -> str:
        """The digest of the files that the sweep names in `inputs`; "" if there are none."""
        return inputs_digest({path: file.sha256 for path, file in self.inputs.items()})

    def with_inputs(self, inputs: Inputs, folder: str) -> Workload:
        """Return this workload with the input files of its cells.

        Their digest becomes part of its source digest and, with `inputs.identity`, of its version.

        Raises:
            InputError: a pattern matches no file, a file cannot be read, or the files are too many or too large.
        """
        with_files = replace(self, inputs=files_of(inputs, folder), input_folder=folder)
        digest = with_files.inputs_digest
        version = f"{self.version}+{digest}" if inputs.identity else self.version
        return replace(with_files, version=version, source_digest=with_inputs(self.source_digest, digest))

    def files(self) -> dict[str, bytes]:
        """Return the content of each file in the source digest, by path. Input files are left out."""
        if self.program is not None:
            paths = (Path(self.folder or "", name) for name in self.program.files)
            return {str(path): content(path) for path in paths}
        return {**self.code.files}

    def shipped(self) -> dict[Path, bytes | None]:
        """Return the files to ship to workers, as a dict from the path relative to `folder` to the content.

        A file whose content is None is shipped as it is on disk.
        """
        if self.program is not None:
            return dict.fromkeys(map(Path, self.program.files))
        beside = self.folder is not None and os.path.realpath(self.folder) == os.path.realpath(self.input_folder)
        small = {Path(path): file.content for path, file in self.inputs.items() if file.content is not None}
        return {**(small if beside else {}), **self.code.own_files()}

    def added_later(self) -> dict[str, Any]:
        """Return the Config fields that were added after cells had been recorded, each with its value in those cells.

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


@printable_output()
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
            own = _of_file(f"{name}:run") or (f"{module}:{function}" if dot else "package.module:function")
            raise InputError(f"{error}; or name one of your own as {own!r}") from None
        return _declared(name, target, folder=None)
    module = name.partition(":")[0]
    if of_file := _of_file(name):
        raise InputError(f"workload {name!r} names a file; name its module, without .py: {of_file!r}")
    if module == MAIN:
        return _in_main(name, search)
    folder = _find(module, search)
    top = module.partition(".")[0]
    bare = next((path for place in search if (path := Path(place, top)).is_dir()), None) if top.isidentifier() else None
    if folder is None and bare is not None and importlib.util.find_spec(top) is None:
        raise InputError(f"workload {name!r}: {bare} has no __init__.py; create an empty one")
    if folder is not None and folder not in sys.path:
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    return _declared(name, name, folder, search)


def shadowed_module(workload: Workload, folder: str) -> str | None:
    """Return a warning if `folder` has a module of the workload's name, but another one runs; otherwise None."""
    if (
        workload.folder is None
        or workload.program is not None
        or os.path.realpath(folder) == os.path.realpath(workload.folder)
    ):
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


def _of_file(name: str) -> str | None:
    """Replace the file in a workload's name by its module; None if the name has no file.

    `nets/train.py:run` becomes `nets.train:run`.
    """
    path, _, function = name.partition(":")
    if not path.endswith(".py"):
        return None
    return f"{'.'.join(part for part in Path(path).with_suffix('').parts if part != '/')}:{function or 'run'}"


def _own_form(name: str) -> str:
    """Return text for a message: the likely correction of a workload's name; "" if unknown."""
    parts = re.fullmatch(r"\.*([\w.]+?):+(\w*)\W*", name)
    return f"; write {parts[1]}:{parts[2] or 'run'}" if parts else ""


def _place(error: BaseException) -> str:
    """Return text for a message: the file and line of user code where an import failed.

    "" for a syntax error, and if the place is unknown.
    """
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    if isinstance(error, SyntaxError) or len(frames) < 2 or frames[-1].filename == importlib.__file__:
        return ""
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}…"


_MAX_REASON = 1000


def _near(module: str, search: Sequence[str]) -> str:
    """Return text for a message: a module with a similar name in these folders; "" if there is none."""
    files = [path for folder in search if Path(folder).is_dir() for path in sorted(Path(folder).iterdir())]
    modules = {path.stem for path in files if path.suffix == ".py" or Path(path, "__init__.py").is_file()}
    near = nearest(module, sorted(modules))
    return f"; did you mean {near!r}?" if near else ""


_loaded: dict[tuple[str, str | None], Workload] = {}
"""Name and folder of a workload -> the workload that was last loaded from there."""
_importing: set[str] = set()


def _declared(name: str, target: str, folder: str | None, search: Sequence[str] = ()) -> Workload:
    module_name, _, function = target.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), function]):
        raise InputError(f"workload {name!r} is not of the form 'package.module:function'{_own_form(name)}")
    code = read_code(module_name, folder)
    last = _loaded.get((name, folder))
    if last is not None and last.code.contents == code.contents:
        return last
    if last is not None and not code.tops:
        raise InputError(
            f"workload {name!r}: {_difference(code, last.code)} has changed since this process imported it; restart "
            "the process (in a notebook: the kernel)"
        )
    spec = getattr(sys.modules.get(module_name), "__spec__", None)
    if module_name in _importing or getattr(spec, "_initializing", False):
        raise InputError(
            f"workload {name!r}: its module starts a launch while it is imported; put that under "
            'if __name__ == "__main__":'
        )
    _importing.add(module_name)
    try:
        with code.active():
            workload = _imported(name, module_name, function, code, search)
    finally:
        _importing.discard(module_name)
    if not code.tops and read_code(module_name, folder).contents != code.contents:
        raise InputError(f"workload {name!r}: its files changed while they were imported; try again")
    _loaded[name, folder] = workload
    return workload


def workload_of_code(name: str, module: str, function: str, code: Code) -> Workload:
    """Import a workload's module from `code`, and return the workload.

    Raises:
        InputError: the module cannot be imported, or lacks the function.
    """
    with code.active():
        return _imported(name, module, function, code, ())


def _difference(code: Code, other: Code) -> str:
    """Return the name of the first file whose content differs between two `Code` objects."""
    names = sorted(code.contents.keys() | other.contents.keys())
    return next((name for name in names if code.contents.get(name) != other.contents.get(name)), "a file")


def _in_main(name: str, search: Sequence[str]) -> Workload:
    """Load a workload whose function is defined in `__main__`: in a notebook, or in the script that runs."""
    function = name.partition(":")[2]
    space = vars(sys.modules[MAIN])
    if not callable(space.get(function)):
        raise InputError(
            f"workload {name!r}: the program that runs now has no function {function!r}; launch it from the notebook "
            "or the program that defines it"
        )
    code = main_code(name, (function, *_DECLARED), search[0] if search else None)
    return _imported(name, MAIN, function, code, search)


def _imported(name: str, module_name: str, function: str, code: Code, search: Sequence[str]) -> Workload:
    try:
        with _no_exit():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.startswith(error.name):
            raise InputError(
                f"workload {name!r}: no module {error.name!r} beside the sweep file, in the current folder "
                f"or on the Python path{_near(error.name, search)}"
            ) from None
        reason = f"{message_of(error)}{_place(error)}{_renamed(error)}"
        raise InputError(f"workload {name!r} fails to import: {reason}") from None
    except BaseException as error:  # a user's module may raise anything, SystemExit included
        if isinstance(error, KeyboardInterrupt) and is_signalled():
            raise
        reason = f"{type(error).__name__}: {_cut(message_of(error))}{_place(error)}"
        raise InputError(f"workload {name!r} fails to import: {reason}") from error
    path = str(vars(module).get("__file__") or module_name)
    declared = {what: _declaration(module, what, f"workload {name!r}: {path}") for what in (function, *_DECLARED)}
    run = declared[function]
    if run is not None and not callable(run):
        raise InputError(f"workload {name!r}: {path}: {function} is {short_repr(run)}; it must be a function")
    if run is None:
        names = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module_name]
        near = nearest(function, names)
        hint = f" did you mean {near!r}?" if near else ""
        raise InputError(
            f"workload {name!r}: {module_name} has no function {function!r};{hint} it has: {', '.join(names) or 'none'}"
        )
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
        source_digest=code.digest,
        folder=code.folder,
        code=code,
    )


@contextlib.contextmanager
def _no_exit() -> Iterator[None]:
    """Make `os._exit` raise SystemExit inside the block, so that the process does not end without a message.

    Processes that are forked inside the block still exit.
    """
    exit_at_once, process, is_over = os._exit, os.getpid(), False

    def noticed(status: int) -> NoReturn:
        if is_over or os.getpid() != process:
            exit_at_once(status)
        raise SystemExit(f"it called os._exit({status})")

    os._exit = noticed
    try:
        yield
    finally:
        os._exit, is_over = exit_at_once, True


_RENAMED = ("analysis", "orchestrator", "workloads")


def _renamed(error: ModuleNotFoundError) -> str:
    """Return a hint if the missing module has a name that a raysweep package had before version 0.1.0; otherwise ""."""
    missing = error.name or ""
    if missing.partition(".")[0] not in _RENAMED:
        return ""
    return f"; if you mean raysweep's: since version 0.1.0 its name is raysweep.{missing}"


def _declaration(module: ModuleType, what: str, where: str) -> Any:
    """Return a module's declaration named `what`, or None. Its type is checked (see `raysweep.workloads.interface`)."""
    try:
        value = getattr(module, what, None)
        if value is None:
            return None
        if what == "VERSION":
            if isinstance(value, str | int | float):  # text of other objects may differ between processes
                value = str(value)
            fits = isinstance(value, str) and 0 < len(value) <= 300 and encodable(value)
        elif what == "Config":
            fits = isinstance(value, type) and issubclass(value, pydantic.BaseModel)
        elif what == "METHODS":
            fits = not isinstance(value, str) and all(isinstance(name, str) for name in value)
        else:
            fits = what not in ("settle", "cost", "lacks") or callable(value)
    except BaseException as error:  # from the module's own __getattr__ or the collection's own __iter__
        if isinstance(error, KeyboardInterrupt) and is_signalled():
            raise
        must = f"; it must be {_DECLARED[what]}" if what in _DECLARED else ""
        raise InputError(f"{where}: {what}: {type(error).__name__}: {message_of(error)}{must}") from None
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
