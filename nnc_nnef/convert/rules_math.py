"""Rules for activations, normalizations and products that NNEF has no operation for, or defines otherwise."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto, TensorProto

from .rules import Rewriter, Rule
from .skeleton import FLOATS, INTEGERS

Nodes = list[NodeProto]


def hard_sigmoid(r: Rewriter) -> Nodes:
    """HardSigmoid, HardSwish: a clamped line."""
    swish = r.node.op_type == "HardSwish"
    alpha, beta = (1 / 6, 0.5) if swish else (r.attribs.get("alpha", 0.2), r.attribs.get("beta", 0.5))
    x = r.input(0)
    line = r.op("Add", r.op("Mul", x, r.like(alpha)), r.like(beta))
    gate = r.op("Min", r.op("Max", line, r.like(0.0)), r.like(1.0))
    if swish:
        r.op("Mul", x, gate, to=r.output())
    else:
        r.op("Identity", gate, to=r.output())
    return r.nodes


def gelu(r: Rewriter) -> Nodes:
    """Gelu: by its definition with Erf, or its tanh approximation."""
    x = r.input(0)
    if r.attribs.get("approximate", "none") == "tanh":
        cube = r.op("Mul", r.op("Mul", x, x), x)
        inner = r.op("Add", x, r.op("Mul", cube, r.like(0.044715)))
        curve = r.op("Tanh", r.op("Mul", inner, r.like(math.sqrt(2 / math.pi))))
    else:
        curve = r.op("Erf", r.op("Mul", x, r.like(math.sqrt(0.5))))
    half = r.op("Mul", x, r.like(0.5))
    r.op("Mul", half, r.op("Add", curve, r.like(1.0)), to=r.output())
    return r.nodes


def elu(r: Rewriter) -> Nodes | None:
    """Elu, Selu, Celu: written out where a parameter differs from NNEF's fixed one."""
    kind, x = r.node.op_type, r.input(0)
    alpha = r.attribs.get("alpha", 1.6732632 if kind == "Selu" else 1.0)
    gamma = r.attribs.get("gamma", 1.0507010 if kind == "Selu" else 1.0)
    if kind == "Elu" and alpha == 1.0:
        return None
    scaled = r.op("Mul", x, r.like(1.0 / alpha)) if kind == "Celu" else x
    grown = r.op("Sub", r.op("Exp", r.op("Min", scaled, r.like(0.0))), r.like(1.0))
    y = r.op("Add", r.op("Max", x, r.like(0.0)), r.op("Mul", grown, r.like(alpha)))
    if gamma != 1.0:
        y = r.op("Mul", y, r.like(gamma))
    r.op("Identity", y, to=r.output())
    return r.nodes


def simple(r: Rewriter) -> Nodes:
    """Reciprocal, Softsign, Mish, ThresholdedRelu, Swish."""
    kind, x = r.node.op_type, r.input(0)
    if kind == "Reciprocal":
        r.op("Div", r.like(1.0), x, to=r.output())
    elif kind == "Softsign":
        r.op("Div", x, r.op("Add", r.op("Abs", x), r.like(1.0)), to=r.output())
    elif kind == "Mish":
        r.op("Mul", x, r.op("Tanh", r.op("Softplus", x)), to=r.output())
    elif kind == "Swish":
        r.op("Mul", x, r.op("Sigmoid", r.op("Mul", x, r.like(r.attribs.get("alpha", 1.0)))), to=r.output())
    else:
        above = r.op("Greater", x, r.like(r.attribs.get("alpha", 1.0)))
        r.op("Where", above, x, r.like(0.0), to=r.output())
    return r.nodes


def round_(r: Rewriter) -> Nodes:
    """Round: halves go to even; NNEF's round sends them away from zero."""
    r.op("Identity", round_half_even(r, r.input(0)), to=r.output())
    return r.nodes


def round_half_even(r: Rewriter, x: str) -> str:
    """Writes the nodes that round to nearest, ties to even."""
    shifted = r.op("Add", x, r.like(0.5))
    up = r.op("Floor", shifted)
    half = r.op("Mul", r.op("Floor", r.op("Mul", up, r.like(0.5))), r.like(2.0))
    odd = r.op("Sub", up, half)
    tie = r.op("Equal", shifted, up)
    return r.op("Sub", up, r.op("Where", tie, odd, r.like(0.0)))


def mod(r: Rewriter) -> Nodes:
    """Mod: sign of the divisor, or of the dividend with fmod."""
    x, y = r.input(0), r.input(1)
    ratio = r.op("Div", _as_float(r, x, 0), _as_float(r, y, 1))
    if r.attribs.get("fmod", 0):
        whole = r.op("Mul", r.op("Sign", ratio), r.op("Floor", r.op("Abs", ratio)))
    else:
        whole = r.op("Floor", ratio)
    rest = r.op("Sub", _as_float(r, x, 0), r.op("Mul", whole, _as_float(r, y, 1)))
    r.cast(rest, r.elem_type(), to=r.output())
    return r.nodes


