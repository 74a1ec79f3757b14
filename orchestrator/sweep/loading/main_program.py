"""Programs that define workload functions in `__main__`, and how another process loads these functions."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.process import is_signalled
from raysweep.orchestrator.sweep.loading.main_module import MAIN
from raysweep.orchestrator.text import message_of

_entering: list[str] = []
"""Paths of the programs that `enter` is running now."""
_GUARDS = frozenset(f"__name__ == {MAIN!r}".split(" == "))


def folder_of_main() -> str | None:
    """Return the folder of the script `__main__`; None for a notebook, and for `python -m`."""
    main = sys.modules[MAIN]
    file = getattr(main, "__file__", None)
    return None if file is None or getattr(main, "__spec__", None) is not None else os.path.dirname(file)


def enter(path: str) -> None:
    """Run a program's file as `__main__`, except its blocks `if __name__ == "__main__":`.

    Afterwards, `__main__` has the program's functions and classes.

    Raises:
        InputError: the file cannot be read, or raises an exception.
    """
    file = Path(path)
    try:
        tree = ast.parse(file.read_bytes(), path)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {message_of(error)}") from None
    tree.body = list(_without_start(tree))
    module = ModuleType(MAIN)
    module.__file__ = path
    parents = [file.parent]
    while (parents[-1] / "__init__.py").is_file():
        parents.append(parents[-1].parent)
    if len(parents) > 1:  # as with `python -m`
        module.__package__ = ".".join(parent.name for parent in reversed(parents[:-1]))
        module.__spec__ = importlib.util.spec_from_file_location(f"{module.__package__}.{file.stem}", path)
    sys.path[:0] = dict.fromkeys((str(parents[0]), str(parents[-1])))
    sys.modules[MAIN] = module
    _entering.append(path)
    try:
        exec(compile(tree, path, "exec"), vars(module))  # noqa: S102 - the user's own program
    except InputError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and is_signalled():
            raise
        reason = f"{type(error).__name__}: {message_of(error)}"
        raise InputError(f"{path}: fails when it is run for its functions: {reason}") from error
    finally:
        _entering.pop()


def refuse_launch() -> None:
    """Raise InputError if a program starts a launch while `enter` runs it."""
    if _entering:
        raise InputError(
            f"{_entering[-1]}: starts a launch while it is run for its functions; put that under "
            f'if __name__ == "{MAIN}":'
        )


def _without_start(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        if isinstance(node, ast.If) and set(ast.unparse(node.test).split(" == ")) == _GUARDS:
            yield from node.orelse
        else:
            yield node
