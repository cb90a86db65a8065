"""Constant nodes as initializers, which take half the bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..errors import CarriageError
from ..graph.node_order import insert_nodes, replace_nodes
from ..graph.walk import iter_graphs, local_names
from ..plan import constant_tensor
from .names import usual_node_name

if TYPE_CHECKING:
    import onnx


class Moved(NamedTuple):
    """A Constant node that became an initializer.

    Attributes:
        output: name of its output.
        gap: nodes of its graph from the one that was moved before, or from the first.
        name: name of the node.
        tensor: name of the tensor in it; ``None`` for that of the output.
    """

    output: str
    gap: int
    name: str
    tensor: str | None


class Constants(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The nodes that were moved, as columns of a table.

    Attributes:
        outputs: number of the output's name among all names, minus that of the one before. Where the table has twins it
            is twice that, plus one for a name among those of the twins; the one before is then one of the same kind.
        gaps, tensors: as in :class:`Moved`.
        names: likewise; ``None`` for the usual name of a node with that output.
    """

    outputs: tuple[int, ...] = ()
    gaps: tuple[int, ...] = ()
    names: tuple[str | None, ...] = ()
    tensors: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, moved: Sequence[Moved], values: Sequence[str | None], twins: Sequence[str] = ()) -> Constants:
        """The table of `moved`, whose outputs are among `values` and `twins`."""
        places = {name: (0, index) for index, name in enumerate(values)}
        places |= {name: (1, index) for index, name in enumerate(twins)}
        last = [0, 0]
        outputs = []
        for item in moved:
            kind, number = places[item.output]
            difference = number - last[kind]
            outputs.append(2 * difference + kind if twins else difference)
            last[kind] = number
        return cls(
            outputs=tuple(outputs),
            gaps=tuple(item.gap for item in moved),
            names=tuple(None if item.name == usual_node_name(item.output) else item.name for item in moved),
            tensors=tuple(item.tensor for item in moved),
        )

    def moved(self, values: Sequence[str | None], twins: Sequence[str] = ()) -> list[Moved]:
        """The rows of the table.

        Raises:
            CarriageError: a column is too short, or a number is that of no name.
        """
        if not len(self.outputs) == len(self.gaps) == len(self.names) == len(self.tensors):
            raise CarriageError("the table of Constant nodes has columns of different lengths")
        rows = []
        last = [0, 0]
        for difference, gap, name, tensor in zip(self.outputs, self.gaps, self.names, self.tensors, strict=True):
            kind = difference & 1 if twins else 0
            last[kind] += difference >> 1 if twins else difference
            number, names = last[kind], twins if kind else values
            output = names[number] if 0 <= number < len(names) else None
            if output is None or gap < 0:
                raise CarriageError("the table of Constant nodes refers to nothing")
            rows.append(Moved(output, gap, (usual_node_name(output) or "") if name is None else name, tensor))
        return rows


def to_initializers(model: onnx.ModelProto) -> list[Moved]:
    """Turn Constant nodes into initializers of their graphs; returns what :func:`to_nodes` needs."""
    definitions = Counter(name for _, graph in iter_graphs(model.graph) for name in local_names(graph))
    moved: list[Moved] = []
    for _, graph in iter_graphs(model.graph):
        results = {value.name for value in graph.output}
        kept = []
        last = 0
        for index, node in enumerate(graph.node):
            tensor = constant_tensor(node)
            output = node.output[0] if tensor is not None else ""
            unsuitable = output in results or definitions[output] > 1
            if tensor is None or unsuitable or constant_node(output, node.name, tensor) != node:
                kept.append(node)
                continue
            moved.append(Moved(output, index - last, node.name, None if tensor.name == output else tensor.name))
            last = index
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = output
        if len(kept) < len(graph.node):
            replace_nodes(graph, kept)
    return moved


def to_nodes(model: onnx.ModelProto, moved: Sequence[Moved]) -> None:
    """Make the initializers Constant nodes again, where they were; those that tools have removed are left out."""
    known = {item.output: number for number, item in enumerate(moved)}
    for _, graph in iter_graphs(model.graph):
        found = {known[tensor.name]: tensor for tensor in graph.initializer if tensor.name in known}
        if not found:
            continue
        placed = []
        position = 0
        for number, tensor in sorted(found.items()):
            output, gap, name, inner = moved[number]
            position += gap
            copied = type(tensor)()
            copied.CopyFrom(tensor)
            copied.name = output if inner is None else inner
            if not copied.name:
                copied.ClearField("name")
            placed.append((position, constant_node(output, name, copied)))
        kept = [tensor for tensor in graph.initializer if tensor.name not in known]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        replace_nodes(graph, insert_nodes(list(graph.node), placed))


def constant_node(output: str, name: str, tensor: onnx.TensorProto) -> onnx.NodeProto:
    """A Constant node without anything unusual."""
    from onnx import helper

    return helper.make_node("Constant", [], [output], name=name or None, value=tensor)
