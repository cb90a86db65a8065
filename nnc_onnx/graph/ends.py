"""The weights at both ends of a model: those that the inputs meet first and those that make the outputs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from .usage import Usage, Value
from .walk import GraphPath, node_inputs, subgraphs

if TYPE_CHECKING:
    import onnx


def end_weights(usage: Usage, weights: Collection[Value]) -> frozenset[Value]:
    """Those of `weights` with none before or none behind them, in the outermost graph.

    Args:
        usage: of the model's graph.
        weights: constants that are to be told apart.
    """
    return _Ends(usage, frozenset(weights)).find()


class _Ends:
    def __init__(self, usage: Usage, weights: frozenset[Value]) -> None:
        self._usage = usage
        self._weights = weights
        self._before: dict[str, bool] = {}
        """By activation, whether a weight lies upstream."""
        self._carried: dict[str, frozenset[Value]] = {}
        """By value that follows from constants alone, the weights it is made of."""

    def find(self) -> frozenset[Value]:
        graph = self._usage.graphs[()]
        constants = {tensor.name for tensor in graph.initializer}
        self._before = {value.name: False for value in graph.input if value.name not in constants}
        met = [self._meet(node, index) for index, node in enumerate(graph.node)]
        found = {value for weights, is_first in met if is_first for value in weights}
        behind: dict[str, bool] = {}
        for node, (weights, _) in zip(reversed(graph.node), reversed(met), strict=True):
            weighty = any(behind.get(name, False) for name in node.output)
            if weights and not weighty:
                found |= weights
            for name in node_inputs(node):
                behind[name] = behind.get(name, False) or weighty or bool(weights)
        return frozenset(found & {value for value in self._weights if not value.path})

    def _meet(self, node: onnx.NodeProto, index: int) -> tuple[frozenset[Value], bool]:
        """The weights that meet an activation in `node`, and whether no weight lies before it."""
        own = self._used(node, (), index)
        names = [name for name in node_inputs(node) if name]
        own |= frozenset(value for name in names for value in self._carried.get(name, frozenset()))
        activations = [self._before[name] for name in names if name in self._before]
        joined = bool(activations) or (bool(own) and node.op_type == "Gather")
        for name in node.output:
            if joined:
                self._before[name] = any(activations) or bool(own)
            elif own:
                self._carried[name] = own
        return (own, not any(activations)) if joined else (frozenset(), False)

    def _used(self, node: onnx.NodeProto, path: GraphPath, index: int) -> frozenset[Value]:
        resolved = (self._usage.resolve(path, name) for name in node_inputs(node))
        found = {value for value in resolved if value is not None and value in self._weights}
        for attribute, body in subgraphs(node):
            inner = (*path, f"{index}.{attribute}")
            for position, each in enumerate(body.node):
                found |= self._used(each, inner, position)
        return frozenset(found)
