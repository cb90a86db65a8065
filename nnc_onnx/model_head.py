"""What a loader must know of a model before it makes a session, without copying a weight.

Parsing a packed model with protobuf would hold its payloads twice, in the file's bytes and in the message,
next to what onnxruntime reads itself. So the few fields needed are read from the wire format in place; the
rest is skipped by its length.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator

import msgspec

from nnc_codec.files import access_error, require_readable

from .errors import InvalidModelError, TruncatedModelError

Buffer = bytes | memoryview | mmap.mmap

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_MODEL_OPSET_IMPORT = 8
_MODEL_METADATA = 14
_OPSET_DOMAIN = 1
_OPSET_VERSION = 2
_ENTRY_KEY = 1
_ENTRY_VALUE = 2

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_TEXT = 1 << 26
_NOT_PROTOBUF = "is not an ONNX model: the bytes are not of the protobuf wire format"


class ModelHead(msgspec.Struct, frozen=True, kw_only=True):
    """The outer fields of an ONNX model.

    Attributes:
        opsets: version by domain.
        metadata: ``metadata_props``.
        is_ort_format: the data are of onnxruntime's own format, whose inside is not read.
    """

    opsets: dict[str, int]
    metadata: dict[str, str]
    is_ort_format: bool = False


@contextlib.contextmanager
def model_bytes(source: str | os.PathLike[str] | bytes) -> Iterator[Buffer]:
    """The bytes of a model, mapped if `source` is a path.

    Raises:
        FileAccessError: the file cannot be read.
        InvalidModelError: the file is empty or a folder.
    """
    if isinstance(source, bytes):
        yield source
        return
    path = require_readable(source)
    if path.is_dir():
        raise InvalidModelError(f"{path} is a folder, not an ONNX model")
    try:
        with open(path, "rb") as stream:
            if os.fstat(stream.fileno()).st_size == 0:
                raise InvalidModelError(f"{path} is empty, not an ONNX model")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                yield mapped
    except OSError as error:
        raise access_error(error, path, "read") from error


def read_head(data: Buffer, name: str = "the data") -> ModelHead:
    """The outer fields of the ONNX model in `data`, which messages call `name`.

    Raises:
        InvalidModelError: `data` are not an ONNX model.
        TruncatedModelError: they begin as one and end early.
    """
    if bytes(data[4:8]) == b"ORTM":
        return ModelHead(opsets={}, metadata={}, is_ort_format=True)
    try:
        return _read_onnx_head(data)
    except (InvalidModelError, TruncatedModelError) as error:
        raise type(error)(f"{name} {error.message}", bit_offset=error.bit_offset) from None


def _read_onnx_head(data: Buffer) -> ModelHead:
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    has_graph = False
    for number, wire, start, end in fields(data, 0, len(data)):
        if wire != _LENGTH:
            continue
        if number == _MODEL_GRAPH:
            has_graph = True
        elif number == _MODEL_OPSET_IMPORT:
            domain, version = "", 0
            for inner, inner_wire, first, last in fields(data, start, end):
                if inner == _OPSET_DOMAIN and inner_wire == _LENGTH:
                    domain = text(data, first, last)
                elif inner == _OPSET_VERSION and inner_wire == _VARINT:
                    version = first
            opsets[domain] = version
        elif number == _MODEL_METADATA:
            key = value = ""
            for inner, inner_wire, first, last in fields(data, start, end):
                if inner == _ENTRY_KEY and inner_wire == _LENGTH:
                    key = text(data, first, last)
                elif inner == _ENTRY_VALUE and inner_wire == _LENGTH:
                    value = text(data, first, last)
            metadata[key] = value
    if not has_graph:
        raise InvalidModelError("is not an ONNX model: there is no graph in it")
    if not opsets:
        raise TruncatedModelError("ends after its graph: opset_import is missing")
    return ModelHead(opsets=opsets, metadata=metadata)


def fields(data: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields of the protobuf message in ``data[start:end]``: number, wire type, first byte, end.

    For a varint field the third item is the value itself.

    Raises:
        InvalidModelError: the bytes are not of the wire format.
        TruncatedModelError: a field reaches past `end`.
    """
    at = start
    while at < end:
        key, at = varint(data, at, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise InvalidModelError(_NOT_PROTOBUF, bit_offset=at * 8)
        if wire == _VARINT:
            value, at = varint(data, at, end)
            yield number, wire, value, at
            continue
        if wire == _LENGTH:
            length, at = varint(data, at, end)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise InvalidModelError(_NOT_PROTOBUF, bit_offset=at * 8)
        if length > end - at:
            raise TruncatedModelError(
                f"ends early: field {number} needs {length} bytes, {end - at} are left",
                bit_offset=at * 8,
            )
        yield number, wire, at, at + length
        at += length


def varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    """The number at `at` and the position after it.

    Raises:
        InvalidModelError: it is longer than 64 bits.
        TruncatedModelError: it reaches past `end`.
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise TruncatedModelError("ends inside a number", bit_offset=at * 8)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise InvalidModelError(_NOT_PROTOBUF, bit_offset=at * 8)


def text(data: Buffer, start: int, end: int) -> str:
    """The UTF-8 text in ``data[start:end]``.

    Raises:
        InvalidModelError: it is too long to be a name or a property.
    """
    if end - start > _MAX_TEXT:
        raise InvalidModelError(
            f"has a text of {end - start} bytes where an ONNX model has a short one", bit_offset=start * 8
        )
    return bytes(data[start:end]).decode("utf-8", "replace")
