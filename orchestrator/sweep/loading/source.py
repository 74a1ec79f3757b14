"""Finds the source files of a workload. Imports are found by reading import statements; no module is imported."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import raysweep

OURS = "raysweep"
"""The name of our package. In a folder that is shipped to workers, the package lies beside the user's modules."""

BUNDLED_PACKAGE = "raysweep.workloads"
"""The package of the workloads that come with raysweep."""

MAX_BYTES = 2**19
"""Maximum bytes of a file that is searched for imports.

Larger files are usually generated, and parsing one would take seconds.
"""


def source_files(module: str, path: str, folder: str | None = None) -> list[tuple[str, Path]]:
    """Find a workload's source files. Each is paired with the name under which it enters the digest.

    For a bundled workload, these are its module and the modules of `raysweep.workloads` that it imports. For a
    user's workload, these are all files of the module's top-level package, or only the module's file if the module is
    in no package. If `folder` is given, imports from this folder are added.

    Args:
        module: the full name of the workload's module.
        path: the module's file.
        folder: the folder in which a user's module was found, which is shipped; None for an installed package.
    """
    if module.startswith(f"{BUNDLED_PACKAGE}."):
        root = Path(raysweep.__file__).resolve().parents[1]
        files = [(p.as_posix(), (root / p).resolve()) for p in reached(module, root, BUNDLED_PACKAGE)]
        return [(name.removeprefix(f"{OURS}/"), file) for name, file in files]
    top, inner = module.partition(".")[0], module.count(".")
    is_package = Path(path).name == "__init__.py"
    if inner or is_package:
        root = Path(path).parents[inner - (not is_package)]
        package = [p.relative_to(root) for p in root.rglob("*.py") if "__pycache__" not in p.parts]
        if folder is not None:
            package = [p for p in package if not any(part.startswith(".") or part == "results" for part in p.parts)]
        files = [(p.as_posix(), root / p) for p in sorted(package)]
    else:
        files = [(Path(path).name, Path(path))]
    if folder is not None:
        helpers = [p for p in reached(module, Path(folder)) if p.parts[0] not in (top, f"{top}.py")]
        files += [(p.as_posix(), Path(folder, p)) for p in helpers]
    return [(name, file) for name, file in files if file.is_file()]


def module_conflicts(own: Mapping[str, Iterable[Path]]) -> list[str]:
    """Describe modules that have the same name but differ between folders.

    `own` maps a folder to its files, relative to it.
    """
    conflicts: dict[frozenset[Path], str] = {}
    for folder, files in own.items():
        for name in files:
            file = Path(folder, name)
            top = name.parts[0].removesuffix(".py")
            for elsewhere in own.keys() - {folder}:
                same = Path(elsewhere, name)
                form = Path(elsewhere, f"{top}.py") if len(name.parts) > 1 else Path(elsewhere, top, "__init__.py")
                for other in (same, form):
                    if other.is_file() and content(other) != content(file):
                        problem = (
                            f"{file} and {other}: two modules of one name, but the cells of one launch share "
                            "their modules; rename one, or launch the sweeps separately"
                        )
                        conflicts.setdefault(frozenset((file, other)), problem)
    return sorted(conflicts.values())


def reached(module: str, folder: Path, within: str | None = None) -> list[Path]:
    """Find the files in `folder` that a module may load when imported or called, its own file included.

    They are found by reading import statements, also those inside functions. So every process on every machine
    finds the same files. Imports whose names are computed, and files outside the folder, are not found.

    Args:
        module: the module's full name.
        folder: the folder that contains the module or its top-level package.
        within: a package; only modules inside it are followed. None: all modules but raysweep's.

    Returns:
        Paths relative to the folder, sorted.
    """
    files: set[Path] = set()
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        ours = name.partition(".")[0] == OURS
        if name in seen or (ours if within is None else not name.startswith(f"{within}.")):
            continue
        seen.add(name)
        parts = name.split(".")
        if len(parts) > 1:
            waiting.append(".".join(parts[:-1]))  # a package is loaded before its modules
        for file, package in ((Path(*parts, "__init__.py"), parts), (Path(*parts[:-1], f"{parts[-1]}.py"), parts[:-1])):
            if os.path.isfile(folder / file):  # not `is_file`, which raises in a folder without search permission
                files.add(file)
                waiting += imported(content(folder / file), tuple(package))
                break
    return sorted(files)


@lru_cache(maxsize=1024)
def imported(source: bytes, package: tuple[str, ...]) -> frozenset[str]:
    """Return the full names in a file's import statements: modules, and the names that are imported from them.

    Args:
        source: the file's content. The result is empty if it is not Python, or longer than `MAX_BYTES`.
        package: the names of the packages that contain the file, the outermost first.
    """
    if len(source) > MAX_BYTES:
        return frozenset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in a user's strings are reported when it is imported
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = package[: max(0, len(package) - node.level + 1)] if node.level else ()
            within = [*around, *([node.module] if node.module else [])]
            names.update(".".join([*within, alias.name]) for alias in node.names if alias.name != "*")
            names.update([".".join(within)] if within else [])
    return frozenset(names)


def content(file: Path) -> bytes:
    """Read a file's bytes. Empty if the file cannot be read, since Python cannot import it then either."""
    try:
        return file.read_bytes()
    except OSError:
        return b""
