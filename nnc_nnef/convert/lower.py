"""From any ONNX model to a skeleton of operations that NNEF has: the order of the rewriting passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from ..errors import ConversionError
from .fold import fold
from .rules import apply_rules
from .rules_form import FORM
from .rules_index import INDEX
from .rules_integer import INTEGER, QUANTIZED
from .rules_math import MATH
from .rules_recurrent import RECURRENT
from .rules_spatial import SPATIAL
from .skeleton import FLOATS, INTEGERS, Array, Skeleton, Weight, attributes, build_skeleton, where

_RULES = {**FORM, **INDEX, **MATH, **SPATIAL, **RECURRENT, **QUANTIZED}

#: Operations left after lowering, each with one NNEF counterpart.
TARGET = frozenset(
    {
        "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "AveragePool",
        "BatchNormalization", "Cast", "Ceil", "Concat", "Conv", "ConvTranspose", "Cos", "Cosh", "Div", "Elu", "Equal",
        "Erf", "Exp", "Floor", "Gather", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual",
        "Identity", "LRN", "LeakyRelu", "Less", "LessOrEqual", "Log", "LpNormalization", "MatMul", "Max", "MaxPool",
        "Min", "Mul", "Neg", "Not", "Or", "PRelu", "Pad", "Pow", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum",
        "Relu", "Reshape", "Resize", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Slice", "Softmax", "Softplus", "Sqrt",
        "Sub", "Tan", "Tanh", "Tile", "Transpose", "Where",
    }
)  # fmt: skip


def lower(
    model: ModelProto,
    *,
    opaque: Mapping[str, Weight] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    fixed_inputs: Mapping[str, Array] | None = None,
) -> Skeleton:
    """Brings a model into the form that :mod:`nnc_nnef.convert.onnx_to_nnef` translates.

    Arguments as for :func:`nnc_nnef.convert.skeleton.build_skeleton`.

    Raises:
        ConversionError: an operation, type or construct without NNEF counterpart, named with its node.
        ShapeError: a shape that stays open.
    """
    skeleton = build_skeleton(model, opaque=opaque, input_shapes=input_shapes, dims=dims, fixed_inputs=fixed_inputs)
    fold(skeleton)
    _single_precision(skeleton)
    apply_rules(skeleton, _RULES)
    apply_rules(skeleton, INTEGER)
    _drop_unread_inputs(skeleton)
    _logical_copies(skeleton)
    _broadcast_selections(skeleton)
    _check(skeleton)
    return skeleton


def _single_precision(skeleton: Skeleton) -> None:
    """Lets float64 arithmetic between float32 ends be float32: NNEF has one floating-point type."""
    double = TensorProto.DOUBLE
    if double not in skeleton.types.values():
        return
    for name, value in skeleton.constants.items():
        if value.dtype == np.float64:
            skeleton.constants[name] = value.astype(np.float32)
    for i, node in enumerate(skeleton.nodes):
        if node.op_type == "Cast" and attributes(node).get("to") == double:
            skeleton.nodes[i] = helper.make_node(
                "Cast", list(node.input), list(node.output), name=node.name, to=TensorProto.FLOAT
            )
    # Declared types of outputs give way to those that follow from the nodes.
    skeleton.types = {name: kind for name, kind in skeleton.types.items() if kind != double}
    skeleton.notes.append("float64 arithmetic is done in float32")
    fold(skeleton)


def _drop_unread_inputs(skeleton: Skeleton) -> None:
    read = {name for node in skeleton.nodes for name in node.input} | set(skeleton.outputs)
    for name in [name for name in skeleton.inputs if name not in read]:
        skeleton.unread[name] = skeleton.inputs.pop(name)
        skeleton.notes.append(f"input {name!r} is read by nothing and was left out")


def _logical_copies(skeleton: Skeleton) -> None:
    # Reading a tensor<logical> with `copy` is undefined in the reference interpreter; x or x is the same.
    for i, node in enumerate(skeleton.nodes):
        if node.op_type == "Identity" and skeleton.types.get(node.input[0]) == TensorProto.BOOL:
            skeleton.nodes[i] = helper.make_node(
                "Or", [node.input[0], node.input[0]], list(node.output), name=node.name
            )


def _broadcast_selections(skeleton: Skeleton) -> None:
    """Gives scalars in a broadcasting Where all axes: the reference interpreter reads past a literal there."""
    for position, original in enumerate(skeleton.nodes):
        if original.op_type != "Where":
            continue
        node = NodeProto()
        node.CopyFrom(original)
        skeleton.nodes[position] = node
        result = skeleton.shape(node.output[0])
        scalars = [i for i, name in enumerate(node.input) if name in skeleton.constants and not skeleton.shape(name)]
        if all(skeleton.shape(name) in ((), result) for name in node.input):
            continue
        for i in scalars:
            value = skeleton.constants[node.input[i]].reshape((1,) * len(result))
            node.input[i] = skeleton.constant(value, f"{node.output[0]}_scalar")
            skeleton.shapes[node.input[i]] = value.shape
            skeleton.types[node.input[i]] = helper.np_dtype_to_tensor_dtype(value.dtype)


def _check(skeleton: Skeleton) -> None:
    produced = {name for node in skeleton.nodes for name in node.output}
    for name in skeleton.outputs:
        if name not in produced:
            raise ConversionError("an output that is an input or a constant has no NNEF form", node=name)
    for node in skeleton.nodes:
        if node.op_type not in TARGET:
            raise ConversionError("the operation has no NNEF counterpart", op=node.op_type, node=where(node))
        for name in (*node.input, *node.output):
            if name:
                _check_tensor(skeleton, node, name)


def _check_tensor(skeleton: Skeleton, node: NodeProto, name: str) -> None:
    kind = skeleton.types.get(name, TensorProto.UNDEFINED)
    if kind not in FLOATS | INTEGERS | {TensorProto.BOOL} or kind in (TensorProto.DOUBLE, TensorProto.BFLOAT16):
        label = TensorProto.DataType.Name(kind)
        raise ConversionError(f"tensor {name!r} of type {label} has no NNEF form", op=node.op_type, node=where(node))
    # Sizes and regions are parameters, and those of a scalar or of a whole tensor are empty.
    if any(size <= 0 for size in skeleton.shape(name)) and node.op_type not in ("Resize", "Reshape"):
        raise ConversionError(f"tensor {name!r} is empty", op=node.op_type, node=where(node))
