"""Putting decode nodes and payloads into the graphs of a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from . import carriage
from .graph.roles import implies_shape
from .graph.usage import Usage
from .graph.walk import GraphPath, common_prefix
from .grouping import Group
from .plan import PlannedTensor
from .tensors import raw_tensor

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
        self.groups: list[Group] = []
        self.typed: list[PlannedTensor] = []

    def remove(self, planned: PlannedTensor, payload: str) -> None:
        """Take out a tensor that `payload` stands for."""
        if planned.origin == "constant":
            self.gone_nodes.add(planned.position)
        else:
            self.gone_tensors[planned.name] = payload


def insert_decode_nodes(usage: Usage, insertions: Sequence[Insertion], put: Put, groups: Sequence[Group] = ()) -> None:
    """Replace tensors by payloads and decode nodes.

    Every graph stays topologically sorted: a decode node follows the node that makes its `after`, or
    comes first. A payload takes the place of its tensor among the initializers, that of a group comes last.

    Args:
        usage: of the model, whose graphs are changed in place.
        insertions: what to insert, in the model's order.
        put: called once per payload with its new TensorProto.
        groups: tensors that share nodes and payloads.
    """
    changes = _collect(usage, insertions, groups)
    # Inner graphs first: rebuilding the node list of an outer graph copies the graphs inside.
    for path in sorted(changes, key=len, reverse=True):
        graph = usage.graphs[path]
        _edit_nodes(graph, changes[path])
        _edit_initializers(graph, changes[path], put)
        _edit_value_info(graph, changes[path])


def _collect(usage: Usage, insertions: Sequence[Insertion], groups: Sequence[Group]) -> dict[GraphPath, _Changes]:
    changes: defaultdict[GraphPath, _Changes] = defaultdict(_Changes)
    homes: dict[str, list[Insertion]] = {}
    for insertion in insertions:
        planned = insertion.planned
        changes[planned.path].remove(planned, insertion.decode.payload)
        changes[insertion.path].decodes.append(insertion)
        changes[insertion.path].typed.append(planned)
        homes.setdefault(insertion.decode.payload, []).append(insertion)
    for group in groups:
        changes[group.path].groups.append(group)
        for item in group.members:
            changes[item.planned.path].remove(item.planned, group.payload_name)
            if not implies_shape(usage, item.planned.value):
                changes[group.path].typed.append(item.planned)
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
    nodes = [_group_node(group) for group in changes.groups] + waiting.pop(None, [])
    for node in kept:
        nodes.append(node)
        for name in node.output:
            nodes.extend(waiting.pop(name, []))
    del graph.node[:]
    graph.node.extend(nodes)


def _group_node(group: Group) -> onnx.NodeProto:
    tensors = [item.planned for item in group.members]
    names, shapes = [tensor.name for tensor in tensors], [tensor.shape for tensor in tensors]
    return carriage.make_group_node(group.payload_name, names, shapes, group.crc32, group.element)


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
            insertion = left.pop(payload)
            tensors.append(_payload_tensor(payload, insertion.payload, insertion.planned.proto.doc_string, put))
    for name, insertion in left.items():
        tensors.append(_payload_tensor(name, insertion.payload, insertion.planned.proto.doc_string, put))
    tensors.extend(_payload_tensor(group.payload_name, group.payload, "", put) for group in changes.groups)
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def _payload_tensor(name: str, payload: bytes, doc_string: str, put: Put) -> onnx.TensorProto:
    tensor = raw_tensor(name, _UINT8, (len(payload),), None)
    if doc_string:
        tensor.doc_string = doc_string
    put(tensor, payload)
    return tensor


def _edit_value_info(graph: onnx.GraphProto, changes: _Changes) -> None:
    from onnx import helper

    # Without it everything downstream of the decoded tensors would lose its shape: no tool knows the
    # operators.
    known = {value.name for value in (*graph.value_info, *graph.output)}
    for planned in changes.typed:
        if planned.name not in known:
            information = helper.make_tensor_value_info(planned.name, planned.proto.data_type, planned.shape)
            graph.value_info.append(information)
