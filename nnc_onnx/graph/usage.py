"""Who reads which value, across subgraphs, and in which graph a name is defined."""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from .walk import GraphPath, local_names, subgraphs

if TYPE_CHECKING:
    import onnx


class Value(NamedTuple):
    """A value, identified by the graph that defines it and its name there."""

    path: GraphPath
    name: str


class Use(NamedTuple):
    """One place where a value is read.

    Attributes:
        path: graph of the reader.
        node_index: position of the reading node in that graph; -1 for an output of the graph.
        position: which input of the node; -1 for an output of the graph.
        node: the reader; ``None`` for an output of the graph.
    """

    path: GraphPath
    node_index: int
    position: int
    node: onnx.NodeProto | None


class Usage:
    """All uses of all values of a graph and its subgraphs.

    Attributes:
        graphs: graph by path, outer ones first.
        owners: for every subgraph the node it belongs to.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graphs: dict[GraphPath, onnx.GraphProto] = {}
        self.owners: dict[GraphPath, onnx.NodeProto] = {}
        self._uses: defaultdict[Value, list[Use]] = defaultdict(list)
        self._scopes: dict[GraphPath, Mapping[str, Value]] = {}
        self._walk(graph, (), ChainMap())

    def _walk(self, graph: onnx.GraphProto, path: GraphPath, outer: ChainMap[str, Value]) -> None:
        scope = outer.new_child({name: Value(path, name) for name in local_names(graph)})
        self.graphs[path] = graph
        self._scopes[path] = scope
        for index, node in enumerate(graph.node):
            for position, name in enumerate(node.input):
                if name in scope:
                    self._uses[scope[name]].append(Use(path, index, position, node))
            for attribute, body in subgraphs(node):
                inner = (*path, f"{index}.{attribute}")
                self.owners[inner] = node
                self._walk(body, inner, scope)
        for output in graph.output:
            if output.name in scope:
                self._uses[scope[output.name]].append(Use(path, -1, -1, None))

    def resolve(self, path: GraphPath, name: str) -> Value | None:
        """The value that `name` means inside the graph at `path`."""
        return self._scopes[path].get(name)

    def uses(self, value: Value) -> list[Use]:
        """Every use of `value`, outer graphs first, in node order."""
        return self._uses.get(value, [])
