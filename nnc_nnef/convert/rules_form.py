"""Rules that bring an operation of any opset into one form: opset 13 with everything static written out.

They undo the differences between opsets (axes as attributes or inputs, flattening Softmax, optional inputs) and
replace what NNEF has no operation for by shape operations it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from .rules import Rewriter, Rule, axes_of

Nodes = list[NodeProto]


def squeeze(r: Rewriter) -> Nodes:
    """Squeeze, Unsqueeze, Flatten, Reshape: a Reshape to the inferred shape."""
    r.reshape(r.input(0), r.out_shape(), to=r.output())
    return r.nodes


def reduce(r: Rewriter) -> Nodes:
    """Reductions: axes as sorted attribute, only Mean, Sum, Max and Min remain."""
    rank = len(r.shape())
    given = r.optional(1, "axes")
    axes = r.attribs.get("axes") if given is None else given.reshape(-1).tolist()
    if not axes:
        if r.attribs.get("noop_with_empty_axes"):
            r.op("Identity", r.input(0), to=r.output())
            return r.nodes
        axes = range(rank)
    axes = axes_of(axes, rank)
    kind = r.node.op_type.removeprefix("Reduce")
    x = r.input(0)
    if kind in ("Mean", "Sum", "Max", "Min"):
        y = _reduced(r, kind, x, axes)
    elif kind == "L1":
        y = _reduced(r, "Sum", r.op("Abs", x), axes)
    elif kind in ("L2", "SumSquare"):
        y = _reduced(r, "Sum", r.op("Mul", x, x), axes)
        y = r.op("Sqrt", y) if kind == "L2" else y
    elif kind == "LogSum":
        y = r.op("Log", _reduced(r, "Sum", x, axes))
    elif kind == "LogSumExp":
        top = _reduced(r, "Max", x, axes)
        y = r.op("Add", r.op("Log", _reduced(r, "Sum", r.op("Exp", r.op("Sub", x, top)), axes)), top)
    elif kind == "Prod" and len(axes) == 1 and r.shape()[axes[0]] <= 64:
        parts = [r.slice(x, axes[0], i, i + 1) for i in range(r.shape()[axes[0]])]
        y = parts[0]
        for part in parts[1:]:
            y = r.op("Mul", y, part)
    else:
        raise r.refuse("this reduction has no NNEF counterpart")
    if r.attribs.get("keepdims", 1):
        r.op("Identity", y, to=r.output())
    else:
        r.reshape(y, r.out_shape(), to=r.output())
    return r.nodes


def _reduced(r: Rewriter, kind: str, x: str, axes: list[int]) -> str:
    if kind == "Sum":
        return r.op("ReduceSum", x, r.const(axes, "int64"), keepdims=1)
    return r.op(f"Reduce{kind}", x, axes=axes, keepdims=1)


def arg_reduce(r: Rewriter) -> Nodes:
    """ArgMax, ArgMin: axis kept, removed by a Reshape."""
    if r.attribs.get("select_last_index"):
        raise r.refuse("select_last_index has no NNEF counterpart")
    axis = r.attribs.get("axis", 0) % len(r.shape())
    kept = r.op(r.node.op_type, r.input(0), axis=axis, keepdims=1)
    if r.attribs.get("keepdims", 1):
        r.op("Identity", kept, to=r.output())
    else:
        r.reshape(kept, r.out_shape(), to=r.output())
    return r.nodes


def softmax(r: Rewriter) -> Nodes:
    """Softmax, LogSoftmax: per axis; up to opset 12 all axes from `axis` on are one."""
    shape = r.shape()
    rank = len(shape)
    axis = r.attribs.get("axis", -1 if r.opset >= 13 else 1)
    axis = axis % rank if rank else 0
    flat = r.opset < 13 and axis != rank - 1
    x = r.input(0)
    if flat:
        x = r.reshape(x, [math.prod(shape[:axis]), math.prod(shape[axis:])])
        axis = 1
    if r.node.op_type == "LogSoftmax":
        shifted = r.op("Sub", x, r.op("ReduceMax", x, axes=[axis], keepdims=1))
        total = r.op("ReduceSum", r.op("Exp", shifted), r.const([axis], "int64"), keepdims=1)
        y = r.op("Sub", shifted, r.op("Log", total))
    else:
        y = r.op("Softmax", x, axis=axis)
    if flat:
        r.reshape(y, shape, to=r.output())
    else:
        r.op("Identity", y, to=r.output())
    return r.nodes


def clip(r: Rewriter) -> Nodes:
    """Clip: a Max and a Min, whichever bound there is."""
    x = r.input(0)
    low, high = r.input(1), r.input(2)
    if r.opset < 11:
        low = r.like(r.attribs["min"]) if "min" in r.attribs else ""
        high = r.like(r.attribs["max"]) if "max" in r.attribs else ""
    if low:
        x = r.op("Max", x, low)
    if high:
        x = r.op("Min", x, high)
    r.op("Identity", x, to=r.output())
    return r.nodes


def slice_(r: Rewriter) -> Nodes:
    """Slice: explicit bounds inside the tensor; backward steps become a Gather."""
    shape = r.shape()
    if r.opset < 10:
        starts, ends = r.attribs["starts"], r.attribs["ends"]
        axes, steps = r.attribs.get("axes"), None
    else:
        starts, ends = r.value(1, "starts").tolist(), r.value(2, "ends").tolist()
        given, strides = r.optional(3, "axes"), r.optional(4, "steps")
        axes = None if given is None else given.tolist()
        steps = None if strides is None else strides.tolist()
    x = r.input(0)
    if not all(r.out_shape()):
        raise r.refuse("the result is empty")
    begin, end, kept, step = [], [], [], []
    for i, axis in enumerate(axes if axes is not None else range(len(starts))):
        picked = range(*slice(starts[i], ends[i], steps[i] if steps else 1).indices(shape[axis % len(shape)]))
        # Python takes a negative `end` from the back, as ONNX does; below -size both mean "through the first item".
        if picked.step < 0:
            x = r.op("Gather", x, r.const(list(picked), "int64"), axis=axis % len(shape))
        else:
            begin.append(picked[0])
            end.append(picked[-1] + 1)
            kept.append(axis % len(shape))
            step.append(picked.step)
    if kept:
        x = r.op("Slice", x, *(r.const(list(numbers), "int64") for numbers in (begin, end, kept, step)))
    r.op("Identity", x, to=r.output())
    return r.nodes


def split(r: Rewriter) -> Nodes:
    """Split: one Slice per part."""
    shape = r.shape()
    axis = r.attribs.get("axis", 0) % len(shape)
    given = r.optional(1, "split")
    sizes = r.attribs.get("split") if given is None else given.tolist()
    if not sizes:
        part = -(-shape[axis] // len(r.node.output))
        sizes = [min(part, shape[axis] - i * part) for i in range(len(r.node.output))]
    begin = 0
    for name, size in zip(r.node.output, sizes, strict=True):
        if name:
            r.slice(r.input(0), axis, begin, begin + size, to=name)
        begin += size
    return r.nodes


def pad(r: Rewriter) -> Nodes:
    """Pad: pads for every axis, constant value as a scalar; negative pads become a Slice."""
    rank = len(r.shape())
    pads = r.attribs["pads" if "pads" in r.attribs else "paddings"] if r.opset < 11 else r.value(1, "pads").tolist()
    value = r.attribs.get("value", 0.0)
    given = r.optional(2, "constant_value") if r.opset >= 11 else None
    if given is not None:
        value = given.reshape(-1)[0].item() if given.size else 0.0
    axes = r.optional(3, "axes") if r.opset >= 18 else None
    mode = r.attribs.get("mode", "constant")
    if mode not in ("constant", "reflect", "edge"):
        raise r.refuse(f"mode {mode!r} has no NNEF counterpart")
    before, after = [0] * rank, [0] * rank
    listed = list(range(rank)) if axes is None else [axis % rank for axis in axes.tolist()]
    for i, axis in enumerate(listed):
        before[axis], after[axis] = int(pads[i]), int(pads[i + len(listed)])
    x = r.input(0)
    for axis in range(rank):
        if before[axis] < 0 or after[axis] < 0:
            end = r.shape()[axis] + min(after[axis], 0)
            x = r.slice(x, axis, max(-before[axis], 0), end)
    before, after = [max(p, 0) for p in before], [max(p, 0) for p in after]
    if any(before) or any(after):
        x = r.op("Pad", x, r.const(before + after, "int64"), r.like(value), mode=mode)
    r.op("Identity", x, to=r.output())
    return r.nodes


def expand(r: Rewriter) -> Nodes:
    """Expand: a Reshape to the full rank, then a Tile."""
    shape, target = r.shape(), r.out_shape()
    full = (1,) * (len(target) - len(shape)) + shape
    x = r.reshape(r.input(0), full) if full != shape else r.input(0)
    repeats = [t // f for t, f in zip(target, full, strict=True)]
    r.op("Tile", x, r.const(repeats, "int64"), to=r.output())
    return r.nodes


def variadic(r: Rewriter) -> Nodes:
    """Sum, Mean, Max, Min of any number of inputs: a chain of binary operations."""
    kind = {"Sum": "Add", "Mean": "Add"}.get(r.node.op_type, r.node.op_type)
    if len(r.node.input) == 2 and kind == r.node.op_type:
        return [r.node]
    x = r.input(0)
    for name in r.node.input[1:]:
        x = r.op(kind, x, name)
    if r.node.op_type == "Mean":
        x = r.op("Mul", x, r.like(1.0 / len(r.node.input)))
    r.op("Identity", x, to=r.output())
    return r.nodes


def gather(r: Rewriter) -> Nodes | None:
    """Gather: by constant consecutive indices it is a Slice."""
    shape = r.shape()
    axis = r.attribs.get("axis", 0) % len(shape)
    indices = r.skeleton.constants.get(r.input(1))
    if indices is None:
        r.op("Gather", r.input(0), r.input(1), axis=axis, to=r.output())
        return r.nodes
    flat = np.where(indices < 0, indices + shape[axis], indices).reshape(-1)
    if flat.size == 0 or flat.min() < 0 or flat.max() >= shape[axis]:
        raise r.refuse("an index is out of range")
    if (np.diff(flat) == 1).all():
        part = r.slice(r.input(0), axis, int(flat[0]), int(flat[-1]) + 1)
        r.reshape(part, r.out_shape(), to=r.output())
    else:
        part = r.op("Gather", r.input(0), r.const(flat, "int64"), axis=axis)
        r.reshape(part, r.out_shape(), to=r.output())
    return r.nodes


def transpose(r: Rewriter) -> Nodes | None:
    """Transpose of more than five axes that really move: several of four axes each."""
    shape = r.shape()
    if len(shape) <= 5:
        return None
    perm = list(r.attribs.get("perm", reversed(range(len(shape)))))
    r.reshape(_permuted(r, r.input(0), shape, perm), r.out_shape(), to=r.output())
    return r.nodes


def _permuted(r: Rewriter, x: str, shape: Sequence[int], perm: Sequence[int]) -> str:
    """Transposes by moving one block of axes past another at a time; the result is flat in places."""
    order = [axis for axis in perm if shape[axis] != 1]
    left = sorted(order)
    sizes = {axis: shape[axis] for axis in left}
    for position, axis in enumerate(order):
        at = left.index(axis)
        if at != position:
            groups = (left[:position], left[position:at], [axis], left[at + 1 :])
            x = r.reshape(x, [math.prod(sizes[a] for a in group) for group in groups])
            x = r.op("Transpose", x, perm=[0, 2, 1, 3])
            left = [*groups[0], axis, *groups[1], *groups[3]]
    return x


def depth_space(r: Rewriter) -> Nodes:
    """DepthToSpace, SpaceToDepth: Reshape, Transpose, Reshape."""
    n, c, h, w = r.shape()
    b = r.attribs["blocksize"]
    if r.node.op_type == "SpaceToDepth":
        split, perm = [n, c, h // b, b, w // b, b], [0, 3, 5, 1, 2, 4]
    elif r.attribs.get("mode", "DCR") == "DCR":
        split, perm = [n, b, b, c // (b * b), h, w], [0, 3, 4, 1, 5, 2]
    else:
        split, perm = [n, c // (b * b), b, b, h, w], [0, 1, 4, 2, 5, 3]
    r.reshape(_permuted(r, r.input(0), split, perm), r.out_shape(), to=r.output())
    return r.nodes


def concat(r: Rewriter) -> Nodes:
    """Concat: axis without negative numbers."""
    if len(r.node.input) == 1:
        r.op("Identity", r.input(0), to=r.output())
    else:
        r.op("Concat", *r.node.input, axis=r.attribs.get("axis", 1) % len(r.out_shape()), to=r.output())
    return r.nodes


FORM: dict[str, Rule] = {
    **dict.fromkeys(("Squeeze", "Unsqueeze", "Flatten", "Reshape"), squeeze),
    **dict.fromkeys(
        [f"Reduce{k}" for k in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")],
        reduce,
    ),
    **dict.fromkeys(("ArgMax", "ArgMin"), arg_reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    **dict.fromkeys(("Sum", "Mean", "Max", "Min"), variadic),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), depth_space),
    "Clip": clip,
    "Slice": slice_,
    "Split": split,
    "Pad": pad,
    "Expand": expand,
    "Gather": gather,
    "Transpose": transpose,
    "Concat": concat,
}
