"""Mode ``"int8"``: matrix products on 8-bit weights that are made from the decoded ones while loading.

Results are approximate: weights are rounded to 8 bits, and the kernels round the activations they meet as well. A
weight of shape [K, N] becomes the weight of

* ``DynamicQuantizeMatMul`` for K <= N: one scale per column of the weight, one for all of the activation; far
  faster than float;
* ``MatMulNBits`` for K > N: one scale per column and per 32 rows of the weight, and per 32 values of the
  activation, which is about as fast as float. Products that narrow read the hidden layer of a feed-forward block, where
  a few activations are many times as large as the others; with a single scale those would cost the most accuracy.
  On a MiniLM the split takes the change of the outputs from 15 % to 5.5 %.

A table that only Gather reads becomes an 8-bit table with one scale per row. Other weights stay as they are decoded.
Both operators are onnxruntime's own, of domain ``com.microsoft``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from ..carriage import BY_ONNX_TYPE
from ..graph.usage import Usage, Use, Value
from ..graph.walk import all_names
from ..payloads import PackedTensor

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

BLOCK = 32
"""Values that share a scale in ``MatMulNBits``."""

MIN_ELEMENTS = 4096
"""Smaller weights stay as they are."""

_DOMAIN = "com.microsoft"
_LARGEST = 127
_ZERO_POINT = 128
_TINY = np.float32(1e-30)
_CHUNK = 1 << 18

Kind = Literal["dynamic", "blocks", "rows"]


class Part(NamedTuple):
    """An initializer that takes the place of a decoded one, or of part of it."""

    name: str
    onnx_type: int
    shape: tuple[int, ...]


class IntegerWeight(NamedTuple):
    """A weight that computes in 8 bits.

    Attributes:
        value: the decoded tensor.
        kind: what reads it: ``"dynamic"`` DynamicQuantizeMatMul, ``"blocks"`` MatMulNBits, ``"rows"`` Gather.
        shape: as decoded.
        transposed: its shape is [N, K].
        stem: beginning of the names of its parts, which no other value has.
    """

    value: Value
    kind: Kind
    shape: tuple[int, int]
    transposed: bool
    stem: str

    @property
    def inner(self) -> int:
        """K, the length of the sums."""
        return self.shape[1 if self.transposed else 0]

    @property
    def columns(self) -> int:
        """N, the number of sums."""
        return self.shape[0 if self.transposed else 1]

    @property
    def parts(self) -> tuple[Part, Part]:
        """The 8-bit values and their scales."""
        from onnx import TensorProto

        signed, unsigned, real = TensorProto.INT8, TensorProto.UINT8, TensorProto.FLOAT
        values, scales = f"{self.stem}.int8", f"{self.stem}.scale"
        if self.kind == "dynamic":
            shape = (self.inner, self.columns)
            return Part(values, signed, shape), Part(scales, real, (self.columns,))
        if self.kind == "rows":
            return Part(values, signed, self.shape), Part(scales, real, (self.shape[0], 1))
        blocks = -(-self.inner // BLOCK)
        shape3 = (self.columns, blocks, BLOCK)
        return Part(values, unsigned, shape3), Part(scales, real, (self.columns, blocks))

    @property
    def nbytes(self) -> int:
        """Bytes of the parts."""
        (_, _, values), (_, _, scales) = self.parts
        return math.prod(values) + 4 * math.prod(scales)

    def convert(self, decoded: NDArray[np.float32]) -> list[NDArray[np.generic]]:
        """The arrays of :attr:`parts`.

        Args:
            decoded: float32 array of :attr:`shape`.
        """
        weight = decoded.T if self.transposed else decoded
        values, scales = (np.empty(part.shape, BY_ONNX_TYPE[part.onnx_type].dtype) for part in self.parts)
        if self.kind == "dynamic":
            scales[:] = _scales(np.maximum(weight.max(axis=0), -weight.min(axis=0)))
            for rows in _chunks(self.inner, self.columns):
                values[rows] = np.rint(weight[rows] / scales)
        elif self.kind == "rows":
            for rows in _chunks(*self.shape):
                scales[rows] = _scales(np.abs(weight[rows]).max(axis=1, keepdims=True))
                values[rows] = np.rint(weight[rows] / scales[rows])
        else:
            for columns in _chunks(self.columns, self.inner):
                rows_of_blocks = np.pad(weight[:, columns].T, ((0, 0), (0, -self.inner % BLOCK)))
                blocks = rows_of_blocks.reshape(-1, *values.shape[1:])
                scales[columns] = _scales(np.abs(blocks).max(axis=2))
                values[columns] = np.rint(blocks / scales[columns][..., None]) + _ZERO_POINT
        return [values, scales]


def _scales(largest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales with which `largest` become the largest 8-bit level."""
    return (np.maximum(largest, _TINY) / _LARGEST).astype(np.float32)


