"""Eager mode: a packed model as a plain one in a temporary folder, its weights in an external-data file.

onnxruntime maps that file, so a session made from it needs the memory of a plain model with external data;
handing decoded arrays to a session instead would hold every weight twice.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc_codec.errors import NNRError
from nnc_codec.files import FileAccessError, access_error
from nnc_codec.limits import Limits

from .carriage import DOMAIN, is_decode_node
from .errors import CarriageError
from .model_io import ALIGNMENT, Model, load, parse
from .payloads import PackedTensor, packed_tensors, read_payload
from .runtime_errors import RuntimeMemoryError
from .tensors import is_external, raw_tensor, read_bytes
from .usage import Usage, Value

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from nnc_codec import CodedTensor

MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "weights.bin"

_MOST_JOBS = 8
_DEFAULT_LIMITS = Limits()


@contextlib.contextmanager
def expanded(
    source: str | os.PathLike[str] | bytes,
    *,
    base_dir: str | os.PathLike[str] | None = None,
    limits: Limits = _DEFAULT_LIMITS,
    jobs: int = 0,
) -> Iterator[Path]:
    """Path of a plain model with the decoded weights of `source`; folder and files go when the block ends.

    The folder is made where :mod:`tempfile` makes its folders (``TMPDIR``) and needs room for the decoded
    weights.

    Args:
        source: a packed model, as path or bytes.
        base_dir: where external data are looked up; by default beside the model.
        limits: bounds of the decoder.
        jobs: decoding threads, each holding one decoded tensor; 0 means one per processor, at most eight.

    Raises:
        FileAccessError: `source` cannot be read, or the temporary folder not written.
        InvalidModelError, TruncatedModelError: `source` is no ONNX model.
        CarriageError: a payload is not the one the model was written with, or is missing.
        NNRError: a payload cannot be decoded.
    """
    folder = _make_folder()
    try:
        _expand(source, base_dir, folder, limits, jobs or min(os.cpu_count() or 1, _MOST_JOBS))
        yield folder / MODEL_FILE
    finally:
        # Where mapped files cannot be removed (Windows) the folder stays until TMPDIR is cleaned.
        shutil.rmtree(folder, ignore_errors=True)


def _make_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="onnx-nnc-"))
    except OSError as error:
        raise FileAccessError(
            f"no temporary folder: {error}", hint="set TMPDIR to a folder with room for the weights"
        ) from error


def _expand(
    source: str | os.PathLike[str] | bytes,
    base_dir: str | os.PathLike[str] | None,
    folder: Path,
    limits: Limits,
    jobs: int,
) -> None:
    if isinstance(source, bytes):
        model = Model(parse(source), Path(), Path(), ())
    else:
        model = load(source if isinstance(source, str) else Path(source))
    if base_dir is not None:
        model = model._replace(folder=Path(base_dir))
    expansion = _Expansion(model, limits)
    try:
        with _WeightsFile(folder / WEIGHTS_FILE) as weights:
            expansion.write(weights, jobs)
        (folder / MODEL_FILE).write_bytes(model.proto.SerializeToString())
    except OSError as error:
        raise access_error(error, folder, "write") from error


class _Expansion:
    """Turns the decode nodes of a model into external initializers and writes their values."""

    def __init__(self, model: Model, limits: Limits) -> None:
        self._model = model
        self._limits = limits
        self._end = 0
        usage = Usage(model.proto.graph)
        # The payloads leave the graph below, so they are kept as copies.
        self._packed = [tensor._replace(payload=_copy(tensor.payload)) for tensor in packed_tensors(usage)]
        payloads = {Value(tensor.home, tensor.payload.name) for tensor in self._packed}
        self._moved = self._move_external(usage, payloads)
        self._decoded = self._add_decoded(usage)
        _strip(usage, payloads, {Value(tensor.path, tensor.decode.output) for tensor in self._packed})
        for index in reversed(range(len(model.proto.opset_import))):
            if model.proto.opset_import[index].domain == DOMAIN:
                del model.proto.opset_import[index]

    def write(self, weights: _WeightsFile, jobs: int) -> None:
        for moved, offset in self._moved:
            weights.write(read_bytes(moved, self._model.folder), offset)
        jobs = min(jobs, len(self._decoded))
        if jobs == 0:
            return
        for tensor, _ in self._decoded:
            self._open(tensor)  # so that the sizes below are those of the bitstreams
        buffers = _buffers(jobs, max(tensor.decode.nbytes for tensor, _ in self._decoded))

        def write_decoded(item: tuple[PackedTensor, int]) -> None:
            tensor, offset = item
            buffer = buffers.get()
            try:
                weights.write(self._decode(tensor, buffer), offset)
            finally:
                buffers.put(buffer)

        with ThreadPoolExecutor(jobs) as executor:
            for _ in executor.map(write_decoded, self._decoded):
                pass

    def _move_external(self, usage: Usage, payloads: set[Value]) -> list[tuple[onnx.TensorProto, int]]:
        # Newer onnxruntimes read external data beside the model only, so what is external already moves.
        moved = []
        for path, graph in usage.graphs.items():
            for tensor in graph.initializer:
                if is_external(tensor) and Value(path, tensor.name) not in payloads:
                    source = _copy(tensor)
                    nbytes = read_bytes(source, self._model.folder).nbytes
                    moved.append((source, self._place(tensor, nbytes)))
        return moved

    def _add_decoded(self, usage: Usage) -> list[tuple[PackedTensor, int]]:
        added = []
        for tensor in self._packed:
            decode = tensor.decode
            proto = usage.graphs[tensor.path].initializer.add()
            proto.CopyFrom(raw_tensor(decode.output, decode.element.onnx_type, decode.shape, None))
            added.append((tensor, self._place(proto, decode.nbytes)))
        return added

    def _place(self, tensor: onnx.TensorProto, nbytes: int) -> int:
        """Make `tensor` refer to the next `nbytes` of the weights file; returns their offset."""
        from onnx import TensorProto

        offset = self._end
        self._end += -(-nbytes // ALIGNMENT) * ALIGNMENT
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in (("location", WEIGHTS_FILE), ("offset", offset), ("length", nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        return offset

    def _open(self, tensor: PackedTensor) -> CodedTensor:
        """The payload's one tensor, of the shape that the node says."""
        import nnc_codec

        shape = tensor.decode.shape
        try:
            coded = list(nnc_codec.open(read_payload(tensor, self._model), limits=self._limits).values())
            if len(coded) != 1 or coded[0].shape != shape:
                shapes = ", ".join(str(list(item.shape)) for item in coded)
                raise CarriageError(
                    f"the payload holds a tensor of shape {shapes}, attribute shape is {list(shape)}"
                )
        except NNRError as error:
            error.tensor = tensor.decode.output
            raise
        return coded[0]

    def _decode(self, tensor: PackedTensor, buffer: mmap.mmap) -> NDArray[Any]:
        """The tensor, decoded into `buffer`."""
        decode = tensor.decode
        flat = np.frombuffer(buffer, np.uint8, decode.nbytes).view(decode.element.dtype)
        try:
            return self._open(tensor).decode(out=flat.reshape(decode.shape))
        except NNRError as error:
            error.tensor = decode.output
            raise


