"""Where a decode node goes and what it waits for.

A runtime decodes a tensor once per execution of the graph that holds its decode node: inside an If
branch only when the branch is taken, outside a Loop or Scan only once. `after` is the activation that
the tensor's first consumer waits for; without it onnxruntime may decode every tensor before it computes
anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .usage import Usage, Use, Value
from .walk import GraphPath, common_prefix, local_names, node_inputs, subgraphs

if TYPE_CHECKING:
    import onnx

_BRANCHING = frozenset({"If"})

# Outputs of these are sequences, maps or optionals, which an operator with tensor inputs cannot take.
_NOT_TENSORS = frozenset(
    {
        "DictVectorizer",
        "Optional",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
        "SequenceMap",
        "SplitToSequence",
        "ZipMap",
    }
)


class Placement:
    """Answers for one model and one set of tensors that will be decoded."""

    def __init__(self, usage: Usage, packed: Iterable[Value]) -> None:
        self._usage = usage
        self._packed = frozenset(packed)
        self._depth: dict[Value, int] = {}
        self._not_tensors: set[Value] = set()
        self._unsorted: set[GraphPath] = set()
        self._definitions: dict[str, int] = {}
        for graph in usage.graphs.values():
            for name in local_names(graph):
                self._definitions[name] = self._definitions.get(name, 0) + 1
        self._measure(usage.graphs[()], (), 0)

    def graph_for(self, value: Value) -> GraphPath:
        """The graph that gets the decode node of `value`.

        The innermost graph that all readers see, but outside of every loop body where its name allows it.
        """
        readers = [use.path for use in self._usage.uses(value)]
        common = common_prefix(readers) if readers else value.path
        for length in range(1, len(common) + 1):
            if self._usage.owners[common[:length]].op_type not in _BRANCHING:
                outside = common[: length - 1]
                leaves_its_graph = len(outside) < len(value.path)
                if leaves_its_graph and not self._may_leave(value):
                    return value.path
                return outside
        return common

    def after(self, value: Value, path: GraphPath) -> str | None:
        """Name of the activation that the decode node of `value`, put into the graph at `path`, waits for.

        It is the deepest data input, by packed tensors upstream, of the first node in that graph which
        combines the tensor with an activation. Nothing upstream of that node reads the tensor, so no
        cycle can arise. ``None`` if there is no such node or the graph is not topologically sorted.
        """
        if path in self._unsorted:
            return None
        index = self._first_consumer(value, path)
        if index is None:
            return None
        best: str | None = None
        deepest = -1
        for name in node_inputs(self._usage.graphs[path].node[index]):
            candidate = self._usage.resolve(path, name)
            if candidate is None or candidate in self._not_tensors:
                continue
            depth = self._depth.get(candidate)
            if depth is not None and depth > deepest:
                best, deepest = name, depth
        return best

    def _may_leave(self, value: Value) -> bool:
        is_output = any(use.node is None for use in self._usage.uses(value))
        return self._definitions.get(value.name) == 1 and not is_output

    def _first_consumer(self, value: Value, path: GraphPath) -> int | None:
        """Index in the graph at `path` of the first node that joins `value` with an activation."""
        first: int | None = None
        pending, seen = [value], {value}
        while pending:
            for use in self._usage.uses(pending.pop()):
                index = _index_at(use, path)
                if index is None:
                    continue
                node = self._usage.graphs[path].node[index]
                if self._reads_activation(node, path):
                    first = index if first is None else min(first, index)
                    continue
                for name in node.output:
                    derived = self._usage.resolve(path, name)
                    if derived is not None and derived not in seen:
                        seen.add(derived)
                        pending.append(derived)
        return first

    def _reads_activation(self, node: onnx.NodeProto, path: GraphPath) -> bool:
        return any(self._usage.resolve(path, name) in self._depth for name in node_inputs(node))

    def _measure(self, graph: onnx.GraphProto, path: GraphPath, entry_depth: int) -> int:
        """Record the depth of every activation of `graph`; returns the number of packed tensors it reads.

        Values that follow from constants alone get no entry.
        """
        constants = {tensor.name for tensor in graph.initializer}
        for formal in graph.input:
            if formal.name not in constants:
                value = Value(path, formal.name)
                self._depth[value] = entry_depth
                if formal.type.WhichOneof("value") not in (None, "tensor_type"):
                    self._not_tensors.add(value)
        produced = {name for node in graph.node for name in node.output if name}
        reads = 0
        for index, node in enumerate(graph.node):
            depth, used = self._measure_node(node, index, path, produced)
            reads += used
            for name in node.output:
                produced.discard(name)
                if name and depth is not None:
                    self._depth[Value(path, name)] = depth + used
                    if _makes_other_than_tensors(node):
                        self._not_tensors.add(Value(path, name))
        return reads

    def _measure_node(
        self, node: onnx.NodeProto, index: int, path: GraphPath, not_yet_produced: set[str]
    ) -> tuple[int | None, int]:
        """(depth of the node's inputs, ``None`` without activation; packed tensors it reads)."""
        depth: int | None = None
        used = 0
        for name in node_inputs(node):
            value = self._usage.resolve(path, name)
            if value is None:
                continue
            if value.path == path and name in not_yet_produced:
                self._unsorted.add(path)
            if value in self._packed:
                used += 1
            elif value in self._depth:
                depth = max(depth or 0, self._depth[value])
        for attribute, body in subgraphs(node):
            inner = (*path, f"{index}.{attribute}")
            used += self._measure(body, inner, depth or 0)
        return depth, used


def _makes_other_than_tensors(node: onnx.NodeProto) -> bool:
    if node.op_type in _NOT_TENSORS:
        return True
    return any(
        output.type.WhichOneof("value") not in (None, "tensor_type")
        for _, body in subgraphs(node)
        for output in body.output
    )


def _index_at(use: Use, path: GraphPath) -> int | None:
    """Index of the node in the graph at `path` that is, or contains, the reader."""
    if use.path == path:
        return use.node_index if use.node is not None else None
    if use.path[: len(path)] != path:
        return None
    return int(use.path[len(path)].partition(".")[0])
