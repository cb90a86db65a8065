"""What ``graph.quant`` says about stored levels, as the affine map that turns them into values.

NNEF keeps a quantized variable as levels of item type QUINT or QINT; ``graph.quant`` names, per tensor of the graph,
the quantization operation whose levels they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import ConversionError

Array = NDArray[Any]


class Affine(msgspec.Struct, frozen=True):
    """values = (levels - zero) * scale + shift.

    Attributes:
        zero, scale, shift: float32, of shapes that broadcast against the variable.
    """

    zero: Any
    scale: Any
    shift: Any

    def apply(self, levels: Array) -> Array:
        """The values of stored levels, float32."""
        values: Array = (levels.astype(np.float32) - self.zero) * self.scale + self.shift
        return values


def affine(quantization: Mapping[str, Any], rank: int, name: str) -> Affine:
    """The map for one tensor.

    Args:
        quantization: of the ``nnef.Tensor``: ``op-name`` and the operation's arguments.
        rank: of the tensor.
        name: of the tensor, for messages.

    Raises:
        ConversionError: there is no quantization, or it is not linear.
    """
    op = str(quantization.get("op-name", ""))
    if op == "zero_point_linear_quantize":
        zero, scale = (_shaped(quantization[key], rank) for key in ("zero_point", "scale"))
        return Affine(zero, scale, np.float32(0))
    if op not in ("min_max_linear_quantize", "linear_quantize"):
        what = f"quantization {op!r}" if op else "integers without an entry in graph.quant"
        raise ConversionError(f"{what} for a tensor of scalars", op=op or "variable", node=name)
    low, high = (_shaped(quantization[key], rank) for key in ("min", "max"))
    signed, symmetric = (bool(quantization.get(key, False)) for key in ("signed", "symmetric"))
    bits = int(quantization["bits"])
    steps = np.float32((1 << bits) - 1 - (signed and symmetric))
    offset = np.float32((1 << (bits - 1)) - symmetric if signed else 0)
    return Affine(-offset, (high - low) / steps, low)


def _shaped(value: Any, rank: int) -> Array:
    """An argument as an array whose first axes are the tensor's; the rest broadcasts."""
    array = np.asarray(value, np.float32)
    return array.reshape(array.shape + (1,) * (rank - array.ndim)) if array.ndim else array
