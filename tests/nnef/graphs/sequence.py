"""Attention, embedding and recurrent architectures."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from .builder import Builder


def _attention(b: Builder, x: str, name: str, size: int, heads: int, tokens: int) -> str:
    width = size // heads
    q, k, v = (b.linear_nd(x, f"{name}.{part}", size, size) for part in "qkv")

    def head(y: str, perm: list[int]) -> str:
        sizes = (1, tokens, heads, width) if b.dynamo else (b.size(y, 0), -1, heads, width)
        return b.op("Transpose", b.view(y, *sizes), perm=perm)

    scores = b.op("MatMul", head(q, [0, 2, 1, 3]), head(k, [0, 2, 3, 1]))
    scores = b.op("Div", scores, b.scalar(float(np.sqrt(width))))
    mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1 if b.opset >= 13 else 3), head(v, [0, 2, 1, 3]))
    joined = b.view(b.op("Transpose", mixed, perm=[0, 2, 1, 3]), 1, tokens, size)
    return b.linear_nd(joined, f"{name}.out", size, size)


def block(opset: int) -> onnx.ModelProto:
    b = Builder("block", opset)
    x = b.input("input", 1, 7, 32)
    for i in range(2):
        x = b.op("Add", x, _attention(b, b.layer_norm(x, f"{i}.norm1", 32), f"{i}.attn", 32, 4, 7))
        y = b.gelu(b.linear_nd(b.layer_norm(x, f"{i}.norm2", 32), f"{i}.fc1", 32, 64))
        x = b.op("Add", x, b.linear_nd(y, f"{i}.fc2", 64, 32))
    return b.finish(b.layer_norm(x, "norm", 32))


def emb(opset: int) -> onnx.ModelProto:
    b = Builder("emb", opset)
    ids = b.input("input_ids", 1, 7, dtype=TensorProto.INT64)
    x = b.op("Gather", b.weight("word_embeddings.weight", 120, 32, scale=0.5), ids)
    x = b.op("Add", x, b.op("Gather", b.weight("position_embeddings.weight", 16, 32, scale=0.5), b.ints(*range(7))))
    x = b.layer_norm(x, "norm", 32)
    x = b.op("Add", x, _attention(b, x, "attn", 32, 4, 7))
    pooled = b.op("Tanh", b.linear(b.view(b.mean(x, [1], keepdims=0), 1, 32), "pooler", 32, 32))
    return b.finish(b.linear(pooled, "classifier", 32, 5))


def _state(b: Builder, x: str, ways: int, hidden: int) -> str:
    """Zero initial state as exporters write it: expanded to the batch at run time, or a constant from dynamo."""
    if b.dynamo:
        return b.init(np.zeros((ways, 2, hidden), np.float32), b.fresh("zeros"))
    shape = b.op("Concat", b.ints(ways), b.unsqueeze(b.size(x, 1), 0), b.ints(hidden), axis=0)
    zero = onnx.numpy_helper.from_array(np.zeros(1, np.float32))
    return b.op("ConstantOfShape", shape, value=zero)


def _recurrent(
    b: Builder, kind: str, x: str, size: int, hidden: int, ways: int, name: str, **attribs: object
) -> list[str]:
    gates = {"LSTM": 4, "GRU": 3}[kind]
    inputs = [
        x,
        b.weight(f"onnx::{kind}_{name}_W", ways, gates * hidden, size, scale=0.3),
        b.weight(f"onnx::{kind}_{name}_R", ways, gates * hidden, hidden, scale=0.3),
        b.weight(f"onnx::{kind}_{name}_B", ways, 2 * gates * hidden, scale=0.2),
        "",
        _state(b, x, ways, hidden),
    ]
    if kind == "LSTM":
        inputs.append(_state(b, x, ways, hidden))
    direction = "bidirectional" if ways == 2 else "forward"
    return b.op(kind, *inputs, outputs=3 if kind == "LSTM" else 2, hidden_size=hidden, direction=direction, **attribs)


def _sequence_input(b: Builder, size: int) -> str:
    return b.op("Transpose", b.input("input", 2, 5, size), perm=[1, 0, 2])


def gru(opset: int) -> onnx.ModelProto:
    b = Builder("gru", opset)
    y, _ = _recurrent(b, "GRU", _sequence_input(b, 12), 12, 20, 2, "0", linear_before_reset=1)
    y = b.op("Transpose", y, perm=[0, 2, 1, 3])
    y = b.view(y, 5, 2, 40) if b.dynamo else b.view(y, 0, 0, -1)
    y, h = _recurrent(b, "GRU", y, 40, 16, 1, "1", linear_before_reset=0)
    last = b.squeeze(h, 0)
    return b.finish(b.op("Transpose", b.squeeze(y, 1), perm=[1, 0, 2]), b.linear(last, "fc", 16, 6))


def lstm_h(opset: int) -> onnx.ModelProto:
    b = Builder("lstm_h", opset)
    _, h, c = _recurrent(b, "LSTM", _sequence_input(b, 12), 12, 20, 1, "0")
    joined = b.op("Concat", b.squeeze(h, 0), b.squeeze(c, 0), axis=1)
    return b.finish(b.linear(joined, "fc", 40, 6))


def lstm_y(opset: int) -> onnx.ModelProto:
    b = Builder("lstm_y", opset)
    y, _, _ = _recurrent(b, "LSTM", _sequence_input(b, 12), 12, 20, 2, "0")
    y = b.op("Transpose", y, perm=[0, 2, 1, 3])
    y = b.view(y, 5, 2, 40) if b.dynamo else b.view(y, 0, 0, -1)
    scores = b.linear_nd(b.op("Transpose", y, perm=[1, 0, 2]), "fc", 40, 9)
    return b.finish(b.op("LogSoftmax", scores, axis=2))
