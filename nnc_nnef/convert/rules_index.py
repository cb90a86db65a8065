"""Rules for scattered reading and writing: by constant indices a Gather, by computed ones a comparison."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto, TensorProto

from .rules import Rewriter, Rule
from .skeleton import FLOATS, Array

Nodes = list[NodeProto]
_MAX_COMPARED = 1 << 22


def scatter(r: Rewriter) -> Nodes:
    """ScatterElements, Scatter, ScatterND by constant indices: a Gather from data and updates side by side."""
    if r.attribs.get("reduction", "none") != "none":
        raise r.refuse("a reduction has no NNEF counterpart")
    shape = r.shape()
    indices = r.value(1, "indices")
    places = np.arange(math.prod(shape)).reshape(shape)
    count = places.size
    if r.node.op_type == "ScatterND":
        depth = indices.shape[-1]
        rows = tuple(np.moveaxis(indices, -1, 0)[i] % shape[i] for i in range(depth))
        places[rows] = count + np.arange(math.prod(r.shape(2))).reshape(r.shape(2))
    else:
        axis = r.attribs.get("axis", 0) % len(shape)
        updates = count + np.arange(indices.size).reshape(indices.shape)
        np.put_along_axis(_window(places, indices.shape, axis), indices % shape[axis], updates, axis)
    joined = r.op("Concat", r.reshape(r.input(0), (count,)), r.reshape(r.input(2), (math.prod(r.shape(2)),)), axis=0)
    picked = r.op("Gather", joined, r.const(places.reshape(-1), "int64"), axis=0)
    r.reshape(picked, shape, to=r.output())
    return r.nodes


def _window(places: Array, shape: tuple[int, ...], axis: int) -> Array:
    """The part of `places` that indices of this shape address."""
    return places[tuple(slice(None) if i == axis else slice(0, size) for i, size in enumerate(shape))]


def gather_elements(r: Rewriter) -> Nodes:
    """GatherElements: a sum over a selection, exact because one term is not zero."""
    shape, wanted = r.shape(), r.shape(1)
    axis = r.attribs.get("axis", 0) % len(shape)
    if any(a != b for i, (a, b) in enumerate(zip(shape, wanted, strict=True)) if i != axis):
        raise r.refuse("indices must have the data's sizes outside the axis")
    before, after, depth, count = math.prod(shape[:axis]), math.prod(shape[axis + 1 :]), shape[axis], wanted[axis]
    if r.elem_type() not in FLOATS or before * after * depth * count > _MAX_COMPARED:
        raise r.refuse("the selection is too large, or not of floats")
    indices = r.reshape(r.cast(r.input(1), TensorProto.FLOAT), (before, count, 1, after))
    wrapped = r.op("Where", r.op("Less", indices, r.const(0.0)), r.op("Add", indices, r.const(float(depth))), indices)
    classes = r.const(np.arange(depth).reshape(1, 1, depth, 1))
    hit = r.op("Equal", wrapped, classes)
    chosen = r.op("Where", hit, r.reshape(r.input(0), (before, 1, depth, after)), r.like(0.0))
    summed = r.op("ReduceSum", chosen, r.const([2], "int64"), keepdims=1)
    r.reshape(summed, wanted, to=r.output())
    return r.nodes


INDEX: dict[str, Rule] = {
    **dict.fromkeys(("ScatterElements", "Scatter", "ScatterND"), scatter),
    "GatherElements": gather_elements,
}
