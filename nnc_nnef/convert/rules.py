"""Rewriting of ONNX nodes into the smaller set of operations that both NNEF and its readers agree on.

A rule takes one node and returns its replacement, or None to leave it. Rules write opset-13 nodes; after
:func:`apply_rules` the whole skeleton is opset 13, whatever it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from ..errors import ConversionError
from .fold import fold
from .skeleton import OPSET, Array, Skeleton, attributes, where


class Rewriter:
    """What a rule works with: the node, its attributes, and a way to write new nodes.

    Attributes:
        skeleton: the graph around the node.
        node: the node to replace.
        attribs: its attributes.
        opset: version the node was written in.
        nodes: the replacement so far.
    """

    def __init__(self, skeleton: Skeleton, node: NodeProto) -> None:
        self.skeleton = skeleton
        self.node = node
        self.attribs = attributes(node)
        self.opset = skeleton.opset
        self.nodes: list[NodeProto] = []

    def refuse(self, message: str, hint: str | None = None) -> ConversionError:
        """The error that names this node."""
        return ConversionError(message, op=self.node.op_type, node=where(self.node), hint=hint)

    def input(self, index: int) -> str:
        """Name of an input, empty if it is absent."""
        return str(self.node.input[index]) if index < len(self.node.input) else ""

    def output(self, index: int = 0) -> str:
        """Name of an output, empty if it is absent."""
        return str(self.node.output[index]) if index < len(self.node.output) else ""

    def value(self, index: int, what: str) -> Array:
        """Value of an input that has to be constant.

        Raises:
            ConversionError: it is not.
        """
        name = self.input(index)
        if name not in self.skeleton.constants:
            raise self.refuse(f"{what} is not constant")
        return self.skeleton.constants[name]

    def optional(self, index: int, what: str) -> Array | None:
        """Value of an optional constant input."""
        return self.value(index, what) if self.input(index) else None

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """Shape of an input."""
        return self.skeleton.shape(self.input(index))

    def out_shape(self, index: int = 0) -> tuple[int, ...]:
        """Shape of an output."""
        return self.skeleton.shape(self.output(index))

    def elem_type(self, index: int = 0) -> int:
        """``TensorProto`` type of an input."""
        return self.skeleton.types.get(self.input(index), TensorProto.UNDEFINED)

    def const(self, value: Array | Sequence[int] | float, dtype: str = "float32") -> str:
        """Name of a new constant."""
        return self.skeleton.constant(value, f"{self.output()}_const", dtype)

    def like(self, value: Array | Sequence[float] | float) -> str:
        """Name of a new floating-point constant of the node's own element type."""
        kind = helper.tensor_dtype_to_np_dtype(self.elem_type() or TensorProto.FLOAT)
        return self.skeleton.constant(np.asarray(value).astype(kind), f"{self.output()}_const")

    def op(self, op_type: str, *inputs: str, to: str | None = None, **attribs: Any) -> str:
        """Writes a node with one output and returns that output's name (`to`, or a fresh one)."""
        output = to or self.skeleton.fresh(f"{self.output()}_{op_type}")
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], name=f"{output}_node", **attribs))
        return output

    def cast(self, name: str, elem_type: int, to: str | None = None) -> str:
        """Writes a ``Cast``."""
        output = to or self.skeleton.fresh(f"{self.output()}_Cast")
        self.nodes.append(helper.make_node("Cast", [name], [output], name=f"{output}_node", to=elem_type))
        return output

    def reshape(self, name: str, shape: Sequence[int], to: str | None = None) -> str:
        """Writes a ``Reshape`` to a fixed shape."""
        return self.op("Reshape", name, self.const(list(shape), "int64"), to=to)

    def slice(self, name: str, axis: int, begin: int, end: int, to: str | None = None) -> str:
        """Writes a ``Slice`` of one axis."""
        bounds = [self.const([number], "int64") for number in (begin, end, axis)]
        return self.op("Slice", name, *bounds, to=to)


#: What rules raise on attributes or inputs that the operator's specification rules out.
MALFORMED = (KeyError, IndexError, ValueError, TypeError, AttributeError, ArithmeticError)

Rule = Callable[[Rewriter], "list[NodeProto] | None"]


def axes_of(values: Iterable[int], rank: int) -> list[int]:
    """Axes without negative numbers, in ascending order."""
    return sorted({int(axis) % rank if rank else int(axis) for axis in values})


def apply_rules(skeleton: Skeleton, rules: dict[str, Rule]) -> None:
    """Applies one set of rules to every node once, then folds."""
    result: list[NodeProto] = []
    for node in skeleton.nodes:
        rule = rules.get(node.op_type)
        try:
            replacement = rule(Rewriter(skeleton, node)) if rule else None
        except MALFORMED as error:
            raise ConversionError(f"the node is malformed: {error!r}", op=node.op_type, node=where(node)) from error
        result.extend([node] if replacement is None else replacement)
    skeleton.nodes = result
    skeleton.opset = OPSET
    fold(skeleton)