def _as_float(r: Rewriter, name: str, index: int) -> str:
    return r.cast(name, TensorProto.FLOAT) if r.elem_type(index) in INTEGERS else name


def logic(r: Rewriter) -> Nodes | None:
    """Xor, and Equal on truth values: written with And, Or, Not."""
    if r.node.op_type == "Equal" and r.elem_type() != TensorProto.BOOL:
        return None
    x, y = r.input(0), r.input(1)
    differ = r.op("Or", r.op("And", x, r.op("Not", y)), r.op("And", r.op("Not", x), y))
    r.op("Not" if r.node.op_type == "Equal" else "Identity", differ, to=r.output())
    return r.nodes


def gemm(r: Rewriter) -> Nodes | None:
    """Gemm: scales written out, so that `linear` or a plain product remains."""
    alpha, beta = r.attribs.get("alpha", 1.0), r.attribs.get("beta", 1.0)
    flags = {"transA": r.attribs.get("transA", 0), "transB": r.attribs.get("transB", 0)}
    bias = r.input(2)
    linear = bias and not flags["transA"] and flags["transB"] and r.shape(2) == (r.out_shape()[1],)
    if linear and alpha == beta == 1.0:
        return None
    y = r.op("Gemm", r.input(0), r.input(1), **flags)
    if alpha != 1.0:
        y = r.op("Mul", y, r.like(alpha))
    if bias:
        y = r.op("Add", y, bias if beta == 1.0 else r.op("Mul", bias, r.like(beta)))
    r.op("Identity", y, to=r.output())
    return r.nodes


