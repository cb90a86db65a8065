"""Putting decode nodes and payloads into the graphs of a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from . import carriage
from .plan import PlannedTensor
from .tensors import raw_tensor
from .usage import Usage
from .walk import GraphPath, common_prefix

if TYPE_CHECKING:
    import onnx

Put = Callable[["onnx.TensorProto", bytes], None]
"""Gives a TensorProto its values, inside the model or in an external file."""

_UINT8 = 2


class Insertion(NamedTuple):
    """One decode node to insert.

    Attributes:
        planned: the tensor it replaces.
        path: the graph it goes into.
        decode: the node.
        payload: bytes of its payload.
    """

    planned: PlannedTensor
    path: GraphPath
    decode: carriage.DecodeNode
    payload: bytes


class _Changes:
    """What happens to one graph."""

    def __init__(self) -> None:
        self.gone_tensors: dict[str, str] = {}
        self.gone_nodes: set[int] = set()
        self.decodes: list[Insertion] = []
        self.payloads: dict[str, Insertion] = {}


def insert_decode_nodes(usage: Usage, insertions: Sequence[Insertion], put: Put) -> None:
    """Replace tensors by payloads and decode nodes.

    Every graph stays topologically sorted: a decode node follows the node that makes its `after`, or
    comes first. A payload takes the place of its tensor among the initializers.

    Args:
        usage: of the model, whose graphs are changed in place.
        insertions: what to insert, in the model's order.
        put: called once per payload with its new TensorProto.
    """
    changes = _collect(insertions)
    # Inner graphs first: rebuilding the node list of an outer graph copies the graphs inside.
    for path in sorted(changes, key=len, reverse=True):
        graph = usage.graphs[path]
        _edit_nodes(graph, changes[path])
        _edit_initializers(graph, changes[path], put)
        _edit_value_info(graph, changes[path])


def _collect(insertions: Sequence[Insertion]) -> dict[GraphPath, _Changes]:
    changes: defaultdict[GraphPath, _Changes] = defaultdict(_Changes)
    homes: dict[str, list[Insertion]] = {}
    for insertion in insertions:
        planned = insertion.planned
        source = changes[planned.path]
        if planned.origin == "constant":
            source.gone_nodes.add(planned.position)
        else:
            source.gone_tensors[planned.name] = insertion.decode.payload
        changes[insertion.path].decodes.append(insertion)
        homes.setdefault(insertion.decode.payload, []).append(insertion)
    for name, users in homes.items():
        changes[common_prefix([user.path for user in users])].payloads[name] = users[0]
    return dict(changes)


def _edit_nodes(graph: onnx.GraphProto, changes: _Changes) -> None:
    kept = [node for index, node in enumerate(graph.node) if index not in changes.gone_nodes]
    produced = {name for node in kept for name in node.output}
    taken = {node.name for node in kept}
    waiting: defaultdict[str | None, list[onnx.NodeProto]] = defaultdict(list)
    for insertion in changes.decodes:
        after = insertion.decode.after
        node = carriage.make_node(insertion.decode)
        node.name = _node_name(insertion.planned, taken)
        taken.add(node.name)
        waiting[after if after in produced else None].append(node)
    nodes = waiting.pop(None, [])
    for node in kept:
        nodes.append(node)
        for name in node.output:
            nodes.extend(waiting.pop(name, []))
    del graph.node[:]
    graph.node.extend(nodes)


def _node_name(planned: PlannedTensor, taken: set[str]) -> str:
    """The name that a Constant node had lives on in its decode node, unless another node has it too.

    onnxruntime overlooks equal names of Constant nodes, which it turns into initializers, but not of others.
    """
    return planned.node_name if planned.origin == "constant" and planned.node_name not in taken else ""


def _edit_initializers(graph: onnx.GraphProto, changes: _Changes, put: Put) -> None:
    left = dict(changes.payloads)
    tensors = []
    for tensor in graph.initializer:
        payload = changes.gone_tensors.get(tensor.name)
        if payload is None:
            tensors.append(tensor)
        elif payload in left:
            tensors.append(_payload_tensor(payload, left.pop(payload), put))
    tensors.extend(_payload_tensor(name, insertion, put) for name, insertion in left.items())
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def _payload_tensor(name: str, insertion: Insertion, put: Put) -> onnx.TensorProto:
    tensor = raw_tensor(name, _UINT8, (len(insertion.payload),), None)
    if insertion.planned.proto.doc_string:
        tensor.doc_string = insertion.planned.proto.doc_string
    put(tensor, insertion.payload)
    return tensor


def _edit_value_info(graph: onnx.GraphProto, changes: _Changes) -> None:
    from onnx import helper

    # Without it everything downstream of the decoded tensors would lose its shape: no tool knows the
    # operators.
    typed = {value.name for value in (*graph.value_info, *graph.output)}
    for insertion in changes.decodes:
        decode = insertion.decode
        if decode.output not in typed:
            graph.value_info.append(
                helper.make_tensor_value_info(decode.output, decode.element.onnx_type, decode.shape)
            )
