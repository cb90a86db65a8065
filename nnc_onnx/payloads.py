"""From a decode node to the values: find the payload, check it, decode it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import nnc_codec
from nnc_codec import CodedTensor
from nnc_codec.errors import InvalidArgumentError, NNRError
from nnc_codec.limits import Limits

from . import carriage
from .errors import CarriageError
from .manifest import Manifest, TensorEntry, parse_manifest, payload_digest
from .model_io import Model, load
from .tensors import read_bytes
from .usage import Usage, Value
from .walk import GraphPath

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

_UINT8 = 2


class PackedTensor(NamedTuple):
    """A decode node and the payload it refers to.

    Attributes:
        path: graph of the node.
        decode: what the node says.
        node_name: name of the node.
        home: graph of the payload.
        payload: the payload's TensorProto.
    """

    path: GraphPath
    decode: carriage.DecodeNode
    node_name: str
    home: GraphPath
    payload: onnx.TensorProto


def packed_tensors(usage: Usage) -> Iterator[PackedTensor]:
    """All decode nodes with their payloads, in the order of graphs and nodes.

    Raises:
        CarriageError: a node is malformed or its payload is not a uint8 initializer.
        UnsupportedCarriageError: an operator of the domain is unknown.
    """
    tensors = {path: {tensor.name: tensor for tensor in graph.initializer} for path, graph in usage.graphs.items()}
    for path, graph in usage.graphs.items():
        for node in graph.node:
            if not carriage.is_decode_node(node):
                continue
            decode = carriage.read_node(node)
            value = usage.resolve(path, decode.payload)
            payload = tensors[value.path].get(value.name) if value is not None else None
            if value is None or payload is None:
                raise CarriageError(f"payload {decode.payload!r} is no initializer", tensor=decode.output)
            if payload.data_type != _UINT8 or len(payload.dims) != 1:
                raise CarriageError(f"payload {decode.payload!r} is not uint8[n]", tensor=decode.output)
            yield PackedTensor(path, decode, node.name, value.path, payload)


def read_payload(tensor: PackedTensor, model: Model) -> memoryview:
    """The payload's bytes, mapped if they are external, after their CRC-32 was compared with the node's.

    Raises:
        CarriageError: the checksum differs, or the payload holds no raw bytes of its shape.
        ExternalDataError: external data cannot be read.
    """
    raw = read_bytes(tensor.payload, model.folder)
    if raw.nbytes != tensor.payload.dims[0]:
        raise CarriageError(
            f"payload holds {raw.nbytes} bytes, not {tensor.payload.dims[0]}", tensor=tensor.decode.output
        )
    payload = raw.data
    found = zlib.crc32(payload)
    if found != tensor.decode.crc32:
        raise CarriageError(
            f"CRC-32 of the payload is {found:08x}, expected {tensor.decode.crc32:08x}",
            tensor=tensor.decode.output,
            hint="the file is damaged; get it again",
        )
    return payload


def open_payload(tensor: PackedTensor, payload: memoryview, limits: Limits) -> CodedTensor:
    """The payload's one tensor, headers only, after its shape was compared with the node's.

    Raises:
        CarriageError: the payload holds another number of tensors or one of another shape.
        CorruptError, UnsupportedError, LimitExceededError: the headers cannot be read.
    """
    decode = tensor.decode
    try:
        bitstream = nnc_codec.open(payload, limits=limits)
    except NNRError as error:
        error.tensor = error.tensor or decode.output
        raise
    if len(bitstream) != 1:
        raise CarriageError(f"payload holds {len(bitstream)} tensors instead of one", tensor=decode.output)
    (coded,) = bitstream.values()
    if tuple(coded.shape) != decode.shape:
        raise CarriageError(
            f"payload has shape {list(coded.shape)}, the node says {list(decode.shape)}", tensor=decode.output
        )
    return coded


def decode_payload(tensor: PackedTensor, payload: memoryview, limits: Limits) -> NDArray[np.generic]:
    """The decoded tensor, exactly as the run-time library computes it.

    Raises:
        CarriageError: as :func:`open_payload`.
        CorruptError, UnsupportedError, LimitExceededError: the bitstream cannot be decoded into this tensor.
    """
    decode = tensor.decode
    open_payload(tensor, payload, limits)
    try:
        values: NDArray[Any] = nnc_codec.decode_single(payload, decode.element.dtype, decode.shape, limits=limits)
    except NNRError as error:
        error.tensor = error.tensor or decode.output
        raise
    return values


def manifest_of(model: onnx.ModelProto) -> Manifest | None:
    """The model's manifest; ``None`` if some tool dropped it.

    Raises:
        CarriageError, UnsupportedCarriageError: as :func:`nnc_onnx.manifest.parse_manifest`.
    """
    text = carriage.metadata(model).get(carriage.MANIFEST_KEY)
    return parse_manifest(text) if text is not None else None


class Entries:
    """The manifest's entries, found by decode node."""

    def __init__(self, manifest: Manifest | None) -> None:
        tensors = manifest.tensors if manifest is not None else ()
        self._exact = {(entry.name, entry.payload_name): entry for entry in tensors}
        self._by_payload = {entry.payload_name: entry for entry in tensors}

    def find(self, decode: carriage.DecodeNode) -> TensorEntry | None:
        """The entry of the tensor. Tools may rename tensors, so the payload's name is enough to find it."""
        exact = self._exact.get((decode.output, decode.payload))
        return exact if exact is not None else self._by_payload.get(decode.payload)

    @property
    def payload_names(self) -> set[str]:
        """Names of all payloads."""
        return set(self._by_payload)


def check_digest(tensor: PackedTensor, payload: memoryview, expected: str) -> None:
    """Compare the payload with the SHA-256 in the manifest.

    Raises:
        CarriageError: it differs.
    """
    if payload_digest(payload) != expected:
        raise CarriageError("SHA-256 of the payload is not the manifest's", tensor=tensor.decode.output)


def bitstreams(source: Path) -> Iterator[tuple[str, memoryview]]:
    """(name of the decoded tensor, payload) of every payload of a packed model, unchecked.

    Raises:
        FileAccessError, InvalidModelError, TruncatedModelError, ExternalDataError: bad files.
        InvalidArgumentError: the model is not packed.
    """
    model = load(source)
    if carriage.check_format(model.proto) is None:
        raise InvalidArgumentError(f"{source} is not packed", hint="a plain model holds no bitstreams")
    seen: set[Value] = set()
    for tensor in packed_tensors(Usage(model.proto.graph)):
        payload = Value(tensor.home, tensor.payload.name)
        if payload not in seen:
            seen.add(payload)
            yield tensor.decode.output, read_bytes(tensor.payload, model.folder).data
