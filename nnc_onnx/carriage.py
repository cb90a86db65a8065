"""Carriage format 1: how NNR bitstreams sit in an ONNX model.

A packed tensor ``W`` is a uint8 initializer ``W.nnr`` that holds one complete NNR bitstream (start unit,
model parameter set, one data unit) and a node of domain ``onnx_nnc`` that decodes it::

    NNRDecodeFloat(payload: uint8[n], after?: any tensor) -> W      attributes: shape, crc32

``after`` is the activation that the first consumer waits for. Its values are ignored: it only keeps a runtime
from decoding every tensor before anything else runs.

Small tensors of one graph and element type share a bitstream with one data unit each, and one node::

    NNRDecodeGroupFloat(payload: uint8[n]) -> v0, v1, ...           attributes: shapes, crc32
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from .errors import CarriageError, UnsupportedCarriageError
from .graph.walk import GraphPath, iter_graphs

if TYPE_CHECKING:
    import onnx

DOMAIN = "onnx_nnc"
OPSET = 1
FORMAT = "1"
CODEC = "tag:iso.org,2023:15938-17"
PAYLOAD_SUFFIX = ".nnr"
OP_PREFIX = "NNRDecode"
GROUP_PREFIX = "NNRDecodeGroup"

FORMAT_KEY = "onnx_nnc.format"
CODEC_KEY = "onnx_nnc.codec"
MANIFEST_KEY = "onnx_nnc.manifest"


class ElementType(NamedTuple):
    """An element type that a tensor can be decoded into.

    Attributes:
        suffix: ending of the operator's name.
        onnx_type: value of ``onnx.TensorProto.DataType``.
        dtype_name: name of the numpy dtype.
    """

    suffix: str
    onnx_type: int
    dtype_name: str

    @property
    def op_name(self) -> str:
        """Operator that decodes into this type."""
        return OP_PREFIX + self.suffix

    @property
    def group_op_name(self) -> str:
        """Operator that decodes many tensors of this type at once."""
        return GROUP_PREFIX + self.suffix

    @property
    def dtype(self) -> np.dtype:
        """The numpy dtype; bfloat16 is that of ml_dtypes."""
        if self.dtype_name != "bfloat16":
            return np.dtype(self.dtype_name)
        import ml_dtypes

        bfloat16: np.dtype = np.dtype(ml_dtypes.bfloat16)
        return bfloat16

    @property
    def is_float(self) -> bool:
        """Whether the values are coded lossily as a FLOAT unit."""
        return "float" in self.dtype_name


ELEMENT_TYPES = (
    ElementType("Float", 1, "float32"),
    ElementType("UInt8", 2, "uint8"),
    ElementType("Int8", 3, "int8"),
    ElementType("UInt16", 4, "uint16"),
    ElementType("Int16", 5, "int16"),
    ElementType("Int32", 6, "int32"),
    ElementType("Int64", 7, "int64"),
    ElementType("Float16", 10, "float16"),
    ElementType("Double", 11, "float64"),
    ElementType("UInt32", 12, "uint32"),
    ElementType("UInt64", 13, "uint64"),
    ElementType("BFloat16", 16, "bfloat16"),
)
BY_ONNX_TYPE = {element.onnx_type: element for element in ELEMENT_TYPES}
BY_OP_NAME = {element.op_name: element for element in ELEMENT_TYPES}
BY_GROUP_OP_NAME = {element.group_op_name: element for element in ELEMENT_TYPES}


def op_name(onnx_type: int) -> str:
    """Operator that decodes into an ``onnx.TensorProto.DataType``.

    Raises:
        UnsupportedCarriageError: there is none for this type.
    """
    element = BY_ONNX_TYPE.get(onnx_type)
    if element is None:
        raise UnsupportedCarriageError(f"there is no {OP_PREFIX} operator for ONNX element type {onnx_type}")
    return element.op_name


class DecodeNode(msgspec.Struct, frozen=True, kw_only=True):
    """What a decode node says of one tensor.

    Attributes:
        output: name of the decoded tensor.
        payload: name of the payload initializer.
        after: name of the awaited activation, if any.
        shape: shape of the decoded tensor.
        crc32: CRC-32 (zlib) of the payload bytes.
        element: element type of the decoded tensor.
        member: position among the outputs of a group node, which is that of its data unit among those of the
            payload; ``None`` for a node of its own.
    """

    output: str
    payload: str
    after: str | None
    shape: tuple[int, ...]
    crc32: int
    element: ElementType
    member: int | None = None

    @property
    def elements(self) -> int:
        """Number of values."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded tensor."""
        return self.elements * self.element.dtype.itemsize


def make_node(decode: DecodeNode) -> onnx.NodeProto:
    """The NodeProto of `decode`."""
    from onnx import helper

    inputs = [decode.payload] + ([decode.after] if decode.after else [])
    return helper.make_node(
        decode.element.op_name,
        inputs,
        [decode.output],
        domain=DOMAIN,
        shape=list(decode.shape),
        crc32=decode.crc32,
    )


def make_group_node(
    payload: str, outputs: Sequence[str], shapes: Sequence[Sequence[int]], crc32: int, element: ElementType
) -> onnx.NodeProto:
    """The NodeProto that decodes a group."""
    from onnx import helper

    return helper.make_node(
        element.group_op_name, [payload], list(outputs), domain=DOMAIN, shapes=pack_shapes(shapes), crc32=crc32
    )


