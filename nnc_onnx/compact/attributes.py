"""Attributes that say what holds without them."""

from __future__ import annotations

import base64
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from ..carriage import decode_nodes
from ..errors import CarriageError
from ..graph.walk import iter_graphs, local_names
from .names import first_output

if TYPE_CHECKING:
    import onnx

Lost = tuple[tuple[int, bytes], ...]
"""What a node has lost: index in its list and serialized AttributeProto, in ascending order."""

# Lists whose length depends on the rank, so that no schema states their default.
_NEUTRAL = {"dilations": 1, "pads": 0, "strides": 1}
# What a convolution says of its kernel holds without it if the shape of its weight is known.
_OF_WEIGHT = "kernel_shape"
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_WINDOWED = frozenset({"AveragePool", "Conv", "ConvTranspose", "MaxPool"})


class Attributes(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Attributes that nodes have lost, as columns of a table.

    Attributes:
        kinds: the distinct ones, as AttributeProtos in base 64.
        patterns: the distinct things that a node has lost: index in its list, number of the kind, and so on.
        nodes: by number of a node's first output among all names, one plus the number of its pattern; 0 for none.
        others: the same for nodes whose first output keeps its name.
    """

    kinds: tuple[str, ...] = ()
    patterns: tuple[tuple[int, ...], ...] = ()
    nodes: tuple[int, ...] = ()
    others: dict[str, int] = {}

    @classmethod
    def of(cls, lost: Mapping[str, Lost], values: Sequence[str | None]) -> Attributes:
        """The table of what the nodes with these first outputs have lost; `values` are the names by number."""
        kinds: dict[bytes, int] = {}
        patterns: dict[tuple[int, ...], int] = {}
        rest: dict[str, int] = {}
        for name, items in lost.items():
            numbers = tuple(n for index, data in items for n in (index, kinds.setdefault(data, len(kinds))))
            rest[name] = 1 + patterns.setdefault(numbers, len(patterns))
        nodes = [rest.pop(name, 0) if name is not None else 0 for name in values]
        while nodes and nodes[-1] == 0:
            nodes.pop()
        texts = tuple(base64.b64encode(data).decode() for data in kinds)
        return cls(kinds=texts, patterns=tuple(patterns), nodes=tuple(nodes), others=rest)

    def lost(self, values: Sequence[str | None]) -> dict[str, Lost]:
        """The rows of the table.

        Raises:
            CarriageError: a number is that of nothing.
        """
        rows = dict(self.others)
        rows.update((name, number) for name, number in zip(values, self.nodes, strict=False) if name and number)
        try:
            kinds = [base64.b64decode(text, validate=True) for text in self.kinds]
            patterns = [
                tuple((index, kinds[kind]) for index, kind in zip(numbers[::2], numbers[1::2], strict=True))
                for numbers in self.patterns
            ]
            return {name: patterns[number - 1] for name, number in rows.items()}
        except (IndexError, ValueError) as error:
            raise CarriageError("the table of attributes refers to nothing") from error


def remove_defaults(model: onnx.ModelProto) -> dict[str, Lost]:
    """Remove attributes of their default value; returns what :func:`add_back` needs, by first output of the node."""
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    if version is None:
        return {}
    nodes = [node for _, graph in iter_graphs(model.graph) for node in graph.node]
    makers = Counter(first_output(node) for node in nodes)
    shapes = _known_shapes(model)
    removed: dict[str, Lost] = {}
    for node in nodes:
        key = first_output(node)
        if node.domain not in ("", "ai.onnx") or not key or makers[key] > 1:
            continue
        lost = [
            index
            for index, item in enumerate(node.attribute)
            if _is_default(node.op_type, version, item) or _is_of_weight(node, item, shapes)
        ]
        if lost:
            removed[key] = tuple((index, node.attribute[index].SerializeToString(deterministic=True)) for index in lost)
            for index in reversed(lost):
                del node.attribute[index]
    return removed


def add_back(model: onnx.ModelProto, removed: Mapping[str, Lost]) -> None:
    """Give nodes the attributes back that they have lost, unless a tool has set them anew.

    Raises:
        CarriageError: what is to be added is no attribute.
    """
    from google.protobuf.message import DecodeError
    from onnx import AttributeProto

    for _, graph in iter_graphs(model.graph):
        for node in graph.node:
            attributes = list(node.attribute)
            present = {item.name for item in attributes}
            for index, data in removed.get(first_output(node), ()):
                try:
                    item = AttributeProto.FromString(data)
                except DecodeError as error:
                    raise CarriageError("the table of attributes is damaged") from error
                if item.name not in present:
                    attributes.insert(index, item)
            if len(attributes) > len(node.attribute):
                copied = [AttributeProto.FromString(item.SerializeToString()) for item in attributes]
                del node.attribute[:]
                node.attribute.extend(copied)


def _is_default(op_type: str, version: int, attribute: onnx.AttributeProto) -> bool:
    from onnx import AttributeProto

    neutral = _NEUTRAL.get(attribute.name) if op_type in _WINDOWED else None
    if neutral is not None and attribute.type == AttributeProto.INTS:
        usual = AttributeProto(name=attribute.name, type=AttributeProto.INTS, ints=[neutral] * len(attribute.ints))
        return bool(attribute == usual)
    default = _defaults(op_type, version).get(attribute.name)
    return default is not None and attribute.SerializeToString(deterministic=True) == default


def _is_of_weight(node: onnx.NodeProto, attribute: onnx.AttributeProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    from onnx import AttributeProto

    if attribute.name != _OF_WEIGHT or node.op_type not in _CONVOLUTIONS or len(node.input) < 2:
        return False
    shape = shapes.get(node.input[1], ())
    usual = AttributeProto(name=_OF_WEIGHT, type=AttributeProto.INTS, ints=shape[2:])
    return len(shape) > 2 and bool(attribute == usual)


def _known_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of the constants whose names mean one thing and which every reader of the model can tell."""
    graphs = [graph for _, graph in iter_graphs(model.graph)]
    definitions = Counter(name for graph in graphs for name in local_names(graph))
    told = {value.name for graph in graphs for value in graph.value_info}
    shapes = {tensor.name: tuple(tensor.dims) for graph in graphs for tensor in graph.initializer}
    shapes |= {decode.output: decode.shape for _, _, decode in decode_nodes(model) if decode.output in told}
    return {name: shape for name, shape in shapes.items() if definitions[name] == 1}


@functools.cache
def _defaults(op_type: str, version: int) -> dict[str, bytes]:
    """Serialized default attributes of an operator of the default domain, by name."""
    from onnx import defs

    try:
        schema = defs.get_schema(op_type, version)
    except defs.SchemaError:
        return {}
    found = {}
    for name, attribute in schema.attributes.items():
        default = attribute.default_value
        if default.type != 0:
            copied = type(default)()
            copied.CopyFrom(default)
            copied.name = name
            found[name] = copied.SerializeToString(deterministic=True)
    return found
