"""Syntax trees without what has no meaning: docstrings, and annotations and texts of errors that nothing reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Stripped(ast.NodeTransformer):
    """Removes docstrings; import statements too, if their targets are compared. Annotations stay: libraries read them.

    Unless `strict`, removes the arguments of raised exceptions: no result depends on the text of an error.
    """

    def __init__(self, *, strict: bool, imports: bool) -> None:
        self._strict, self._imports = strict, imports

    def visit(self, node: ast.AST) -> Any:
        """The node without these parts."""
        if isinstance(node, _WITH_DOCSTRING):
            body: list[ast.stmt] = [statement for statement in node.body if not is_text(statement)]
            node.body = body or [ast.Pass()]
        elif isinstance(node, ast.Import | ast.ImportFrom) and self._imports:
            return ast.Pass()
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and not self._strict:
            node.exc.args, node.exc.keywords = [], []
        return self.generic_visit(node)


class Unannotated(ast.NodeTransformer):
    """Removes the annotations of functions without decorators, which nothing evaluates."""

    def visit(self, node: ast.AST) -> Any:
        """The node without them."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.decorator_list:
            node.returns = None
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            for argument in filter(None, every):
                argument.annotation = None
        return self.generic_visit(node)


def is_text(node: ast.stmt) -> bool:
    """Whether a statement is only a constant, such as a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def outside_raise(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes, but for those of raise statements."""
    if not isinstance(node, ast.Raise):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from outside_raise(child)