def _buffers(count: int, nbytes: int) -> queue.SimpleQueue[mmap.mmap]:
    # Mappings of their own, because freed heap memory would stay with the process.
    buffers: queue.SimpleQueue[mmap.mmap] = queue.SimpleQueue()
    try:
        for _ in range(count):
            buffers.put(mmap.mmap(-1, max(nbytes, 1)))
    except (OSError, OverflowError, ValueError) as error:
        raise RuntimeMemoryError(f"cannot allocate {count} buffers of {nbytes} bytes: {error}") from error
    return buffers


def _copy(tensor: onnx.TensorProto) -> onnx.TensorProto:
    copied = type(tensor)()
    copied.CopyFrom(tensor)
    return copied


def _strip(usage: Usage, payloads: set[Value], decoded: set[Value]) -> None:
    """Take decode nodes, payloads and the type information of decoded tensors out of all graphs."""
    used = {
        value
        for value in payloads
        if any(use.node is None or not is_decode_node(use.node) for use in usage.uses(value))
    }
    for path, graph in usage.graphs.items():
        for index in reversed(range(len(graph.node))):
            if is_decode_node(graph.node[index]):
                del graph.node[index]
        # Before IR version 4 initializers are graph inputs too.
        for values in (graph.initializer, graph.input):
            for index in reversed(range(len(values))):
                if Value(path, values[index].name) in payloads - used:
                    del values[index]
        for index in reversed(range(len(graph.value_info))):
            if Value(path, graph.value_info[index].name) in decoded:
                del graph.value_info[index]


class _WeightsFile:
    """A file that threads write to at offsets of their own."""

    def __init__(self, path: Path) -> None:
        self._stream = open(path, "xb", buffering=0)
        self._lock = threading.Lock()

    def __enter__(self) -> _WeightsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def write(self, values: NDArray[Any], offset: int) -> None:
        rest = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        with self._lock:
            self._stream.seek(offset)
            while rest:
                rest = rest[self._stream.write(rest) :]
