"""The condition and count language of the syntax description: a subset that Python and C++ read the same way.

Names, integers, ``+ - * & | << >>``, comparisons, ``and or not``, ``a if c else b``, attributes of a local
object and calls of the helpers below. All arithmetic is on integers that fit 64 bits; the helpers saturate.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Container, Sequence
from typing import Any

SATURATED = 1 << 62


def first(items: Sequence[int]) -> int:
    """First item, 0 if there is none."""
    return items[0] if items else 0


def product(items: Sequence[int]) -> int:
    """Product of the items, saturated; 1 if there is none."""
    result = 1
    for item in items:
        result *= item
        if result > SATURATED:
            result = SATURATED
    return result


def total(items: Sequence[int]) -> int:
    """Sum of the items, saturated."""
    return min(sum(items), SATURATED)


def length(items: Sequence[int]) -> int:
    """Number of items."""
    return len(items)


def rows_divide(dimensions: Sequence[int], rows: int) -> bool:
    """Whether the elements of a tensor can be written as ``rows`` rows."""
    elements = product(dimensions)
    return rows > 0 and elements < SATURATED and elements % rows == 0


def larger_factor(dimensions: Sequence[int], rows: int, rank: int) -> int:
    """Elements of the larger of the factors of a decomposed weight: ``rows`` x ``rank``, ``rank`` x rest."""
    return max(product((rows, rank)), product((product(dimensions) // max(rows, 1), rank)))


HELPERS: dict[str, Callable[..., Any]] = {
    "first": first,
    "product": product,
    "total": total,
    "length": length,
    "rows_divide": rows_divide,
    "larger_factor": larger_factor,
    "max": max,
    "min": min,
}

_CPP_HELPERS = {"max": "std::max<std::int64_t>", "min": "std::min<std::int64_t>"}

_BINARY: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.LShift: "<<",
    ast.RShift: ">>",
}
_COMPARE: dict[type[ast.AST], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}

_ALLOWED = (
    *(ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Compare, ast.IfExp),
    *(ast.Call, ast.Name, ast.Load, ast.Attribute, ast.Constant),
    *_BINARY,
    *_COMPARE,
)


class Expression:
    """A parsed expression.

    Attributes:
        source: the text.
        root: its syntax tree.
        names: names it needs, helpers left out.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.root = ast.parse(source, mode="eval").body
        nodes = list(ast.walk(self.root))
        for node in nodes:
            if (
                not isinstance(node, _ALLOWED)
                or (isinstance(node, ast.Constant) and type(node.value) is not int)
                or (isinstance(node, ast.Compare) and len(node.ops) != 1)
                or (isinstance(node, ast.Attribute) and not isinstance(node.value, ast.Name))
                or (isinstance(node, ast.Call) and node.keywords)
            ):
                raise TypeError(f"{source!r}: {type(node).__name__} is outside the expression language")
        self.names = frozenset(node.id for node in nodes if isinstance(node, ast.Name)) - HELPERS.keys()

    def python(self, resolve: Callable[[str], str]) -> str:
        """Python source with every name put through ``resolve``."""

        class Rename(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> ast.AST:
                return node if node.id in HELPERS else ast.Name(resolve(node.id), ast.Load())

        root = Rename().visit(ast.parse(self.source, mode="eval").body)
        text = ast.unparse(root)
        return text if isinstance(root, (ast.Name, ast.Constant, ast.Call)) else f"({text})"

    def cpp(self, resolve: Callable[[str], str], constants: Container[str]) -> str:
        """C++ source. Names that are not constants go through ``val``, which makes numbers ``std::int64_t``."""

        def emit(node: ast.AST) -> str:
            if isinstance(node, ast.BoolOp):
                operator = " && " if isinstance(node.op, ast.And) else " || "
                return f"({operator.join(map(emit, node.values))})"
            if isinstance(node, ast.UnaryOp):
                return f"{'!' if isinstance(node.op, ast.Not) else '-'}{emit(node.operand)}"
            if isinstance(node, ast.BinOp):
                return f"({emit(node.left)} {_BINARY[type(node.op)]} {emit(node.right)})"
            if isinstance(node, ast.Compare):
                return f"({emit(node.left)} {_COMPARE[type(node.ops[0])]} {emit(node.comparators[0])})"
            if isinstance(node, ast.IfExp):
                return f"({emit(node.test)} ? {emit(node.body)} : {emit(node.orelse)})"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                name = node.func.id
                function = _CPP_HELPERS.get(name, name) if name in HELPERS else resolve(name)
                return f"{function}({', '.join(map(emit, node.args))})"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                return f"val({resolve(node.value.id)}.{node.attr})"
            if isinstance(node, ast.Name):
                return resolve(node.id) if node.id in constants else f"val({resolve(node.id)})"
            return ast.unparse(node)

        return emit(self.root)


@functools.cache
def expression(source: str) -> Expression:
    """The expression with this source; equal sources share one."""
    return Expression(source)
