"""What a graph tells about its inputs: shapes, types, and what they are compared with or index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import CannotRunError

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

_MAX_HOPS = 6
_TRANSPARENT = frozenset(
    {"Cast", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
_BOUNDS = {"Greater": -6e4, "GreaterOrEqual": -6e4, "Less": 6e4, "LessOrEqual": 6e4}


class Input(NamedTuple):
    """A model input.

    Attributes:
        name: its name.
        dtype: numpy type.
        dims: a size, a symbol, or ``None`` for each dimension.
        choices: values that the graph compares it with, or all rows of the table it indexes; for a scalar that is a
            bound, one that all values keep; empty if none of these.
    """

    name: str
    dtype: np.dtype[Any]
    dims: tuple[int | str | None, ...]
    choices: NDArray[Any]


def describe(value: onnx.ValueInfoProto, graph: onnx.GraphProto) -> Input:
    """What is known of an input.

    Raises:
        CannotRunError: it is no numeric tensor.
    """
    from onnx import TensorProto, helper

    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or tensor.elem_type in (TensorProto.STRING, TensorProto.UNDEFINED):
        raise CannotRunError(f"input {value.name!r} is no numeric tensor")
    dims: list[int | str | None] = []
    for dim in tensor.shape.dim:
        dims.append(dim.dim_value if dim.dim_value > 0 else dim.dim_param or None)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if dtype.kind in "iu":
        choices = _choices(value.name, graph, _MAX_HOPS)
    else:
        choices = np.empty(0, np.int64) if dims else _open_bound(value.name, graph)
    return Input(value.name, dtype, tuple(dims), choices)


def _choices(name: str, graph: onnx.GraphProto, hops: int) -> NDArray[Any]:
    """Rows of the table that `name` indexes, or the constants it is compared with."""
    from onnx import numpy_helper

    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.input}
    constants = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for node in graph.node:
        for position, source in enumerate(node.input):
            if source != name:
                continue
            if node.op_type in ("Gather", "GatherElements", "GatherND") and position == 1:
                table = constants.get(node.input[0])
                shape = list(table.dims) if table is not None else shapes.get(node.input[0], [])
                axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
                if shape and -len(shape) <= axis < len(shape) and shape[axis] > 0:
                    return np.arange(shape[axis])
            if node.op_type == "Equal":
                other = constants.get(node.input[1 - position])
                if other is not None:
                    return np.unique(numpy_helper.to_array(other).astype(np.int64))
            if node.op_type in _TRANSPARENT and position == 0 and hops:
                found = _choices(node.output[0], graph, hops - 1)
                if found.size:
                    return found
    return np.empty(0, np.int64)


def _open_bound(name: str, graph: onnx.GraphProto) -> NDArray[Any]:
    """A number that lets everything pass, if all that is done with the scalar `name` is to compare values with it."""
    bounds = {
        (bound if position else -bound)
        for node in graph.node
        for position, source in enumerate(node.input)
        if source == name
        for bound in (_BOUNDS.get(node.op_type, 0.0),)
    }
    return np.array(list(bounds)) if len(bounds) == 1 and 0.0 not in bounds else np.empty(0)
