"""Rules for convolution, pooling and resizing: explicit padding, and interpolation as a matrix product."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from .rules import Rewriter, Rule
from .skeleton import Array

Nodes = list[NodeProto]


def windowed(r: Rewriter) -> Nodes | None:
    """Conv, ConvTranspose, MaxPool, AveragePool: ``auto_pad`` written as explicit pads."""
    if any(r.node.output[1:]):
        raise r.refuse("only the first output can be converted")
    spatial = len(r.shape()) - 2
    attribs = dict(r.attribs)
    kernel = list(attribs.get("kernel_shape") or r.shape(1)[2:])
    strides = list(attribs.get("strides") or [1] * spatial)
    dilations = list(attribs.get("dilations") or [1] * spatial)
    mode = attribs.pop("auto_pad", "NOTSET")
    pads = list(attribs.get("pads") or [0] * 2 * spatial)
    transposed = r.node.op_type == "ConvTranspose"
    if mode in ("SAME_UPPER", "SAME_LOWER") or (transposed and attribs.get("output_shape")):
        small, large = (r.shape(), r.out_shape()) if transposed else (r.out_shape(), r.shape())
        extra = attribs.get("output_padding") or [0] * spatial
        before, after = [], []
        for i in range(spatial):
            reach = (small[i + 2] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1
            total = reach + (extra[i] if transposed else 0) - large[i + 2]
            total = total if transposed else max(total, 0)
            first = -(-total // 2) if mode == "SAME_LOWER" else total // 2
            if transposed and mode != "SAME_UPPER":
                first = total - total // 2
            before.append(first)
            after.append(total - first)
        pads = before + after
        attribs.pop("output_shape", None)
    attribs.update(kernel_shape=kernel, strides=strides, pads=pads)
    if r.node.op_type != "AveragePool":
        attribs["dilations"] = dilations
    elif any(d != 1 for d in dilations):
        raise r.refuse("dilated average pooling has no ONNX 13 counterpart")
    else:
        attribs.pop("dilations", None)
    if transposed and any(p < 0 for p in pads):
        raise r.refuse("padding is negative")
    if attribs.pop("storage_order", 0):
        raise r.refuse("storage_order must be 0")
    if attribs.get("ceil_mode"):
        return _ceil_pool(r, attribs)
    r.op(r.node.op_type, *r.node.input, to=r.output(), **attribs)
    return r.nodes


def _ceil_pool(r: Rewriter, attribs: dict[str, object]) -> Nodes:
    shape, target = r.shape(), r.out_shape()
    kernel, strides, pads = (list(attribs[k]) for k in ("kernel_shape", "strides", "pads"))  # type: ignore[call-overload]
    dilations = list(attribs.get("dilations") or [1] * len(kernel))  # type: ignore[call-overload]
    spatial = len(kernel)
    grown = list(pads)
    for i in range(spatial):
        reach = (target[i + 2] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1
        grown[i + spatial] = max(reach - shape[i + 2] - pads[i], pads[i + spatial])
    attribs.update(pads=grown, ceil_mode=0)
    if grown != pads and r.node.op_type == "AveragePool" and attribs.get("count_include_pad"):
        raise r.refuse("ceil_mode with count_include_pad counts cells that no padding describes")
    r.op(r.node.op_type, r.input(0), to=r.output(), **attribs)
    return r.nodes


def batch_norm(r: Rewriter) -> Nodes | None:
    """BatchNormalization: inference only."""
    if r.attribs.get("training_mode", 0) or any(r.node.output[1:]):
        raise r.refuse("training mode cannot be converted")
    if not r.attribs.get("spatial", 1):
        raise r.refuse("spatial = 0 cannot be converted")
    r.op("BatchNormalization", *r.node.input, epsilon=r.attribs.get("epsilon", 1e-5), to=r.output())
    return r.nodes


def dropout(r: Rewriter) -> Nodes:
    """Dropout: nothing at inference."""
    r.op("Identity", r.input(0), to=r.output())
    return r.nodes


def resize(r: Rewriter) -> Nodes:
    """Resize, Upsample: per axis by an index list (nearest) or a matrix (linear, cubic).

    The index lists and matrices come from evaluating the operation itself on one axis with ``onnx.reference``, so
    every coordinate mode is exact. Whole factors that NNEF defines keep their own operation.
    """
    shape, target = r.shape(), r.out_shape()
    attribs = {k: v for k, v in r.attribs.items() if k != "axes"}
    if r.node.op_type == "Upsample" or r.opset < 11:
        attribs = {
            "mode": r.attribs.get("mode", "nearest"),
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        scales = r.attribs.get("scales") or r.value(1, "scales").tolist()
    else:
        scales = _scales(r, shape)
    if attribs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise r.refuse("tf_crop_and_resize has no NNEF counterpart")
    if attribs.pop("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise r.refuse("keep_aspect_ratio_policy must be stretch")
    moving = [axis for axis in range(len(shape)) if shape[axis] != target[axis] or scales[axis] not in (None, 1)]
    factors = [target[a] // shape[a] if target[a] % shape[a] == 0 else 0 for a in range(len(shape))]
    mode = attribs.get("mode", "nearest")
    x = r.input(0)
    if mode == "nearest":
        maps = {a: _along(r, np.arange(shape[a]), scales[a], target[a], attribs).astype(int) for a in moving}
        whole = all(factors[a] and (maps[a] == np.arange(target[a]) // factors[a]).all() for a in moving)
        if whole and all(axis >= 2 for axis in moving) and len(shape) > 2:
            _whole(r, x, factors, "nearest", "asymmetric")
            return r.nodes
        for axis, indices in maps.items():
            x = r.op("Gather", x, r.const(indices, "int64"), axis=axis)
    else:
        doubled = mode == "linear" and len(shape) == 4 and moving == [2, 3] and factors[2:] == [2, 2]
        if doubled and attribs.get("coordinate_transformation_mode", "half_pixel") == "half_pixel":
            _whole(r, x, factors, "linear", "half_pixel")
            return r.nodes
        sizes = list(shape)
        for axis in moving:
            matrix = _along(r, np.eye(shape[axis]), scales[axis], target[axis], attribs)
            x = _multiply_axis(r, x, axis, sizes, matrix)
            sizes[axis] = target[axis]
    r.op("Identity", x, to=r.output())
    return r.nodes


def _scales(r: Rewriter, shape: tuple[int, ...]) -> list[float | None]:
    """Scale of every axis; None where the sizes are given instead."""
    axes = list(r.attribs.get("axes") or range(len(shape)))
    given = r.optional(2 if len(r.node.input) > 2 else 1, "scales")
    if given is not None and given.size:
        listed = dict(zip((axis % len(shape) for axis in axes), given.tolist(), strict=True))
        return [float(listed.get(axis, 1.0)) for axis in range(len(shape))]
    return [None] * len(shape)


def _along(r: Rewriter, lines: Array, scale: float | None, size: int, attribs: dict[str, Any]) -> Array:
    """Resizes the last axis of `lines`; rows of an identity give the interpolation matrix."""
    table = np.atleast_2d(lines).astype(np.float32)
    rows = table.shape[0]
    by_size = scale is None
    node = helper.make_node("Resize", ["x", "", "", "n"] if by_size else ["x", "", "n"], ["y"], **attribs)
    numbers = np.asarray([rows, size], np.int64) if by_size else np.asarray([1.0, scale], np.float32)
    kind = TensorProto.INT64 if by_size else TensorProto.FLOAT
    graph = helper.make_graph(
        [node], "axis",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, table.shape),
         helper.make_tensor_value_info("n", kind, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, size])],
    )  # fmt: skip
    opset = max(r.opset, 11)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    result = np.asarray(next(iter(ReferenceEvaluator(model).run(None, {"x": table, "n": numbers}))))
    if result.shape != (rows, size):
        raise r.refuse("scales contradict the output shape")
    return result.reshape(-1) if lines.ndim == 1 else result


def _whole(r: Rewriter, x: str, factors: list[int], mode: str, coordinates: str) -> None:
    scales = r.const(np.asarray([max(f, 1) for f in factors]), "float32")
    extra = {"nearest_mode": "floor"} if mode == "nearest" else {}
    r.op("Resize", x, r.const([], "float32"), scales, to=r.output(),
         mode=mode, coordinate_transformation_mode=coordinates, **extra)  # fmt: skip


def _multiply_axis(r: Rewriter, x: str, axis: int, shape: list[int], matrix: Array) -> str:
    # matrix[i, j] is the weight of input item i in output item j.
    rank = len(shape)
    order = [i for i in range(rank) if i != axis] + [axis]
    moved = x if axis == rank - 1 else r.op("Transpose", x, perm=order)
    sizes = [shape[i] for i in order]
    flat = r.reshape(moved, (math.prod(sizes[:-1]), sizes[-1]))
    product = r.reshape(r.op("MatMul", flat, r.like(matrix)), (*sizes[:-1], matrix.shape[1]))
    return product if axis == rank - 1 else r.op("Transpose", product, perm=[order.index(i) for i in range(rank)])


SPATIAL: dict[str, Rule] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "MaxPool", "AveragePool"), windowed),
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "BatchNormalization": batch_norm,
    "Dropout": dropout,
}