def matmul(r: Rewriter) -> Nodes | None:
    """MatMul: equal leading dimensions on both sides.

    NNEF broadcasts them, but the reference interpreter does not. A vector becomes a matrix of one row or column, a
    matrix on the right takes all leading dimensions of the left as rows, and anything else is repeated.
    """
    left, right = r.shape(0), r.shape(1)
    a, b = r.input(0), r.input(1)
    if len(left) == 1:
        a, left = r.reshape(a, (1, *left)), (1, *left)
    if len(right) == 1:
        b, right = r.reshape(b, (*right, 1)), (*right, 1)
    rank = max(len(left), len(right))
    left, right = (1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right
    if left[:-2] == right[:-2]:
        if len(r.shape(0)) == len(r.shape(1)) >= 2:
            return None
        y = r.op("MatMul", r.reshape(a, left), r.reshape(b, right))
    elif all(size == 1 for size in right[:-2]):
        flat = r.reshape(a, (math.prod(left[:-1]), left[-1]))
        y = r.op("MatMul", flat, r.reshape(b, right[-2:]) if len(r.shape(1)) != 2 else b)
    else:
        batch = [max(m, n) for m, n in zip(left[:-2], right[:-2], strict=True)]
        y = r.op("MatMul", _repeat(r, a, left, batch), _repeat(r, b, right, batch))
    r.reshape(y, r.out_shape(), to=r.output())
    return r.nodes


def _repeat(r: Rewriter, name: str, shape: tuple[int, ...], batch: list[int]) -> str:
    repeats = [b // s for b, s in zip(batch, shape, strict=False)] + [1, 1]
    name = r.reshape(name, shape)
    return name if max(repeats) == 1 else r.op("Tile", name, r.const(repeats, "int64"))


def _normalized(r: Rewriter, x: str, axes: list[int], epsilon: float, *, center: bool = True) -> str:
    if center:
        x = r.op("Sub", x, r.op("ReduceMean", x, axes=axes, keepdims=1))
    variance = r.op("ReduceMean", r.op("Mul", x, x), axes=axes, keepdims=1)
    return r.op("Div", x, r.op("Sqrt", r.op("Add", variance, r.like(epsilon))))


def layer_norm(r: Rewriter) -> Nodes:
    """LayerNormalization, RMSNormalization: over all axes from `axis` on."""
    if any(r.node.output[1:]):
        raise r.refuse("only the first output can be converted")
    rank = len(r.shape())
    axes = list(range(r.attribs.get("axis", -1) % rank, rank))
    center = r.node.op_type == "LayerNormalization"
    y = _normalized(r, r.input(0), axes, r.attribs.get("epsilon", 1e-5), center=center)
    y = r.op("Mul", y, r.input(1))
    if r.input(2):
        y = r.op("Add", y, r.input(2))
    r.op("Identity", y, to=r.output())
    return r.nodes


def group_norm(r: Rewriter) -> Nodes:
    """GroupNormalization, InstanceNormalization: per group of channels, scale per channel."""
    shape = r.shape()
    instance = r.node.op_type == "InstanceNormalization"
    groups = shape[1] if instance else r.attribs["num_groups"]
    grouped = r.reshape(r.input(0), (shape[0], groups, math.prod(shape[1:]) // groups))
    flat = _normalized(r, grouped, [2], r.attribs.get("epsilon", 1e-5))
    per_group = not instance and r.shape(1) == (groups,) and r.opset < 21 and groups != shape[1]
    if per_group:
        flat = _affine(r, flat, (1, groups, 1))
    y = r.reshape(flat, shape)
    if not per_group:
        y = _affine(r, y, (1, shape[1], *([1] * (len(shape) - 2))))
    r.op("Identity", y, to=r.output())
    return r.nodes


def _affine(r: Rewriter, x: str, shape: tuple[int, ...]) -> str:
    scaled = r.op("Mul", x, r.reshape(r.input(1), shape))
    return r.op("Add", scaled, r.reshape(r.input(2), shape))


def mean_variance(r: Rewriter) -> Nodes:
    """MeanVarianceNormalization: epsilon 1e-9 beside the square root, as its function body has it."""
    axes = sorted(axis % len(r.shape()) for axis in r.attribs.get("axes", [0, 2, 3]))
    x = r.op("Sub", r.input(0), r.op("ReduceMean", r.input(0), axes=axes, keepdims=1))
    deviation = r.op("Sqrt", r.op("ReduceMean", r.op("Mul", x, x), axes=axes, keepdims=1))
    r.op("Div", x, r.op("Add", deviation, r.like(1e-9)), to=r.output())
    return r.nodes


def cumsum(r: Rewriter) -> Nodes:
    """CumSum: a product with a triangular matrix."""
    rank, shape = len(r.shape()), r.shape()
    axis = int(r.value(1, "axis").reshape(-1)[0]) % rank
    size = shape[axis]
    if r.elem_type() not in FLOATS or size > 2048:
        raise r.refuse(f"only floating-point axes of up to 2048 items, not {size}")
    ones = np.ones((size, size))
    kept = np.tril(ones) if r.attribs.get("reverse", 0) else np.triu(ones)
    if r.attribs.get("exclusive", 0):
        kept = kept - np.eye(size)
    order = [i for i in range(rank) if i != axis] + [axis]
    moved = r.op("Transpose", r.input(0), perm=order)
    flat = r.reshape(moved, (math.prod(shape) // size, size))
    summed = r.reshape(r.op("MatMul", flat, r.like(kept)), [shape[i] for i in order])
    r.op("Transpose", summed, perm=[order.index(i) for i in range(rank)], to=r.output())
    return r.nodes


def one_hot(r: Rewriter) -> Nodes:
    """OneHot: a comparison with all classes."""
    depth = int(r.value(1, "depth").reshape(-1)[0])
    off, on = (v.item() for v in r.value(2, "values").reshape(-1))
    rank = len(r.shape()) + 1
    axis = r.attribs.get("axis", -1) % rank
    indices = r.input(0)
    if r.elem_type() in INTEGERS:
        indices = r.cast(indices, TensorProto.FLOAT)
    shape = list(r.shape())
    column = r.reshape(indices, [*shape[:axis], 1, *shape[axis:]])
    # Indices count from the end when negative.
    wrapped = r.op("Where", r.op("Less", column, r.const(0.0)), r.op("Add", column, r.const(float(depth))), column)
    classes = r.const(np.arange(depth, dtype=np.float32).reshape([depth if i == axis else 1 for i in range(rank)]))
    hit = r.op("Equal", wrapped, classes)
    kind = r.value(2, "values").dtype
    on_name = r.skeleton.constant(np.asarray(on, kind), f"{r.output()}_on")
    off_name = r.skeleton.constant(np.asarray(off, kind), f"{r.output()}_off")
    r.op("Where", hit, on_name, off_name, to=r.output())
    return r.nodes


def trilu(r: Rewriter) -> Nodes:
    """Trilu: a selection by a constant mask."""
    k = r.optional(1, "k")
    diagonal = int(k.reshape(-1)[0]) if k is not None else 0
    ones = np.ones(r.shape()[-2:], bool)
    mask = np.triu(ones, diagonal) if r.attribs.get("upper", 1) else np.tril(ones, diagonal)
    r.op("Where", r.const(mask, "bool"), r.input(0), r.like(0.0), to=r.output())
    return r.nodes


MATH: dict[str, Rule] = {
    **dict.fromkeys(("HardSigmoid", "HardSwish"), hard_sigmoid),
    **dict.fromkeys(("Elu", "Selu", "Celu"), elu),
    **dict.fromkeys(("Reciprocal", "Softsign", "Mish", "Swish", "ThresholdedRelu"), simple),
    **dict.fromkeys(("Xor", "Equal"), logic),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layer_norm),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization"), group_norm),
    "MeanVarianceNormalization": mean_variance,
    "Gelu": gelu,
    "Round": round_,
    "Mod": mod,
    "Gemm": gemm,
    "MatMul": matmul,
    "CumSum": cumsum,
    "OneHot": one_hot,
    "Trilu": trilu,
}
