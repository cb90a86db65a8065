"""Payloads that change the format with their model, and the reasons why one cannot.

A payload is carried when its coded bytes reach the other model unchanged; only the tensor's name in the header of the
data unit may be replaced. :class:`Obstacle` names everything that prevents it. Each is detected, never assumed away.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

import nnc_codec
from nnc_codec.errors import NNRError, UnsupportedError
from nnc_codec.formats import PackOptions
from nnc_codec.limits import Limits
from nnc_codec.params import EncodeParams
from nnc_codec.report import ConvertedTensor
from nnc_onnx.coding import measure

from ..coding import code_variable
from ..errors import CarryError
from ..units import Unit, cut, renamed

Array = NDArray[Any]
Policy = Literal["refuse", "reencode", "raw"]
Action = Literal["carried", "renamed", "reencoded", "raw", "plain"]

Obstacle = Literal[
    "resized",
    "transposed",
    "value-read",
    "attribute",
    "dropped",
    "several-tensors",
    "dependent-unit",
    "type",
    "label-collision",
    "subgraph",
    "duplicated",
]
"""Why a payload cannot be carried: the conversion changed the number or type of elements; or transposed them; needs
to read them; made them an attribute; lost the tensor, or put other values in its place; the data unit holds several
tensors; or depends on units beyond its parameter set; the target has no such type; two tensors would share a label; two
subgraphs use one name for different tensors; it is needed twice."""

ACTIONS: dict[Policy, Action] = {"reencode": "reencoded", "raw": "raw"}


class Carried(msgspec.Struct, frozen=True):
    """A payload on its way.

    Attributes:
        name: of the tensor in the source.
        unit: its data unit.
        shape: in the source's graph.
        dtype: numpy name of the element type the source decodes it into.
        exact: the unit holds raw floats.
    """

    name: str
    unit: Unit
    shape: tuple[int, ...]
    dtype: str
    exact: bool = False

    def values(self, limits: Limits | None = None) -> Array:
        """The decoded tensor."""
        return decode(self.unit, self.dtype, self.shape, self.name, limits)


def element_dtype(name: str) -> np.dtype[Any]:
    """The numpy type of this name; bfloat16 is that of ml_dtypes."""
    if name != "bfloat16":
        return np.dtype(name)
    import ml_dtypes

    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


def decode(unit: Unit, dtype: str, shape: tuple[int, ...], name: str, limits: Limits | None = None) -> Array:
    """Values of a unit, exactly as a run-time library computes them.

    Raises:
        NNRError: damaged, excessive or unsupported data; names the tensor.
    """
    try:
        return nnc_codec.decode_single(unit.bitstream, element_dtype(dtype), shape, limits=limits)
    except NNRError as error:
        error.tensor = error.tensor or name
        raise


def take(name: str, bitstream: bytes | memoryview, shape: tuple[int, ...], dtype: str, limits: Limits) -> Carried:
    """A payload, if it can be carried as far as the payload itself can tell.

    Raises:
        CarryError: it holds several tensors, depends on other units, or has another number of elements.
        NNRError: it is damaged.
    """
    try:
        unit = cut(bitstream, limits=limits)
    except UnsupportedError as error:
        raise CarryError(error.message, reason="dependent-unit", tensor=name) from error
    stream = nnc_codec.open(unit.bitstream, limits=limits)
    if len(stream) != 1:
        raise CarryError(f"its data unit holds {len(stream)} tensors", reason="several-tensors", tensor=name)
    (tensor,) = stream.values()
    if tensor.size != int(np.prod(shape, dtype=object)):
        raise CarryError(f"its data unit has shape {tensor.shape}, the model {shape}", reason="resized", tensor=name)
    return Carried(name, unit, shape, dtype, tensor.payload_type.name == "NNR_PT_RAW_FLOAT")


def unit_shape(unit: Unit) -> tuple[int, ...]:
    """Dimensions of the only tensor of a unit, as its header has them."""
    (tensor,) = nnc_codec.open(unit.bitstream).values()
    return tensor.shape


def label(carried: Carried, target: str) -> tuple[Unit, ConvertedTensor]:
    """The unit under its new name, with the line of the report."""
    unit = renamed(carried.unit, target)
    action: Action = "carried" if unit is carried.unit else "renamed"
    return unit, ConvertedTensor(name=carried.name, target=target, action=action)


class Recoded(msgspec.Struct, frozen=True):
    """Values that were coded again.

    Attributes:
        unit: the new data unit.
        values: what it decodes to.
        note: by how much they differ from the old ones.
    """

    unit: Unit
    values: Array
    note: str


def coded_again(target: str, values: Array, old: Unit | None) -> Recoded:
    """Codes values under `target`, with the qp and method of the `old` unit where it has one of its own."""
    unit = _coded(target, values, old)
    decoded = decode(unit, str(values.dtype), tuple(values.shape), target)
    error = measure(values, decoded)
    return Recoded(unit, decoded, f"{target!r} was coded again, relative rms error {error.rel_rms:.2g}")


def _coded(target: str, values: Array, old: Unit | None) -> Unit:
    tensors = list(nnc_codec.open(old.bitstream).values()) if old is not None else []
    qp, method = (tensors[0].qp, tensors[0].method) if len(tensors) == 1 else (None, None)
    if qp is not None and method is not None:
        params = EncodeParams(qp=qp, nonweight_qp=qp, method=method, topology=False)
        return cut(nnc_codec.encode({target: values}, params))
    coded = code_variable(target, values, PackOptions(min_elements=0), values.size)
    if not isinstance(coded, str):
        return coded.unit
    params = EncodeParams(method="raw", topology=False)
    return cut(nnc_codec.encode({target: np.asarray(values, np.float32)}, params))