def _chunks(length: int, width: int) -> Iterator[slice]:
    """Slices of an axis of `length` items of `width` values, so small that temporary arrays do not matter."""
    step = max(1, _CHUNK // max(width, 1))
    for start in range(0, length, step):
        yield slice(start, start + step)


def integer_weights(usage: Usage, packed: Iterable[PackedTensor], *, with_blocks: bool) -> list[IntegerWeight]:
    """The tensors of `packed` that can compute in 8 bits: those that only nodes of the main graph read.

    Args:
        usage: of the packed model's graph.
        packed: its packed tensors.
        with_blocks: whether onnxruntime has an 8-bit ``MatMulNBits``; without it, weights with K > N stay float.
    """
    taken = all_names(usage.graphs[()])
    found = []
    for tensor in packed:
        decode = tensor.decode
        if tensor.path or decode.member is not None or decode.element.dtype_name != "float32" or len(decode.shape) != 2:
            continue
        if decode.elements < MIN_ELEMENTS:
            continue
        value = Value(tensor.path, decode.output)
        uses = usage.uses(value)
        kinds = {_reader(use, tensor) for use in uses}
        if len(kinds) != 1:
            continue
        reader = kinds.pop()
        if reader is None:
            continue
        kind: Kind = "rows"
        shape = (decode.shape[0], decode.shape[1])
        if reader != "rows":
            inner, columns = shape[::-1] if reader == "transposed" else shape
            kind = "dynamic" if inner <= columns else "blocks"
            if kind == "blocks" and not with_blocks:
                continue
        found.append(IntegerWeight(value, kind, shape, reader == "transposed", _free(decode.output, taken)))
    return found


def _free(name: str, taken: set[str]) -> str:
    while any(f"{name}.{suffix}" in taken for suffix in ("int8", "scale")):
        name += "_"
    taken.update((f"{name}.int8", f"{name}.scale"))
    return name


def _reader(use: Use, tensor: PackedTensor) -> Literal["plain", "transposed", "rows"] | None:
    """How a node reads the tensor; ``None`` if it must see floats."""
    node = use.node
    if node is None or use.path != tensor.path or node.domain not in ("", "ai.onnx"):
        return None
    settings = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Gather" and use.position == 0:
        return "rows" if "axis" not in settings or settings["axis"].i == 0 else None
    if node.op_type == "MatMul" and use.position == 1:
        return "plain"
    if node.op_type == "Gemm" and use.position == 1:
        one = all(name not in settings or settings[name].f == 1 for name in ("alpha", "beta"))
        if one and ("transA" not in settings or settings["transA"].i == 0):
            return "transposed" if "transB" in settings and settings["transB"].i else "plain"
    return None


def compute_in_integers(model: onnx.ModelProto, weights: Iterable[IntegerWeight]) -> None:
    """Replace the readers of `weights` by nodes that read their parts; the parts are not added.

    Args:
        model: changed in place; its decode nodes are those that `weights` were found in.
        weights: the tensors to replace.
    """
    from onnx import helper

    usage = Usage(model.graph)
    readers = {use.node_index: weight for weight in weights for use in usage.uses(weight.value)}
    nodes = []
    for index, node in enumerate(model.graph.node):
        weight = readers.get(index)
        if weight is None:
            nodes.append(node)
        else:
            nodes.extend(_gather(node, weight) if weight.kind == "rows" else _product(node, weight))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    if any(weight.kind != "rows" for weight in readers.values()) and all(
        entry.domain != _DOMAIN for entry in model.opset_import
    ):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))


def _product(node: onnx.NodeProto, weight: IntegerWeight) -> list[onnx.NodeProto]:
    from onnx import helper

    values, scales = (part.name for part in weight.parts)
    bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
    output = node.output[0]
    result = f"{weight.stem}.{output}.product" if bias else output
    if weight.kind == "dynamic":
        made = helper.make_node(
            "DynamicQuantizeMatMul", [node.input[0], values, scales], [result], name=node.name, domain=_DOMAIN
        )
    else:
        made = helper.make_node(
            "MatMulNBits",
            [node.input[0], values, scales],
            [result],
            name=node.name,
            domain=_DOMAIN,
            K=weight.inner,
            N=weight.columns,
            bits=8,
            block_size=BLOCK,
            accuracy_level=4,
        )
    # The bias of a Gemm may have any shape that broadcasts, the operators' own bias only [N].
    return [made, helper.make_node("Add", [result, bias], [output])] if bias else [made]


def _gather(node: onnx.NodeProto, weight: IntegerWeight) -> list[onnx.NodeProto]:
    from onnx import TensorProto, helper

    values, scales = (part.name for part in weight.parts)
    output, stem = node.output[0], f"{weight.stem}.{node.output[0]}"
    return [
        helper.make_node("Gather", [values, node.input[1]], [f"{stem}.levels"], name=node.name, axis=0),
        helper.make_node("Cast", [f"{stem}.levels"], [f"{stem}.float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [scales, node.input[1]], [f"{stem}.scales"], axis=0),
        helper.make_node("Mul", [f"{stem}.float", f"{stem}.scales"], [output]),
    ]
