"""Removal of parts of a syntax tree that cannot change a result: docstrings, unread annotations, texts of errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Stripped(ast.NodeTransformer):
    """Removes docstrings from a syntax tree. Keeps annotations, because libraries read them.

    With `imports`, also removes import statements. Unless `strict`, also removes the arguments of raised exceptions,
    since no result depends on the text of an error.
    """

    def __init__(self, *, strict: bool, imports: bool) -> None:
        self._strict, self._imports = strict, imports

    def visit(self, node: ast.AST) -> Any:
        """Return the node without docstrings, and without the other parts that this transformer removes."""
        if isinstance(node, _WITH_DOCSTRING):
            body: list[ast.stmt] = [statement for statement in node.body if not is_text(statement)]
            node.body = body or [ast.Pass()]
        elif isinstance(node, ast.Import | ast.ImportFrom) and self._imports:
            return ast.Pass()
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and not self._strict:
            node.exc.args, node.exc.keywords = [], []
        return self.generic_visit(node)


class Unannotated(ast.NodeTransformer):
    """Removes the annotations of functions without decorators, since nothing evaluates these annotations."""

    def visit(self, node: ast.AST) -> Any:
        """Return the node without the annotations of undecorated functions."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.decorator_list:
            node.returns = None
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            for argument in filter(None, every):
                argument.annotation = None
        return self.generic_visit(node)


def is_text(node: ast.stmt) -> bool:
    """Return whether a statement is only a constant, such as a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def outside_raise(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all nodes below it, except raise statements and the nodes in these."""
    if not isinstance(node, ast.Raise):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from outside_raise(child)