def pack_shapes(shapes: Iterable[Sequence[int]]) -> list[int]:
    """Value of ``shapes``: a vector is its size, any other tensor minus its rank and then its dimensions."""
    packed: list[int] = []
    for shape in shapes:
        if len(shape) != 1:
            packed.append(-len(shape))
        packed.extend(shape)
    return packed


def unpack_shapes(packed: Sequence[int]) -> list[tuple[int, ...]]:
    """The shapes in an attribute ``shapes``.

    Raises:
        CarriageError: a dimension is negative or missing.
    """
    shapes: list[tuple[int, ...]] = []
    at = 0
    while at < len(packed):
        rank = 1 if packed[at] >= 0 else -packed[at]
        at += packed[at] < 0
        shape = tuple(packed[at : at + rank])
        if len(shape) < rank or any(size < 0 for size in shape):
            raise CarriageError("attribute shapes is invalid")
        shapes.append(shape)
        at += rank
    return shapes


def is_decode_node(node: onnx.NodeProto) -> bool:
    """Whether `node` belongs to this carriage (any operator of its domain)."""
    return bool(node.domain == DOMAIN)


def read_node(node: onnx.NodeProto) -> list[DecodeNode]:
    """Parse and check a node of domain ``onnx_nnc``: one item for each tensor that it decodes.

    Outputs of a group that a tool has removed because nothing reads them have no item.

    Raises:
        UnsupportedCarriageError: unknown operator.
        CarriageError: inputs, outputs or attributes are not what the operator has.
    """
    output = node.output[0] if node.output else None
    if node.op_type in BY_GROUP_OP_NAME:
        return _read_group(node, BY_GROUP_OP_NAME[node.op_type])
    element = BY_OP_NAME.get(node.op_type)
    if element is None:
        raise UnsupportedCarriageError(
            f"operator {node.op_type!r} of domain {DOMAIN} is unknown",
            tensor=output,
            hint="a newer release of onnx-nnc wrote this model",
        )
    if not output or len(node.output) != 1 or not 1 <= len(node.input) <= 2 or not node.input[0]:
        raise CarriageError(f"{node.op_type} has {len(node.input)} inputs and {len(node.output)} outputs")
    shape = _ints(node, "shape")
    if any(size < 0 for size in shape):
        raise CarriageError(f"attribute shape of {node.op_type} is invalid", tensor=output)
    decode = DecodeNode(
        output=output,
        payload=node.input[0],
        after=node.input[1] if len(node.input) == 2 and node.input[1] else None,
        shape=shape,
        crc32=_crc32(node),
        element=element,
    )
    return [decode]


def _read_group(node: onnx.NodeProto, element: ElementType) -> list[DecodeNode]:
    if not node.output or len(node.input) != 1 or not node.input[0]:
        raise CarriageError(f"{node.op_type} has {len(node.input)} inputs and {len(node.output)} outputs")
    shapes = unpack_shapes(_ints(node, "shapes"))
    # Tools may cut unused outputs off the end.
    if len(shapes) < len(node.output):
        raise CarriageError(f"{node.op_type} has {len(node.output)} outputs and {len(shapes)} shapes")
    crc32 = _crc32(node)
    return [
        DecodeNode(
            output=output, payload=node.input[0], after=None, shape=shape, crc32=crc32, element=element, member=member
        )
        for member, (output, shape) in enumerate(zip(node.output, shapes, strict=False))
        if output
    ]


def _ints(node: onnx.NodeProto, name: str) -> tuple[int, ...]:
    from onnx import AttributeProto

    for attribute in node.attribute:
        if attribute.name == name and attribute.type == AttributeProto.INTS:
            return tuple(attribute.ints)
    raise CarriageError(f"attribute {name} of {node.op_type} is missing", tensor=next(iter(node.output), None))


def _crc32(node: onnx.NodeProto) -> int:
    from onnx import AttributeProto

    for attribute in node.attribute:
        if attribute.name == "crc32" and attribute.type == AttributeProto.INT and 0 <= attribute.i < 1 << 32:
            return int(attribute.i)
    raise CarriageError(
        f"attribute crc32 of {node.op_type} is missing or invalid", tensor=next(iter(node.output), None)
    )


def decode_nodes(model: onnx.ModelProto) -> Iterator[tuple[GraphPath, onnx.NodeProto, DecodeNode]]:
    """All tensors that `model` and its subgraphs decode, with the path of the graph and the node.

    Raises:
        CarriageError, UnsupportedCarriageError: as :func:`read_node`.
    """
    for path, graph in iter_graphs(model.graph):
        for node in graph.node:
            if is_decode_node(node):
                for decode in read_node(node):
                    yield path, node, decode


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    """``metadata_props`` as a dictionary."""
    return {entry.key: entry.value for entry in model.metadata_props}


def check_format(model: onnx.ModelProto) -> str | None:
    """Version of the carriage; ``None`` for a model without one.

    Raises:
        UnsupportedCarriageError: a version this release does not know.
    """
    version = metadata(model).get(FORMAT_KEY)
    opset = next((entry.version for entry in model.opset_import if entry.domain == DOMAIN), None)
    if version is None and opset is None:
        return None
    if version not in (None, FORMAT):
        raise UnsupportedCarriageError(
            f"carriage format {version!r} is unknown; this release reads {FORMAT!r}",
            hint="a newer release of onnx-nnc wrote this model",
        )
    if opset not in (None, OPSET):
        raise UnsupportedCarriageError(
            f"version {opset} of operator set {DOMAIN} is unknown; this release has {OPSET}",
            hint="a newer release of onnx-nnc wrote this model",
        )
    return FORMAT
