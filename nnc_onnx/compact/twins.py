"""Equal constants as one initializer: exporters write a tensor of its own for every axis, bound and factor."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from .. import carriage
from ..errors import CarriageError
from ..graph.walk import iter_graphs, local_names
from ..tensors import is_external
from .names import first_output

if TYPE_CHECKING:
    import onnx

MOST_BYTES = 1024
"""Size of a tensor above which it has no twins, so that a small table cannot ask for much memory."""

Use = tuple[str, int]
"""First output of a node, and which of its inputs."""


class Twin(NamedTuple):
    """An initializer that left because another one of its graph is equal.

    Attributes:
        name: its name.
        kept: name of the other one.
        gap: initializers of its graph from the twin before, or from the first.
        uses: where it was read.
    """

    name: str
    kept: str
    gap: int
    uses: tuple[Use, ...]


class Twins(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The initializers that left, as columns of a table.

    Attributes:
        names, gaps: as in :class:`Twin`.
        kept: number of the other one's name among all names, minus that of the row before.
        counts: uses of each; empty if all have one.
        nodes: per use, the number of the node's first output among all names, minus that of the use before.
        inputs: per use, which input of the node.
    """

    names: tuple[str, ...] = ()
    kept: tuple[int, ...] = ()
    gaps: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    nodes: tuple[int, ...] = ()
    inputs: tuple[int, ...] = ()

    @classmethod
    def of(cls, twins: Sequence[Twin], values: Sequence[str | None]) -> Twins:
        """The table of `twins`; `values` are the names by number."""
        number = {name: index for index, name in enumerate(values)}
        uses = [use for twin in twins for use in twin.uses]
        counts = tuple(len(twin.uses) for twin in twins)
        return cls(
            names=tuple(twin.name for twin in twins),
            kept=_differences([number[twin.kept] for twin in twins]),
            gaps=tuple(twin.gap for twin in twins),
            counts=counts if any(count != 1 for count in counts) else (),
            nodes=_differences([number[output] for output, _ in uses]),
            inputs=tuple(position for _, position in uses),
        )

    def twins(self, values: Sequence[str | None]) -> list[Twin]:
        """The rows of the table.

        Raises:
            CarriageError: columns are of different lengths, or a number is that of no name.
        """
        counts = self.counts or (1,) * len(self.names)
        lengths = {len(self.names), len(self.kept), len(self.gaps), len(counts)}
        if len(lengths) != 1 or min(counts, default=0) < 0 or not sum(counts) == len(self.nodes) == len(self.inputs):
            raise CarriageError("the table of equal constants has columns of different lengths")

        def name_of(number: int) -> str:
            found = values[number] if 0 <= number < len(values) else None
            if found is None:
                raise CarriageError("the table of equal constants refers to nothing")
            return found

        uses = iter(zip(map(name_of, accumulate(self.nodes)), self.inputs, strict=True))
        rows = []
        for name, kept, gap, count in zip(self.names, accumulate(self.kept), self.gaps, counts, strict=True):
            if gap < 0:
                raise CarriageError("the table of equal constants refers to nothing")
            rows.append(Twin(name, name_of(kept), gap, tuple(next(uses) for _ in range(count))))
        return rows


def _differences(numbers: Sequence[int]) -> tuple[int, ...]:
    return tuple(after - before for before, after in zip([0, *numbers], numbers, strict=False))


def merge_twins(model: onnx.ModelProto) -> list[Twin]:
    """Let one initializer of a graph stand for all that are equal to it; returns what :func:`part_twins` needs.

    Those stay whose names mean something elsewhere: graph inputs and outputs, annotations, type information.
    """
    graphs = [graph for _, graph in iter_graphs(model.graph)]
    definitions = Counter(name for graph in graphs for name in local_names(graph))
    fixed = {value.name for graph in graphs for value in (*graph.input, *graph.output, *graph.value_info)}
    fixed.update(decode.output for _, _, decode in carriage.decode_nodes(model) if decode.member is None)
    if any(graph.quantization_annotation for graph in graphs):
        return []
    uses: defaultdict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
    for graph in graphs:
        for node in graph.node:
            for position, name in enumerate(node.input):
                uses[name].append((node, position))

    def may_leave(name: str) -> bool:
        keys = [first_output(node) for node, _ in uses[name]]
        return bool(keys) and all(key and key not in fixed and definitions[key] == 1 for key in keys)

    twins: list[Twin] = []
    for graph in graphs:
        first: dict[bytes, str] = {}
        stay, last = [], 0
        for index, tensor in enumerate(graph.initializer):
            name = tensor.name
            large = is_external(tensor) or tensor.ByteSize() > MOST_BYTES
            if large or not name or name in fixed or definitions[name] != 1:
                stay.append(tensor)
                continue
            key = _content(tensor)
            kept = first.setdefault(key, name)
            if kept == name or not may_leave(name):
                stay.append(tensor)
                continue
            twins.append(Twin(name, kept, index - last, tuple((first_output(node), at) for node, at in uses[name])))
            last = index
            for node, at in uses[name]:
                node.input[at] = kept
        if len(stay) < len(graph.initializer):
            copied = [type(tensor).FromString(tensor.SerializeToString()) for tensor in stay]
            del graph.initializer[:]
            graph.initializer.extend(copied)
    return twins


def part_twins(model: onnx.ModelProto, twins: Sequence[Twin]) -> None:
    """Undo :func:`merge_twins`, as far as tools have left the nodes that read the constants.

    Raises:
        CarriageError: a constant is larger than any that leaves.
    """
    graphs = [graph for _, graph in iter_graphs(model.graph)]
    nodes = {first_output(node): node for graph in graphs for node in graph.node}
    found: defaultdict[str, list[tuple[int, Twin]]] = defaultdict(list)
    for number, twin in enumerate(twins):
        found[twin.kept].append((number, twin))
    for graph in graphs:
        held = {tensor.name: tensor for tensor in graph.initializer if tensor.name in found}
        rows = sorted(row for name in held for row in found[name])
        place = 0
        for _, twin in rows:
            place += twin.gap
            read = [
                (node, at)
                for output, at in twin.uses
                if (node := nodes.get(output)) is not None and 0 <= at < len(node.input) and node.input[at] == twin.kept
            ]
            if not read:
                continue
            if held[twin.kept].ByteSize() > MOST_BYTES:
                raise CarriageError("the table of equal constants names a large tensor", tensor=twin.kept)
            copied = type(held[twin.kept])()
            copied.CopyFrom(held[twin.kept])
            copied.name = twin.name
            graph.initializer.insert(min(place, len(graph.initializer)), copied)
            for node, at in read:
                node.input[at] = twin.name


def _content(tensor: onnx.TensorProto) -> bytes:
    bare = type(tensor)()
    bare.CopyFrom(tensor)
    bare.ClearField("name")
    serialized: bytes = bare.SerializeToString(deterministic=True)
    return serialized
