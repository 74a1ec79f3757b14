"""Side effects of top-level statements at import, other than the binding of names.

A statement with unknown effects counts as one that has effects.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from raysweep.orchestrator.code.stripped import is_text

NONE, SOME, ORDERED = 0, 1, 2
"""Side effects of a top-level statement when its module is imported.

`NONE`: it only binds names. `SOME`: it may have effects, such as an assignment that calls an unknown function.
`ORDERED`: it may have effects whose order relative to other statements matters, such as a bare call.
"""

_PURE_BUILTINS = frozenset((
    "abs", "all", "any", "ascii", "bin", "bool", "bytes", "chr", "complex", "dict", "divmod", "enumerate", "float",
    "format", "frozenset", "hash", "hex", "int", "isinstance", "issubclass", "len", "list", "map", "max", "min",
    "object", "oct", "ord", "pow", "range", "repr", "reversed", "round", "set", "slice", "sorted", "str", "sum",
    "super", "tuple", "type", "zip", "property", "staticmethod", "classmethod",
))  # fmt: skip
_PURE_MODULES = frozenset((
    "typing", "typing_extensions", "collections", "dataclasses", "re", "math", "cmath", "operator", "functools",
    "itertools", "enum", "pathlib", "decimal", "fractions", "datetime", "string", "textwrap", "abc", "types",
    "contextlib", "contextvars", "numbers", "pydantic", "annotated_types",
))  # fmt: skip
_PURE = frozenset((
    "logging.getLogger", "json.loads", "json.dumps", "numpy.array", "numpy.asarray", "numpy.zeros", "numpy.ones",
    "numpy.arange", "numpy.dtype", "numpy.linspace", "numpy.float32", "numpy.float64", "numpy.finfo", "torch.device",
    "torch.tensor", "jax.numpy.array", "numba.njit", "numba.jit", "torch.no_grad", "torch.inference_mode", "jax.jit",
))  # fmt: skip
_PLAIN_BASES = ("torch.", "pydantic.", "sklearn.base.", "flax.", "numpy.")
REGISTERING = ("__init_subclass__", "metaclass", "__set_name__")


class Import(NamedTuple):
    """The target of an imported name: the module `module`, or the name `name` in that module."""

    module: str
    name: str | None


class Effects:
    """Decides whether a statement at the top of a module may have effects other than binding names.

    Args:
        bound: the names that the module has bound so far, including imported ones.
        registering: whether the module may define base classes that register their subclasses.
    """

    def __init__(self, bound: Mapping[str, Sequence[object]], registering: bool) -> None:
        self._bound = bound
        self._registering = registering

    def of(self, node: ast.stmt) -> int:
        """Return the effects of a top-level statement: `NONE`, `SOME` or `ORDERED`."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            values = [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
            is_pure = all(map(self._is_pure, values)) and all(map(self._is_pure_decorator, node.decorator_list))
            return NONE if is_pure else SOME
        if isinstance(node, ast.ClassDef):
            return self._of_class(node)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [t for target in targets for t in (target.elts if isinstance(target, ast.Tuple) else [target])]
            if not all(isinstance(name, ast.Name) for name in names):
                return ORDERED
            return NONE if node.value is None or self._is_pure(node.value) else SOME
        return NONE if isinstance(node, ast.Pass) or node.__class__.__name__ == "TypeAlias" else ORDERED

    def _of_class(self, node: ast.ClassDef) -> int:
        plain = not node.keywords or not any(keyword.arg == "metaclass" for keyword in node.keywords)
        plain &= all(map(self._is_pure_decorator, node.decorator_list)) and all(map(self._is_plain_base, node.bases))
        inner = [NONE if is_text(statement) else self.of(statement) for statement in node.body]
        return max([NONE if plain else SOME, *inner])

    def _is_plain_base(self, base: ast.expr) -> bool:
        base = base.value if isinstance(base, ast.Subscript) else base
        dotted = self._dotted(base)
        if dotted is None or dotted == "":  # of this module
            return not self._registering and isinstance(base, ast.Name)
        top = dotted.partition(".")[0]
        return top in sys.stdlib_module_names or dotted.startswith(_PLAIN_BASES) or top == "builtins"

    def _is_pure_decorator(self, node: ast.expr) -> bool:
        function = node.func if isinstance(node, ast.Call) else node
        values = [*node.args, *(k.value for k in node.keywords)] if isinstance(node, ast.Call) else []
        if isinstance(function, ast.Attribute) and function.attr in ("setter", "getter", "deleter"):
            return True
        return self._is_pure_call(function) and all(map(self._is_pure, values))

    def _is_pure(self, node: ast.expr) -> bool:
        """Return whether the evaluation of an expression is known to have no side effects."""
        for part in _walk(node):
            if isinstance(part, ast.Call) and not self._is_pure_call(part.func):
                return False
            if isinstance(part, ast.Await | ast.Yield | ast.YieldFrom):
                return False
        return True

    def _is_pure_call(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Constant | ast.JoinedStr):
            return True  # a method of a text
        dotted = self._dotted(function)
        if not dotted:
            return False
        top, _, rest = dotted.partition(".")
        return (top == "builtins" and rest in _PURE_BUILTINS) or top in _PURE_MODULES or dotted in _PURE

    def _dotted(self, node: ast.expr) -> str | None:
        """Return the full name of a builtin or an imported name, with the attributes after it.

        "" for a name that the module itself binds. None for any other expression.
        """
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        targets = self._bound.get(node.id)
        if targets is None:
            return ".".join(["builtins", node.id, *attributes]) if hasattr(builtins, node.id) else None
        target = targets[0]
        if len(targets) != 1 or not isinstance(target, Import):
            return ""
        return ".".join([*filter(None, target), *attributes])


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run when an expression is evaluated: all but the bodies of lambdas."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(node, ast.Lambda) or child is not node.body:
            yield from _walk(child)
