"""Turns packed tensors of a model into initializers whose values lie in one file."""

from __future__ import annotations

import mmap
import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from nnc_codec.errors import NNRError
from nnc_codec.limits import Limits

from ..carriage import BY_ONNX_TYPE, DOMAIN, is_decode_node
from ..graph.usage import Usage, Value
from ..graph.walk import GraphPath
from ..model_io import Model
from ..payloads import PackedTensor, open_payload, packed_tensors, read_payload
from ..tensors import element_count, is_external, raw_tensor, read_bytes, stored_nbytes
from .skeleton import LARGE, lies_in
from .weights_file import WeightsLayout, WeightsSink, decode_buffers

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from nnc_codec import CodedTensor

DEFAULT_LIMITS = Limits()
_MOST_JOBS = 8


class Part(Protocol):
    """An initializer that takes the place of a decoded tensor."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def onnx_type(self) -> int:
        """Value of ``onnx.TensorProto.DataType``."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        ...


class Substitute(Protocol):
    """What takes the place of a decoded tensor."""

    @property
    def value(self) -> Value:
        """The tensor."""
        ...

    @property
    def parts(self) -> Sequence[Part]:
        """The initializers."""
        ...

    def convert(self, decoded: NDArray[Any]) -> Sequence[NDArray[Any]]:
        """Their values, in the same order."""
        ...


class _Target(NamedTuple):
    """A chosen tensor and the initializers that it fills: each with its place in the weights file, if it has one."""

    tensor: PackedTensor
    initializers: list[tuple[onnx.TensorProto, int | None]]
    substitute: Substitute | None


