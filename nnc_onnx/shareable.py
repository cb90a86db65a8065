"""Which decoded tensors onnxruntime may use in place: those whose consumers are known only to read them.

onnxruntime lets some operators write their output over an input that nobody else needs. A tensor of the cache is
needed again in the next run, so it may be lent only if every consumer is an operator that never does so.
"""

from __future__ import annotations

from collections.abc import Iterator

from .carriage import DOMAIN
from .model_head import Buffer, fields, text

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
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11
_LENGTH = 2
_MAX_DEPTH = 64


def shareable_names(data: Buffer) -> list[str]:
    """Names of decoded tensors of the model in `data` whose consumers only read them, sorted.

    Reads nodes in place; no weight is touched. A name that means several values in several subgraphs counts only
    if all of them qualify.

    Raises:
        InvalidModelError, TruncatedModelError: `data` are not a whole ONNX model.
    """
    decoded: set[str] = set()
    written: set[str] = set()
    for number, wire, start, end in fields(data, 0, len(data)):
        if number == _MODEL_GRAPH and wire == _LENGTH:
            _scan_graph(data, start, end, decoded, written, 0)
    return sorted(decoded - written)


def _scan_graph(data: Buffer, start: int, end: int, decoded: set[str], written: set[str], depth: int) -> None:
    for number, wire, first, last in fields(data, start, end):
        if wire != _LENGTH:
            continue
        if number == _GRAPH_OUTPUT:
            written.update(_texts(data, first, last, _VALUE_NAME))
        elif number == _GRAPH_NODE:
            _scan_node(data, first, last, decoded, written, depth)


def _scan_node(data: Buffer, start: int, end: int, decoded: set[str], written: set[str], depth: int) -> None:
    inputs: list[str] = []
    outputs: list[str] = []
    op_type = domain = ""
    for number, wire, first, last in fields(data, start, end):
        if wire != _LENGTH:
            continue
        if number == _NODE_INPUT:
            inputs.append(text(data, first, last))
        elif number == _NODE_OUTPUT:
            outputs.append(text(data, first, last))
        elif number == _NODE_OP_TYPE:
            op_type = text(data, first, last)
        elif number == _NODE_DOMAIN:
            domain = text(data, first, last)
        elif number == _NODE_ATTRIBUTE:
            for inner, inner_wire, body, body_end in fields(data, first, last):
                is_graph = inner in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS) and inner_wire == _LENGTH
                if is_graph and depth < _MAX_DEPTH:
                    _scan_graph(data, body, body_end, decoded, written, depth + 1)
    if domain == DOMAIN:
        decoded.update(outputs)
        return
    read_only = _READ_ONLY.get(op_type, frozenset()) if domain in ("", "ai.onnx") else frozenset()
    written.update(name for position, name in enumerate(inputs) if position not in read_only)


def _texts(data: Buffer, start: int, end: int, wanted: int) -> Iterator[str]:
    for number, wire, first, last in fields(data, start, end):
        if number == wanted and wire == _LENGTH:
            yield text(data, first, last)
