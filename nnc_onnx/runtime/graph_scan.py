"""What a cache must know of a packed graph, read in place: sizes, and which tensors it may lend.

onnxruntime lets some operators write their output over an input that nobody else needs. A tensor of the cache is
needed again in the next run, so it may be lent only if every consumer is an operator that never does so.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..carriage import BY_GROUP_OP_NAME, BY_OP_NAME, DOMAIN
from ..model_head import Buffer, fields, text, varint

# Inputs that onnxruntime's kernels only read, by operator of the default domain.
_READ_ONLY: dict[str, frozenset[int]] = {
    "Conv": frozenset({1}),
    "ConvInteger": frozenset({1}),
    "ConvTranspose": frozenset({1}),
    "DequantizeLinear": frozenset({0}),
    "GRU": frozenset({1, 2}),
    "Gather": frozenset({0}),
    "GatherElements": frozenset({0}),
    "GatherND": frozenset({0}),
    "Gemm": frozenset({0, 1}),
    "LSTM": frozenset({1, 2}),
    "MatMul": frozenset({0, 1}),
    "MatMulInteger": frozenset({0, 1}),
    "QLinearConv": frozenset({3}),
    "QLinearMatMul": frozenset({0, 3}),
    "RNN": frozenset({1, 2}),
    "Transpose": frozenset({0}),
}

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_OUTPUT = 1, 12
_VALUE_NAME = 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_GRAPH, _ATTRIBUTE_INTS, _ATTRIBUTE_GRAPHS = 1, 3, 6, 8, 11
_VARINT, _LENGTH = 0, 2
_MAX_DEPTH = 64


class GraphScan(msgspec.Struct, frozen=True, kw_only=True):
    """What the decode nodes of a model and their consumers say.

    Attributes:
        decoded_bytes: size of all tensors that have a decode node of their own.
        shareable: names of the decoded tensors whose consumers only read them, sorted.
        groups: whether a node decodes several tensors.
        lookups: whether Gather alone reads some decoded tensor.
        grouped: whether a grouped convolution reads some decoded tensor.
    """

    decoded_bytes: int
    shareable: tuple[str, ...]
    groups: bool = False
    lookups: bool = False
    grouped: bool = False


def scan_graph(data: Buffer) -> GraphScan:
    """Look through the nodes of the ONNX model in `data`, of all subgraphs too; no weight is touched.

    A name that means several values in several subgraphs counts as shareable only if all of them qualify.

    Raises:
        InvalidModelError, TruncatedModelError: `data` are not a whole ONNX model.
    """
    scan = _Scan(data)
    for number, wire, start, end in fields(data, 0, len(data)):
        if number == _MODEL_GRAPH and wire == _LENGTH:
            scan.graph(start, end, 0)
    shareable = tuple(sorted(scan.decoded - scan.written))
    lookups = not scan.decoded.isdisjoint(scan.looked_up - scan.computed_with)
    return GraphScan(
        decoded_bytes=scan.decoded_bytes,
        shareable=shareable,
        groups=scan.groups,
        lookups=lookups,
        grouped=not scan.decoded.isdisjoint(scan.kernels),
    )


class _Scan:
    def __init__(self, data: Buffer) -> None:
        self._data = data
        self.decoded: set[str] = set()
        self.written: set[str] = set()  # by some consumer, perhaps
        self.looked_up: set[str] = set()  # by Gather
        self.computed_with: set[str] = set()  # by any other operator
        self.kernels: set[str] = set()  # inputs of grouped convolutions
        self.decoded_bytes = 0
        self.groups = False

    def graph(self, start: int, end: int, depth: int) -> None:
        for number, wire, first, last in fields(self._data, start, end):
            if wire != _LENGTH:
                continue
            if number == _GRAPH_OUTPUT:
                self.written.update(self._texts(first, last, _VALUE_NAME))
            elif number == _GRAPH_NODE:
                self._node(first, last, depth)

    def _node(self, start: int, end: int, depth: int) -> None:
        inputs: list[str] = []
        outputs: list[str] = []
        attributes: list[tuple[int, int]] = []
        op_type = domain = ""
        for number, wire, first, last in fields(self._data, start, end):
            if wire != _LENGTH:
                continue
            if number == _NODE_INPUT:
                inputs.append(text(self._data, first, last))
            elif number == _NODE_OUTPUT:
                outputs.append(text(self._data, first, last))
            elif number == _NODE_OP_TYPE:
                op_type = text(self._data, first, last)
            elif number == _NODE_DOMAIN:
                domain = text(self._data, first, last)
            elif number == _NODE_ATTRIBUTE:
                attributes.append((first, last))
        if domain == DOMAIN:
            self._decode_node(op_type, outputs, attributes)
            return
        read_only = _READ_ONLY.get(op_type, frozenset()) if domain in ("", "ai.onnx") else frozenset()
        self.written.update(name for position, name in enumerate(inputs) if position not in read_only)
        readers = self.looked_up if op_type == "Gather" and domain in ("", "ai.onnx") else self.computed_with
        readers.update(inputs)
        if op_type.endswith(("Conv", "ConvTranspose", "ConvInteger")) and self._is_grouped(attributes):
            self.kernels.update(inputs)
        for attribute in attributes:
            for number, wire, first, last in fields(self._data, *attribute):
                is_graph = number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS) and wire == _LENGTH
                if is_graph and depth < _MAX_DEPTH:
                    self.graph(first, last, depth + 1)

    def _decode_node(self, op_type: str, outputs: list[str], attributes: list[tuple[int, int]]) -> None:
        self.decoded.update(outputs)
        element = BY_OP_NAME.get(op_type)
        if element is None:
            self.groups |= op_type in BY_GROUP_OP_NAME
            return
        nbytes = element.dtype.itemsize
        for start, end in attributes:
            if "shape" in self._texts(start, end, _ATTRIBUTE_NAME):
                for size in self._ints(start, end):
                    nbytes *= size
        self.decoded_bytes += nbytes

    def _is_grouped(self, attributes: list[tuple[int, int]]) -> bool:
        return any(
            number == _ATTRIBUTE_INT and wire == _VARINT and value > 1
            for start, end in attributes
            if "group" in self._texts(start, end, _ATTRIBUTE_NAME)
            for number, wire, value, _ in fields(self._data, start, end)
        )

    def _ints(self, start: int, end: int) -> Iterator[int]:
        for number, wire, first, last in fields(self._data, start, end):
            if number == _ATTRIBUTE_INTS and wire == _VARINT:
                yield first
            elif number == _ATTRIBUTE_INTS and wire == _LENGTH:
                while first < last:
                    value, first = varint(self._data, first, last)
                    yield value

    def _texts(self, start: int, end: int, wanted: int) -> Iterator[str]:
        for number, wire, first, last in fields(self._data, start, end):
            if number == wanted and wire == _LENGTH:
                yield text(self._data, first, last)
