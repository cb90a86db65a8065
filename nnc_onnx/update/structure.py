"""Whether two ONNX models are the same network apart from the values of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING

from nnc_codec.errors import UnsupportedError

from ..graph.walk import subgraphs

if TYPE_CHECKING:
    import onnx

    from .weights import Weight

_SHOWN = 3


class TopologyChangedError(UnsupportedError):
    """The new model is another network than the base, so that no update leads to it."""

    code = "NNC-E215"


def check_same_tensors(base: Mapping[str, Weight], new: Mapping[str, Weight]) -> None:
    """Refuse models whose tensors have different names, types or shapes.

    Raises:
        TopologyChangedError: says which.
    """
    for names, what in ((new.keys() - base.keys(), "adds"), (base.keys() - new.keys(), "lacks")):
        if names:
            shown = ", ".join(repr(name) for name in sorted(names)[:_SHOWN])
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise TopologyChangedError(
                f"the new model {what} {len(names)} tensors of the base: {shown}{more}"
                if what == "lacks"
                else f"the new model adds {len(names)} tensors to the base: {shown}{more}",
                hint="pack the new model as a whole",
            )
    for name, weight in new.items():
        old = base[name]
        if (old.shape, old.element) != (weight.shape, weight.element):
            raise TopologyChangedError(
                f"{old.element.dtype_name}{list(old.shape)} in the base, "
                f"{weight.element.dtype_name}{list(weight.shape)} in the new model",
                tensor=name,
                hint="pack the new model as a whole",
            )


def check_same_nodes(base: onnx.GraphProto, new: onnx.GraphProto, where: str = "the graph") -> None:
    """Refuse graphs whose nodes do other things or are connected otherwise; attributes and names of nodes may differ.

    Raises:
        TopologyChangedError: says where.
    """
    for what, one, other in (
        ("inputs", _inputs(base), _inputs(new)),
        ("outputs", [value.name for value in base.output], [value.name for value in new.output]),
    ):
        if one != other:
            raise _changed(f"{what} of {where} are {other}, in the base {one}")
    for index, (left, right) in enumerate(zip_longest(base.node, new.node)):
        if left is None or right is None:
            raise _changed(f"{where} has {len(new.node)} nodes, in the base {len(base.node)}")
        if _shape_of(left) != _shape_of(right):
            raise _changed(f"node {index} of {where} is {_text(right)}, in the base {_text(left)}")
        bodies = zip(subgraphs(left), subgraphs(right), strict=True)
        for (attribute, inner), (_, other_inner) in bodies:
            check_same_nodes(inner, other_inner, f"{attribute} of node {index} of {where}")


def _inputs(graph: onnx.GraphProto) -> list[str]:
    # Old models list initializers as inputs, and packing takes them from there.
    initializers = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in initializers]


def _changed(reason: str) -> TopologyChangedError:
    return TopologyChangedError(
        f"the new model is another network than the base: {reason}", hint="pack the new model as a whole"
    )


def _shape_of(node: onnx.NodeProto) -> tuple[object, ...]:
    bodies = tuple(name for name, _ in subgraphs(node))
    return (node.domain, node.op_type, tuple(node.input), tuple(node.output), bodies)


def _text(node: onnx.NodeProto) -> str:
    return f"{node.op_type}({', '.join(node.input)}) -> {', '.join(node.output)}"
