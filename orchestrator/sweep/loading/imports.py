"""Imports a workload's files from bytes that are read only once, so that the same code is hashed, shipped and run.

A long-lived process, such as a notebook's, may have imported a module before its file was edited. So a user's
files are imported anew, beside the modules that the process already has. While this code runs, `Code.active`
puts the new modules in place; after that it restores the process's own modules.

Python's bytecode cache is not used. It compares a file's length and its modification time in whole seconds, so it can
miss an edit. Our bundled workloads and installed packages are imported as usual. They are refused if one of their
files has changed since.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from raysweep.orchestrator.code.source import digest_of
from raysweep.orchestrator.sweep.loading.source import BUNDLED_PACKAGE, content, source_files

_INSTALLED = ("site-packages", "dist-packages")


@dataclass(eq=False)
class Code:
    """A workload's source files, as this process has read them.

    Args:
        contents: name in the digest -> content.
        files: absolute path -> content; the same files as in `contents`.
        folder: the folder of a user's modules; None for bundled and installed ones.
        tops: top-level names of the modules that are imported afresh; empty for bundled and installed workloads.
        modules: full name -> file. These modules are imported afresh, too. An example is a recorded version of a
            bundled module.
    """

    contents: Mapping[str, bytes]
    files: Mapping[str, bytes]
    folder: str | None = None
    tops: frozenset[str] = frozenset()
    modules: Mapping[str, str] = field(default_factory=dict)
    _modules: dict[str, ModuleType] = field(default_factory=dict, repr=False)
    _is_active: bool = False

    @property
    def digest(self) -> str:
        """The digest of the names and contents, as 16 hex characters."""
        return digest_of(self.contents)

    def file_digests(self) -> dict[str, str]:
        """Return the digest of each file, by its name in `contents`."""
        return {name: hashlib.sha256(text).hexdigest()[:16] for name, text in self.contents.items()}

    def own_files(self) -> dict[Path, bytes]:
        """Return the content of each file by path relative to `folder`; empty for bundled and installed workloads."""
        if self.folder is None:
            return {}
        paths = {Path(os.path.relpath(path, self.folder)): text for path, text in self.files.items()}
        return {path: text for path, text in paths.items() if ".." not in path.parts}

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Import modules from these files inside the block, in place of the process's own modules of the same names.

        Blocks may be nested.
        """
        if self._is_active or not (self.tops or self.modules):
            yield
            return
        others = self._take()
        finder: Any = _Finder(self)
        _put(self._modules)
        sys.meta_path.insert(0, finder)
        self._is_active = True
        try:
            yield
        finally:
            self._is_active = False
            sys.meta_path.remove(finder)
            self._modules = self._take()
            _put(others)

    def has(self, name: str) -> bool:
        """Return whether the module of this full name is imported afresh."""
        return name in self.modules or name.partition(".")[0] in self.tops

    def _take(self) -> dict[str, ModuleType]:
        """Remove the modules that are imported afresh (see `has`) from the process, and return them."""
        names = [name for name in list(sys.modules) if self.has(name)]
        return {name: sys.modules.pop(name) for name in names}


def _put(modules: Mapping[str, ModuleType]) -> None:
    """Add the modules to `sys.modules`, and set each one as an attribute of its package.

    The attribute may be another version of the module, set by an import in between.
    """
    sys.modules.update(modules)
    for name, module in modules.items():
        package, _, own = name.rpartition(".")
        if package in sys.modules:
            setattr(sys.modules[package], own, module)


class _Finder:
    """Finds the modules of one `Code`. It searches the user's folder before the Python path."""

    def __init__(self, code: Code) -> None:
        self._code = code

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not self._code.has(name):
            return None
        if (file := self._code.modules.get(name)) is not None:
            places = [os.path.dirname(file)] if os.path.basename(file) == "__init__.py" else None
            loader = _Loader(name, file, self._code.files)
            return importlib.util.spec_from_file_location(name, file, loader=loader, submodule_search_locations=places)
        if path is None and self._code.folder is not None:
            spec = importlib.machinery.PathFinder.find_spec(name, [self._code.folder])
        else:
            others: list[Any] = [finder for finder in sys.meta_path if finder is not self]
            specs = (finder.find_spec(name, path, target) for finder in others)
            spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self._code.files)
            spec.cached = None
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a module from the bytes that `Code` has read, without a bytecode cache."""

    def __init__(self, name: str, path: str, files: Mapping[str, bytes]) -> None:
        super().__init__(name, path)
        self._files = files

    def get_data(self, path: str) -> bytes:
        known = self._files.get(path)
        return super().get_data(path) if known is None else known

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)


def read_code(module: str, folder: str | None) -> Code:
    """Read the source files of a workload's module. The result is empty for a module without a file.

    Args:
        module: the module's full name.
        folder: the folder in which a user's module was found; None: the module is looked up on the Python path.
    """
    bundled = module.startswith(f"{BUNDLED_PACKAGE}.")
    path = module if bundled else module_file(module, folder)
    if path is None:
        return Code({}, {}, folder)
    files = {name: (str(file), content(file)) for name, file in source_files(module, path, folder)}
    contents, paths = {name: text for name, (_, text) in files.items()}, dict(files.values())
    tops = {module.partition(".")[0]}
    if bundled or is_installed(path):
        return Code(contents, paths, folder)
    if folder is not None:
        tops |= {file.parts[0].removesuffix(".py") for file in Code(contents, paths, folder).own_files()}
    return Code(contents, paths, folder, frozenset(tops))


def module_file(module: str, folder: str | None) -> str | None:
    """Return the file of a module, without importing the module. None if the module or its package has no file."""
    top, *inner = module.split(".")
    try:
        spec = (
            importlib.util.find_spec(top) if folder is None else importlib.machinery.PathFinder.find_spec(top, [folder])
        )
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not inner:
        return spec.origin if spec.has_location else None
    for place in spec.submodule_search_locations or ():
        below = Path(place, *inner)
        for file in (below / "__init__.py", below.with_name(f"{below.name}.py")):
            if os.path.isfile(file):
                return str(file)
    return None


def is_installed(path: str) -> bool:
    """Return whether a module's file belongs to an installed package or to Python."""
    return any(part in _INSTALLED for part in Path(path).parts) or path.startswith(sysconfig.get_path("stdlib"))
