"""Inputs of an ONNX model that become constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, helper

from nnc_codec.errors import InvalidArgumentError


def fixed_values(graph: GraphProto, given: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Values for inputs in their types; a single number fills an input of known shape.

    Args:
        graph: the model's.
        given: numbers or arrays by input name.

    Raises:
        InvalidArgumentError: there is no such input, or its type cannot hold the value.
    """
    inputs = {info.name: info.type.tensor_type for info in graph.input}
    found = {}
    for name, value in given.items():
        if name not in inputs:
            raise InvalidArgumentError(f"there is no input {name!r} to fix", hint=f"inputs: {', '.join(inputs)}")
        declared = inputs[name]
        wanted = np.asarray(value)
        typed = wanted.astype(helper.tensor_dtype_to_np_dtype(declared.elem_type)) if declared.elem_type else wanted
        if wanted.dtype.kind in "fi" and typed.dtype.kind in "iub" and not np.array_equal(typed, wanted):
            raise InvalidArgumentError(f"input {name!r} is of type {typed.dtype}, which does not hold {value}")
        sizes = [dim.dim_value for dim in declared.shape.dim]
        if typed.ndim == 0 and sizes and all(size > 0 for size in sizes):
            typed = np.full(sizes, typed)
        found[name] = typed
    return found
