"""Rules for integer and quantized arithmetic.

NNEF computes on ``tensor<scalar>`` only, so integer operations are done in floating point between two casts. That is
exact as long as every value stays below 2**24 in magnitude; constants are checked, and the report says so.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, helper

from .rules import Rewriter, Rule
from .rules_math import round_half_even
from .skeleton import INTEGERS

Nodes = list[NodeProto]
EXACT = 1 << 24
NOTE = "integer arithmetic is done in float32, exact below 2**24"

_ARITHMETIC = (
    "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Abs", "Neg", "Sign", "Equal", "Less", "Greater", "LessOrEqual",
    "GreaterOrEqual", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ArgMax", "ArgMin", "MatMul", "Gemm", "Pad",
    "MaxPool", "Relu",
)  # fmt: skip
_PARAMETERS = {"ReduceSum": 1, "Pad": 1}


def arithmetic(r: Rewriter) -> Nodes | None:
    """One operation on integers: casts before and after it."""
    kinds = [r.elem_type(i) for i in range(len(r.node.input))]
    moved = [i for i, kind in enumerate(kinds) if kind in INTEGERS and i != _PARAMETERS.get(r.node.op_type)]
    if not moved:
        return None
    names = list(r.node.input)
    for i in moved:
        name = names[i]
        known = r.skeleton.constants.get(name)
        if known is None:
            names[i] = r.cast(name, TensorProto.FLOAT)
            continue
        if known.size and max(abs(int(known.min())), abs(int(known.max()))) > EXACT:
            raise r.refuse("an integer constant above 2**24 is not exact in float32")
        names[i] = r.const(known, "float32")
    if NOTE not in r.skeleton.notes:
        r.skeleton.notes.append(NOTE)
    result = r.op(r.node.op_type, *names, **r.attribs)
    if r.node.op_type == "Div":
        # Integer division truncates.
        result = r.op("Mul", r.op("Sign", result), r.op("Floor", r.op("Abs", result)))
    kind = r.skeleton.types.get(r.output(), 0)
    if kind in INTEGERS and r.node.op_type not in ("ArgMax", "ArgMin"):
        r.cast(result, kind, to=r.output())
    else:
        r.op("Identity", result, to=r.output())
    return r.nodes


INTEGER: dict[str, Rule] = dict.fromkeys(_ARITHMETIC, arithmetic)


def _per_axis(r: Rewriter, number: int) -> str:
    """Scale or zero point, shaped to broadcast against the data."""
    shape = r.shape(number)
    if len(shape) == 0 or (shape == (1,) and len(r.shape()) != 1):
        return r.reshape(r.input(number), ()) if shape else r.input(number)
    if len(shape) != 1 or r.attribs.get("block_size"):
        raise r.refuse("blocked quantization cannot be converted")
    rank = len(r.shape())
    axis = r.attribs.get("axis", 1) % rank
    return r.reshape(r.input(number), [shape[0] if i == axis else 1 for i in range(rank)])


def dequantize(r: Rewriter) -> Nodes:
    """DequantizeLinear: (x - zero_point) * scale."""
    x = r.cast(r.input(0), TensorProto.FLOAT)
    if r.input(2):
        x = r.op("Sub", x, r.cast(_per_axis(r, 2), TensorProto.FLOAT))
    r.op("Mul", x, _per_axis(r, 1), to=r.output())
    return r.nodes


def quantize(r: Rewriter) -> Nodes:
    """QuantizeLinear: round to even, add the zero point, saturate."""
    kind = r.skeleton.types.get(r.output(), TensorProto.UINT8)
    limits = np.iinfo(helper.tensor_dtype_to_np_dtype(kind))
    y = round_half_even(r, r.op("Div", r.input(0), _per_axis(r, 1)))
    if r.input(2):
        y = r.op("Add", y, r.cast(_per_axis(r, 2), TensorProto.FLOAT))
    y = r.op("Min", r.op("Max", y, r.const(float(limits.min))), r.const(float(limits.max)))
    r.cast(y, kind, to=r.output())
    return r.nodes


def multiply_integers(r: Rewriter) -> Nodes:
    """MatMulInteger, ConvInteger: the float operation on inputs without their zero points."""
    parts = []
    for number in (0, 1):
        x = r.cast(r.input(number), TensorProto.FLOAT)
        if r.input(number + 2):
            if int(np.prod(r.shape(number + 2))) != 1:
                raise r.refuse("a zero point per row or channel cannot be converted")
            x = r.op("Sub", x, r.cast(r.reshape(r.input(number + 2), ()), TensorProto.FLOAT))
        parts.append(x)
    if NOTE not in r.skeleton.notes:
        r.skeleton.notes.append(NOTE)
    attribs = {"auto_pad": "NOTSET", **r.attribs}
    if r.node.op_type == "ConvInteger":
        if attribs.pop("auto_pad") != "NOTSET":
            raise r.refuse("auto_pad on integers cannot be converted")
        spatial = len(r.shape()) - 2
        attribs.setdefault("pads", [0] * 2 * spatial)
        y = r.op("Conv", *parts, **attribs)
    else:
        y = r.op("MatMul", *parts)
    r.cast(y, TensorProto.INT32, to=r.output())
    return r.nodes


QUANTIZED: dict[str, Rule] = {
    "DequantizeLinear": dequantize,
    "QuantizeLinear": quantize,
    **dict.fromkeys(("MatMulInteger", "ConvInteger"), multiply_integers),
}
