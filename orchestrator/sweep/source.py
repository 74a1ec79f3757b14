"""Which files of a folder a module is made of, read from import statements. Nothing is imported."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

OURS = "raysweep"
"""Our package, which lies beside users' modules where those are shipped to."""

BUNDLED_PACKAGE = "raysweep.workloads"
"""The package of the workloads that come with raysweep."""

MAX_BYTES = 2**19
"""No file that people write is longer; one that a program wrote would take seconds at each command."""


def reached(module: str, folder: Path, within: str | None = None) -> list[Path]:
    """The files in `folder` that importing a module, or calling what is in it, may load: itself, its helpers, theirs.

    By the text alone, imports within functions included, and so the same in any process on any machine. What is
    imported by a computed name is not seen, nor what lies outside the folder.

    Args:
        module: its full name.
        folder: where its top-level package or module lies.
        within: only modules inside this package; None: all but raysweep's.

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
            waiting.append(".".join(parts[:-1]))  # a package is loaded before what is in it
        for file, package in ((Path(*parts, "__init__.py"), parts), (Path(*parts[:-1], f"{parts[-1]}.py"), parts[:-1])):
            if os.path.isfile(folder / file):  # not `is_file`: it raises where a folder may not be looked into
                files.add(file)
                waiting += imported(content(folder / file), package)
                break
    return sorted(files)


def imported(source: bytes, package: Sequence[str]) -> set[str]:
    """Full names of all that a file's import statements name; some are no modules but what stands in one.

    Args:
        source: the file; one that is not Python, or of more than `MAX_BYTES`, imports nothing.
        package: names of the packages around it, the outermost first.
    """
    if len(source) > MAX_BYTES:
        return set()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in a user's strings: told when the file is imported
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = package[: max(0, len(package) - node.level + 1)] if node.level else ()
            within = [*around, *([node.module] if node.module else [])]
            names.update(".".join([*within, alias.name]) for alias in node.names if alias.name != "*")
            names.update([".".join(within)] if within else [])
    return names


def content(file: Path) -> bytes:
    """A file's bytes; none of one that may not be read, which nothing can import either."""
    try:
        return file.read_bytes()
    except OSError:
        return b""
