"""Models parsed without their large values, which stay where they are in the file.

Protobuf would copy every value into the message, next to the bytes it parses. Here initializers of the main graph
that hold at least :data:`LARGE` raw bytes become external ones whose location is the model file itself, so that
:func:`nnc_onnx.tensors.read_bytes` maps them one at a time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..model_head import Buffer, fields, model_bytes
from ..model_io import Model, parse
from ..tensors import is_external

if TYPE_CHECKING:
    import onnx

LARGE = 4 << 10
"""Bytes of raw data from which on an initializer is left in the file."""

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_RAW_DATA = 9
_LENGTH = 2


def read_skeleton(source: str | os.PathLike[str] | bytes) -> Model:
    """The model in `source`, its large initializers as references into the file.

    A model given as bytes, or through a link, is parsed as a whole: external data may not be reached that way.

    Raises:
        FileAccessError: the file cannot be read.
        InvalidModelError, TruncatedModelError: it is no ONNX model.
    """
    if isinstance(source, bytes):
        return Model(parse(source), Path(), Path(), ())
    path = Path(source)
    with model_bytes(path) as data:
        serialized = data[:] if path.is_symlink() else _without_large_values(data, path.name)
    return Model(parse(bytes(serialized), str(path)), path.parent, path, (path,))


def lies_in(tensor: onnx.TensorProto, location: str) -> bool:
    """Whether the values of `tensor` are those of an external file of this name."""
    return is_external(tensor) and any(
        entry.key == "location" and entry.value == location for entry in tensor.external_data
    )


def _without_large_values(data: Buffer, location: str) -> bytes:
    pieces: list[bytes] = []
    begin = 0
    for number, wire, start, end in fields(data, 0, len(data)):
        if number == _MODEL_GRAPH and wire == _LENGTH:
            graph = _graph(data, start, end, location)
            pieces.append(_length_field(_MODEL_GRAPH, graph))
        else:
            pieces.append(bytes(data[begin:end]))
        begin = end
    return b"".join(pieces)


def _graph(data: Buffer, start: int, end: int, location: str) -> bytes:
    pieces: list[bytes] = []
    begin = start
    for number, wire, first, last in fields(data, start, end):
        is_large = number == _GRAPH_INITIALIZER and wire == _LENGTH and last - first >= LARGE
        tensor = _external_tensor(data, first, last, location) if is_large else None
        if tensor is not None:
            pieces.append(_length_field(_GRAPH_INITIALIZER, tensor.SerializeToString()))
        else:
            pieces.append(bytes(data[begin:last]))
        begin = last
    return b"".join(pieces)


def _external_tensor(data: Buffer, start: int, end: int, location: str) -> onnx.TensorProto | None:
    """The tensor in ``data[start:end]`` without its raw data; ``None`` if it has too few of them."""
    from onnx import TensorProto

    raw: tuple[int, int] | None = None
    rest: list[bytes] = []
    begin = start
    for number, wire, first, last in fields(data, start, end):
        if number == _TENSOR_RAW_DATA and wire == _LENGTH:
            raw = (first, last - first)  # of a field given twice the last one counts
        else:
            rest.append(bytes(data[begin:last]))
        begin = last
    if raw is None or raw[1] < LARGE:
        return None
    tensor = parse_tensor(b"".join(rest))
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", raw[0]), ("length", raw[1])):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def parse_tensor(data: bytes) -> onnx.TensorProto:
    """Parse a serialized TensorProto.

    Raises:
        InvalidModelError: it is none.
    """
    from google.protobuf.message import DecodeError
    from onnx import TensorProto

    from ..errors import InvalidModelError

    try:
        tensor: onnx.TensorProto = TensorProto.FromString(data)
    except (DecodeError, RuntimeError) as error:
        raise InvalidModelError(f"an initializer is damaged: {error}") from error
    return tensor


def _length_field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    coded = bytearray()
    while value > 0x7F:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)
