"""Corrections to nnef-tools' ONNX-to-NNEF table, for the form :mod:`nnc_nnef.convert.lower` produces."""

from __future__ import annotations

from typing import Any

import numpy as np


def custom_transforms() -> dict[str, Any]:
    """Entries that replace those of nnef-tools."""
    from nnef_tools.conversion.converter import Transform

    table: dict[str, Any] = {
        "Reshape": Transform(type="reshape", inputs="!I[0]", outputs="!O[0]", attribs={"shape": "!list(O[0].shape)"}),
        "ReduceSum": Transform(type="sum_reduce", inputs="!I[0]", outputs="!O[0]", attribs={"axes": "!as_const(I[1])"}),
    }
    for kind in ("Mean", "Max", "Min"):
        table[f"Reduce{kind}"] = Transform(
            type=f"{kind.lower()}_reduce", inputs="!I[0]", outputs="!O[0]", attribs={"axes": "!axes"}
        )
    return table


def custom_functions() -> dict[str, Any]:
    """Functions that replace those the table's expressions call."""
    return {"broadcast": _broadcast}


def _broadcast(converter: Any, tensor: Any, rank: int) -> Any:
    """Leading unit axes for NNEF's broadcasting, which aligns the first axes and not the last.

    A constant that nothing else reads takes the axes into its own shape; others get an operation.
    """
    missing = rank - tensor.rank
    if tensor.rank == 0 or missing == 0:
        return tensor
    original = converter._tensor_map.get(tensor)
    if original is not None and converter._is_constant(original) and len(original.consumers) == 1:
        readers = original.consumers[0].inputs
        if sum(reader is original for reader in readers) == 1:
            converter._transform_constant(tensor, lambda data: np.expand_dims(data, tuple(range(missing))))
            return tensor
    return converter.unsqueeze_input(tensor, axes=list(range(missing)))
