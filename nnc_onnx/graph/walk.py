"""Graphs inside graphs: If, Loop and Scan bodies, and what the names in them refer to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

GraphPath = tuple[str, ...]
"""Where a graph sits: empty for the main graph, else one ``"<node index>.<attribute>"`` per level."""


def subgraphs(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    """(attribute name, graph) of every graph in the node's attributes."""
    from onnx import AttributeProto

    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            for position, graph in enumerate(attribute.graphs):
                yield f"{attribute.name}[{position}]", graph


def iter_graphs(graph: onnx.GraphProto, path: GraphPath = ()) -> Iterator[tuple[GraphPath, onnx.GraphProto]]:
    """`graph` and all graphs below it, outer ones first."""
    yield path, graph
    for index, node in enumerate(graph.node):
        for attribute, body in subgraphs(node):
            yield from iter_graphs(body, (*path, f"{index}.{attribute}"))


def common_prefix(paths: list[GraphPath]) -> GraphPath:
    """Path of the innermost graph that holds all of `paths` (at least one)."""
    prefix: list[str] = []
    for steps in zip(*paths, strict=False):
        if len(set(steps)) != 1:
            break
        prefix.append(steps[0])
    return tuple(prefix)


def local_names(graph: onnx.GraphProto) -> set[str]:
    """Names that `graph` itself defines: inputs, initializers, node outputs."""
    names = {value.name for value in graph.input}
    names.update(tensor.name for tensor in graph.initializer)
    names.update(tensor.values.name for tensor in graph.sparse_initializer)
    for node in graph.node:
        names.update(node.output)
    names.discard("")
    return names


def captured_names(graph: onnx.GraphProto) -> list[str]:
    """Names that `graph` uses but an outer graph defines, in order of first use."""
    defined = local_names(graph)
    found: dict[str, None] = {}
    for node in graph.node:
        for name in node_inputs(node):
            if name not in defined:
                found.setdefault(name)
    for value in graph.output:
        if value.name and value.name not in defined:
            found.setdefault(value.name)
    return list(found)


def node_inputs(node: onnx.NodeProto) -> list[str]:
    """All values `node` reads: its inputs, then what its subgraphs capture; empty names left out."""
    names = dict.fromkeys(name for name in node.input if name)
    for _, body in subgraphs(node):
        for name in captured_names(body):
            names.setdefault(name)
    return list(names)


def all_names(graph: onnx.GraphProto) -> set[str]:
    """Every name of a value in `graph` and below, defined or used."""
    names: set[str] = set()
    for _, inner in iter_graphs(graph):
        names |= local_names(inner)
        names.update(value.name for value in inner.output)
        for node in inner.node:
            names.update(node.input)
    names.discard("")
    return names
