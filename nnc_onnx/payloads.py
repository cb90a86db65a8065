"""From a decode node to the values: find the payload, check it, decode it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import nnc_codec
from nnc_codec import CodedTensor
from nnc_codec.errors import InvalidArgumentError, NNRError
from nnc_codec.limits import Limits

from . import carriage
from .errors import CarriageError
from .graph.usage import Usage, Value
from .graph.walk import GraphPath
from .manifest import Manifest, TensorEntry, parse_manifest, payload_digest
from .model_io import Model, load
from .tensors import read_bytes

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

_UINT8 = 2


class PackedTensor(NamedTuple):
    """A tensor that a node decodes, and the payload it comes from.

    Attributes:
        path: graph of the node.
        decode: what the node says.
        node_name: name of the node.
        home: graph of the payload.
        payload: the payload's TensorProto.
        group: the payload's units if the node decodes a group.
    """

    path: GraphPath
    decode: carriage.DecodeNode
    node_name: str
    home: GraphPath
    payload: onnx.TensorProto
    group: GroupUnits | None = None


class GroupUnits:
    """The data units of a group's payload, cut apart when the first one is asked for."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._whole: memoryview | None = None
        self._digest: str | None = None
        self._units: list[bytes] = []
        self._head = 0

    def whole(self, tensor: PackedTensor, folder: Path) -> memoryview:
        """All bytes of the payload, checked as :func:`read_payload` says; `tensor` is any member."""
        with self._lock:
            if self._whole is None:
                self._whole = _checked(tensor, folder)
            return self._whole

    def digest(self, tensor: PackedTensor, folder: Path) -> str:
        """SHA-256 of the payload as the manifest has it, computed once for all tensors of the group."""
        whole = self.whole(tensor, folder)
        with self._lock:
            if self._digest is None:
                self._digest = payload_digest(whole)
            return self._digest

    def unit(self, tensor: PackedTensor, folder: Path) -> memoryview:
        """A bitstream with the data unit of `tensor` alone.

        Raises:
            CarriageError: there is no such unit, or it holds several tensors.
            NNRError: the units cannot be told apart.
        """
        whole = self.whole(tensor, folder)
        with self._lock:
            if not self._units:
                try:
                    stream = nnc_codec.open(whole)
                    self._units = list(stream.split().values())
                    self._head = sum(unit.size for unit in stream.units if unit.data_unit is None)
                except NNRError as error:
                    error.tensor = error.tensor or tensor.decode.output
                    raise
        member = tensor.decode.member or 0
        if member >= len(self._units):
            raise CarriageError(
                f"payload has {len(self._units)} data units, this is number {member}", tensor=tensor.decode.output
            )
        return memoryview(self._units[member])

    def unit_size(self, tensor: PackedTensor, folder: Path) -> int:
        """Bytes of the data unit of `tensor`."""
        return self.unit(tensor, folder).nbytes - self._head


def packed_tensors(usage: Usage) -> Iterator[PackedTensor]:
    """All tensors that are decoded, with their payloads, in the order of graphs and nodes.

    Raises:
        CarriageError: a node is malformed or its payload is not a uint8 initializer.
        UnsupportedCarriageError: an operator of the domain is unknown.
    """
    tensors = {path: {tensor.name: tensor for tensor in graph.initializer} for path, graph in usage.graphs.items()}
    for path, graph in usage.graphs.items():
        for node in graph.node:
            if not carriage.is_decode_node(node):
                continue
            group = GroupUnits()
            for decode in carriage.read_node(node):
                value = usage.resolve(path, decode.payload)
                payload = tensors[value.path].get(value.name) if value is not None else None
                if value is None or payload is None:
                    raise CarriageError(f"payload {decode.payload!r} is no initializer", tensor=decode.output)
                if payload.data_type != _UINT8 or len(payload.dims) != 1:
                    raise CarriageError(f"payload {decode.payload!r} is not uint8[n]", tensor=decode.output)
                units = None if decode.member is None else group
                yield PackedTensor(path, decode, node.name, value.path, payload, units)


def read_payload(tensor: PackedTensor, model: Model) -> memoryview:
    """The bitstream of one tensor, after the CRC-32 of the payload was compared with the node's.

    It is the payload itself, mapped if it is external, or, of a group, the tensor's data unit behind the units that
    all share.

    Raises:
        CarriageError: the checksum differs, the payload holds no raw bytes of its shape, or a group has no such unit.
        ExternalDataError: external data cannot be read.
        NNRError: a group cannot be cut into its units.
    """
    if tensor.group is not None:
        return tensor.group.unit(tensor, model.folder)
    return _checked(tensor, model.folder)


def _checked(tensor: PackedTensor, folder: Path) -> memoryview:
    raw = read_bytes(tensor.payload, folder)
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
        groups = manifest.groups if manifest is not None else ()
        self._exact = {(entry.name, entry.payload_name): entry for entry in tensors}
        self._by_payload = {entry.payload_name: entry for entry in tensors}
        self._groups = {group.payload: group for group in groups}

    def find(self, decode: carriage.DecodeNode) -> TensorEntry | None:
        """The entry of the tensor. Tools may rename tensors, so the payload's name is enough to find it.

        Raises:
            CarriageError: the entry of a group has fewer tensors than its node.
        """
        if decode.member is None:
            exact = self._exact.get((decode.output, decode.payload))
            return exact if exact is not None else self._by_payload.get(decode.payload)
        group = self._groups.get(decode.payload)
        if group is None:
            return None
        if decode.member >= len(group.positions):
            raise CarriageError("the manifest's entry of the group has fewer tensors", tensor=decode.output)
        return group.entry(decode.member, decode.output, decode.shape, decode.element.dtype_name)

    @property
    def payload_names(self) -> set[str]:
        """Names of all payloads."""
        return self._by_payload.keys() | self._groups.keys()


def check_digest(tensor: PackedTensor, model: Model, expected: str) -> None:
    """Compare the payload with the SHA-256 in the manifest.

    Raises:
        CarriageError: it differs, or :func:`read_payload` fails.
    """
    if tensor.group is not None:
        found = tensor.group.digest(tensor, model.folder)
    else:
        found = payload_digest(_checked(tensor, model.folder))
    if found != expected:
        raise CarriageError("SHA-256 of the payload is not the manifest's", tensor=tensor.decode.output)


def bitstreams(source: Path) -> Iterator[tuple[str, memoryview]]:
    """(name of the first tensor it decodes to, payload) of every payload of a packed model, unchecked.

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
