"""Comparison of two versions of a workload's source, which lists the parts that differ in meaning.

Comments, docstrings and unused code do not count. The comparison starts at the workload's function. It covers every
definition that the function uses, directly or indirectly, and the code that runs when the modules of these
definitions are imported. Code may move between files.

If the code computes names at run time (`COMPUTED`), all files are compared. If it reads docstrings or source text
(`READ`), all files are compared byte by byte. A dictionary or list at the top of a module is compared as a whole: a
new entry, such as one more method, counts as a change for all code that uses the dictionary.
"""

from __future__ import annotations

from raysweep.orchestrator.code.names import Names, content_of
from raysweep.orchestrator.code.source import Source, SourceFile
from raysweep.orchestrator.code.units import NotPython, whole_meaning
from raysweep.orchestrator.code.walk import Difference as Difference
from raysweep.orchestrator.code.walk import Walk

COMPUTED = frozenset((
    "import_module", "__import__", "exec_module", "load_module", "spec_from_file_location", "SourceFileLoader",
    "run_path", "run_module", "walk_packages", "iter_modules", "__subclasses__", "entry_points", "find_loader",
    "hydra", "hydra_zen", "gin", "pydoc", "stevedore", "pluggy", "lazy_loader", "mmengine", "mmcv", "fiddle",
    "pickle", "dill", "cloudpickle", "shelve", "reload", "meta_path",
))  # fmt: skip
"""Identifiers whose use means that the code may import modules or find classes by names computed at run time."""
ANNOTATED = frozenset((
    "get_type_hints", "get_annotations", "__annotations__", "signature", "getfullargspec", "typer", "tyro",
    "jsonargparse", "simple_parsing", "fastapi", "beartype", "typeguard", "injector", "defopt", "cyclopts",
    "validate_call", "singledispatch", "plum", "exc_info", "format_exc", "print_exc", "traceback",
))  # fmt: skip
"""Identifiers whose use means that the code may read annotations or the text of errors at run time."""
READ = frozenset((
    "__doc__", "getdoc", "getsource", "getsourcelines", "getsourcefile", "linecache", "co_consts", "co_code",
))  # fmt: skip
"""Identifiers whose use means that the code may read docstrings or source text at run time."""


def differences(before: Source, after: Source) -> list[Difference]:
    """Return the parts in which two sources differ in meaning; empty if they compute the same."""
    changes = _by_bytes(before, after, is_code=False)
    if before.settings != after.settings:
        changes.append(Difference("the sweep file", "metrics", (), before.settings, after.settings))
    if _codes(before) == _codes(after) and (before.module, before.mains) == (after.module, after.mains):
        return changes
    if "__main__" in (before.module, after.module):  # its parts were found when they ran
        return changes + _by_meaning(before, after)
    try:
        sides = Names(before), Names(after)
        walk = Walk(*sides)
        walk.compare()
        if walk.reads_errors or {word.removeprefix(".") for word in walk.words} & ANNOTATED:
            walk = Walk(*sides, strict=True)
            walk.compare()
    except (NotPython, RecursionError):
        return changes + _by_meaning(before, after)
    words = {word.removeprefix(".") for word in walk.words}
    if words & READ:
        return changes + _by_bytes(before, after, is_code=True)
    if words & COMPUTED or _named_by_text(walk.words, *sides):
        return changes + _by_meaning(before, after)
    return changes + walk.changes


def _codes(source: Source) -> dict[str, str]:
    return {file.path: file.sha256 for file in source.files if file.module}


def _paths(before: Source, after: Source, *, is_code: bool) -> list[str]:
    every = [file for source in (before, after) for file in (*source.files, *source.inputs)]
    return sorted({file.path for file in every if bool(file.module) == is_code})


def _by_bytes(before: Source, after: Source, *, is_code: bool) -> list[Difference]:
    """Return the files that differ in any byte: only Python files if `is_code`, otherwise only other files."""
    changes = []
    for path in _paths(before, after, is_code=is_code):
        one, other = before.file(path), after.file(path)
        if one is None or other is None or one.sha256 != other.sha256:
            changes.append(Difference(path, "file", (), _text(one), _text(other)))
    return changes


def _text(file: SourceFile | None) -> str | None:
    return None if file is None else file.text()


def _by_meaning(before: Source, after: Source) -> list[Difference]:
    """Return the Python files that differ in more than comments, docstrings and layout."""
    changes = []
    for path in _paths(before, after, is_code=True):
        one, other = before.file(path), after.file(path)
        forms = [
            None if file is None else whole_meaning(content_of(file), is_file=not file.name.startswith("__main__:"))
            for file in (one, other)
        ]
        if forms[0] != forms[1]:
            changes.append(Difference(path, "file", (), _text(one), _text(other)))
    return changes


def _named_by_text(words: frozenset[str], *sides: Names) -> bool:
    """Return whether any string in the code names a module of the source, or a name that such a module binds.

    Only dotted names count: `package.model`, or `package.model:fit`.

    Args:
        words: the words of the code (see `Unit.words`).
        sides: the versions of the source.
    """
    for text in (word[1:].replace(":", ".") for word in words if word.startswith("'")):
        parts = text.split(".")
        if len(parts) == 1 or not all(map(str.isidentifier, parts)):
            continue
        for side in sides:
            for end in range(len(parts), 0, -1):
                if (module := side.module(".".join(parts[:end]))) is not None:
                    if end == len(parts) or parts[end] in module.bound:
                        return True
                    break
    return False
