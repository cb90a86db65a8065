"""Putting nodes back into a graph where they were."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .walk import node_inputs

if TYPE_CHECKING:
    import onnx


def insert_nodes(nodes: Sequence[onnx.NodeProto], placed: Iterable[tuple[int, onnx.NodeProto]]) -> list[onnx.NodeProto]:
    """`nodes` with further ones without inputs.

    Args:
        nodes: a topologically sorted list.
        placed: each with its index in the result. In a graph that is not what it was when the indices were taken, a
            node comes earlier if something would read it before.
    """
    waiting = sorted(placed, key=lambda item: item[0])
    first_reader: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node_inputs(node):
            first_reader.setdefault(name, index)
    limits = [first_reader.get(node.output[0], len(nodes)) for _, node in waiting]
    for index in reversed(range(len(limits) - 1)):
        limits[index] = min(limits[index], limits[index + 1])
    merged: list[onnx.NodeProto] = []
    done = 0
    for (position, node), limit in zip(waiting, limits, strict=True):
        ahead = max(0, min(position - len(merged), limit - done))
        merged += nodes[done : done + ahead]
        done += ahead
        merged.append(node)
    return [*merged, *nodes[done:]]


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Make `nodes`, which may be those of `graph`, its node list."""
    copied = []
    for node in nodes:
        copied.append(type(node)())
        copied[-1].CopyFrom(node)
    del graph.node[:]
    graph.node.extend(copied)