class Stage:
    """Turns decode nodes of a model into initializers and writes the values of all large initializers.

    Args:
        model: a packed model, changed in place.
        location: name of the file that large initializers refer to.
        constants: the tensors that become initializers; ``None`` means all. Members of groups always do.
        substitutes: what takes the place of constants that become something else.
        limits: bounds of the decoder.
        in_place: payloads stay in the files that they are in, and everything else lies in the model.

    Raises:
        CarriageError, UnsupportedCarriageError: a node is malformed, or a payload is missing.
        ExternalDataError: external data cannot be read.
    """

    def __init__(
        self,
        model: Model,
        location: str,
        constants: Collection[Value] | None = None,
        substitutes: Sequence[Substitute] = (),
        limits: Limits = DEFAULT_LIMITS,
        *,
        in_place: bool = False,
    ) -> None:
        self._model = model
        self._in_place = in_place
        self._limits = limits
        self._layout = WeightsLayout(location)
        usage = Usage(model.proto.graph)
        # Payloads leave the graph below, so they are kept as copies.
        self._chosen = [
            tensor._replace(payload=_copy(tensor.payload))
            for tensor in packed_tensors(usage)
            if constants is None or tensor.decode.member is not None or value_of(tensor) in constants
        ]
        _strip(usage, self._chosen)
        if not any(is_decode_node(node) for graph in usage.graphs.values() for node in graph.node):
            for index in reversed(range(len(model.proto.opset_import))):
                if model.proto.opset_import[index].domain == DOMAIN:
                    del model.proto.opset_import[index]
        self._moved = self._move_others(usage)
        self._targets = self._add_decoded(usage, {substitute.value: substitute for substitute in substitutes})

    @property
    def nbytes(self) -> int:
        """Size of the file of large initializers."""
        return self._layout.nbytes

    def write(self, weights: WeightsSink | None, jobs: int = 0) -> None:
        """Decode: small tensors into the model, large ones into `weights`, or not at all if that is ``None``.

        Args:
            weights: where the bytes go; must take :attr:`nbytes`.
            jobs: decoding threads, each holding one decoded tensor; 0 means one per processor, at most eight.

        Raises:
            CarriageError: a payload is not the one the model was written with.
            NNRError: a payload cannot be decoded.
        """
        targets = self._targets
        if weights is None:
            targets = [item for item in targets if all(offset is None for _, offset in item.initializers)]
        else:
            for moved, offset in self._moved:
                weights.write(read_bytes(moved, self._model.folder), offset)
        if not targets:
            return
        for target in targets:
            if target.tensor.decode.nbytes >= LARGE:
                self._open(target.tensor)  # so that the sizes below are those of the bitstreams
        jobs = min(jobs or min(os.cpu_count() or 1, _MOST_JOBS), len(targets))
        buffers = decode_buffers(jobs, max(target.tensor.decode.nbytes for target in targets))

        def fill(target: _Target) -> None:
            buffer = buffers.get()
            try:
                values = self._decode(target.tensor, buffer)
                arrays = [values] if target.substitute is None else target.substitute.convert(values)
                for (proto, offset), array in zip(target.initializers, arrays, strict=True):
                    if offset is None:
                        proto.raw_data = np.ascontiguousarray(array).tobytes()
                    elif weights is not None:
                        weights.write(array, offset)
            finally:
                buffers.put(buffer)

        with ThreadPoolExecutor(jobs) as executor:
            for _ in executor.map(fill, targets):
                pass

    def _move_others(self, usage: Usage) -> list[tuple[onnx.TensorProto, int]]:
        # Newer onnxruntimes read external data beside the model only, so what is external already moves. Payloads
        # move because onnxruntime would copy embedded ones.
        payloads = {Value(tensor.home, tensor.payload.name) for tensor in packed_tensors(usage)}
        if self._in_place:
            self._embed_others(usage, payloads)
            return []
        moved = []
        for path, graph in usage.graphs.items():
            for tensor in graph.initializer:
                external = is_external(tensor)
                if not external and (Value(path, tensor.name) not in payloads or len(tensor.raw_data) < LARGE):
                    continue
                nbytes = stored_nbytes(tensor)
                if nbytes < LARGE:
                    self._embed(tensor)
                else:
                    moved.append((_copy(tensor), self._layout.place(tensor, nbytes)))
        return moved

    def _embed_others(self, usage: Usage, payloads: set[Value]) -> None:
        # Payloads are bytes and may lie anywhere in a file; onnxruntime's kernels expect wider elements to be aligned.
        for path, graph in usage.graphs.items():
            for tensor in graph.initializer:
                if Value(path, tensor.name) not in payloads and lies_in(tensor, self._model.path.name):
                    self._embed(tensor)

    def _embed(self, tensor: onnx.TensorProto) -> None:
        raw = read_bytes(tensor, self._model.folder).tobytes()
        del tensor.external_data[:]
        tensor.ClearField("data_location")
        tensor.raw_data = raw

    def _add_decoded(self, usage: Usage, substitutes: Mapping[Value, Substitute]) -> list[_Target]:
        targets = []
        for tensor in self._chosen:
            decode = tensor.decode
            substitute = substitutes.get(value_of(tensor))
            parts: Sequence[tuple[str, int, tuple[int, ...]]] = (
                [(decode.output, decode.element.onnx_type, decode.shape)]
                if substitute is None
                else [(part.name, part.onnx_type, part.shape) for part in substitute.parts]
            )
            initializers: list[tuple[onnx.TensorProto, int | None]] = []
            for name, onnx_type, shape in parts:
                proto = usage.graphs[tensor.path].initializer.add()
                proto.CopyFrom(raw_tensor(name, onnx_type, shape, None))
                nbytes = element_count(proto) * BY_ONNX_TYPE[onnx_type].dtype.itemsize
                apart = nbytes >= LARGE and not self._in_place
                initializers.append((proto, self._layout.place(proto, nbytes) if apart else None))
            targets.append(_Target(tensor, initializers, substitute))
        return targets

    def _open(self, tensor: PackedTensor) -> CodedTensor:
        """The payload's tensor, which is of the shape that the node says."""
        return open_payload(tensor, read_payload(tensor, self._model), self._limits)

    def _decode(self, tensor: PackedTensor, buffer: mmap.mmap) -> NDArray[Any]:
        """The tensor, decoded into `buffer`."""
        decode = tensor.decode
        flat = np.frombuffer(buffer, np.uint8, decode.nbytes).view(decode.element.dtype)
        coded = self._open(tensor)
        try:
            return coded.decode(out=flat.reshape(decode.shape))
        except NNRError as error:
            error.tensor = decode.output
            raise


def value_of(tensor: PackedTensor) -> Value:
    """The value that a packed tensor is decoded into."""
    return Value(tensor.path, tensor.decode.output)


def _copy(tensor: onnx.TensorProto) -> onnx.TensorProto:
    copied = type(tensor)()
    copied.CopyFrom(tensor)
    return copied


def _strip(usage: Usage, chosen: Sequence[PackedTensor]) -> None:
    """Take decode nodes of `chosen`, type information of their outputs and unread payloads out of all graphs."""
    decoded = {value_of(tensor) for tensor in chosen}

    def leaves(node: onnx.NodeProto, path: GraphPath) -> bool:
        return is_decode_node(node) and all(Value(path, name) in decoded for name in node.output if name)

    unread = {
        payload
        for payload in (Value(tensor.home, tensor.payload.name) for tensor in chosen)
        if all(use.node is not None and leaves(use.node, use.path) for use in usage.uses(payload))
    }
    for path, graph in usage.graphs.items():
        for index in reversed(range(len(graph.node))):
            if leaves(graph.node[index], path):
                del graph.node[index]
        # Before IR version 4 initializers are graph inputs too.
        for values, unwanted in ((graph.initializer, unread), (graph.input, unread), (graph.value_info, decoded)):
            for index in reversed(range(len(values))):
                if Value(path, values[index].name) in unwanted:
                    del values[index]
