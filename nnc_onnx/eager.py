"""Eager mode: a packed model as a plain one in a temporary folder, its weights in an external-data file.

onnxruntime maps that file, so a session made from it needs the memory of a plain model with external data;
handing decoded arrays to a session instead would hold every weight twice.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc_codec.files import FileAccessError, access_error
from nnc_codec.limits import Limits

from .carriage import DOMAIN, DecodeNode, is_decode_node, read_node
from .errors import CarriageError
from .model_io import ALIGNMENT, load, parse
from .tensors import is_external, raw_tensor, read_bytes, to_array
from .walk import iter_graphs, node_inputs, subgraphs

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

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
        model, beside = parse(source), Path()
    else:
        loaded = load(Path(source))
        model, beside = loaded.proto, loaded.folder
    expansion = _Expansion(model, Path(base_dir) if base_dir is not None else beside, limits)
    try:
        with _WeightsFile(folder / WEIGHTS_FILE) as weights, ThreadPoolExecutor(jobs) as executor:
            expansion.write(weights, executor)
        (folder / MODEL_FILE).write_bytes(model.SerializeToString())
    except OSError as error:
        raise access_error(error, folder, "write") from error


class _Expansion:
    """Turns the decode nodes of `model` into external initializers and writes their values."""

    def __init__(self, model: onnx.ModelProto, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._end = 0
        self._decoded: list[tuple[DecodeNode, onnx.TensorProto, int]] = []
        self._moved: list[tuple[onnx.TensorProto, int]] = []
        self._replace_nodes(model.graph, {})
        _drop_payloads(model, {decode.payload for decode, _, _ in self._decoded})
        self._move_external(model)
        _drop_opset(model)

    def write(self, weights: _WeightsFile, executor: ThreadPoolExecutor) -> None:
        for tensor, offset in self._moved:
            weights.write(read_bytes(tensor, self._folder), offset)

        def write_decoded(item: tuple[DecodeNode, onnx.TensorProto, int]) -> None:
            decode, payload, offset = item
            weights.write(self._decode(decode, payload), offset)

        for _ in executor.map(write_decoded, self._decoded):
            pass

    def _replace_nodes(self, graph: onnx.GraphProto, outer: dict[str, onnx.TensorProto]) -> None:
        visible = {**outer, **{tensor.name: tensor for tensor in graph.initializer}}
        kept, outputs = [], set()
        for node in graph.node:
            if not is_decode_node(node):
                for _, body in subgraphs(node):
                    self._replace_nodes(body, visible)
                kept.append(node)
                continue
            decode = read_node(node)
            payload = visible.get(decode.payload)
            if payload is None:
                raise CarriageError(
                    f"payload {decode.payload!r} is not an initializer",
                    tensor=decode.output,
                    hint="use mode='lazy'",
                )
            tensor = raw_tensor(decode.output, decode.element.onnx_type, decode.shape, None)
            self._decoded.append((decode, _copy(payload), self._place(tensor, decode.nbytes)))
            graph.initializer.append(tensor)
            outputs.add(decode.output)
        if outputs:
            info = [value for value in graph.value_info if value.name not in outputs]
            del graph.node[:], graph.value_info[:]
            graph.node.extend(kept)
            graph.value_info.extend(info)

    def _move_external(self, model: onnx.ModelProto) -> None:
        # Newer onnxruntimes read external data beside the model only, so what is external already moves.
        decoded = {decode.output for decode, _, _ in self._decoded}
        for _, graph in iter_graphs(model.graph):
            for tensor in graph.initializer:
                if is_external(tensor) and tensor.name not in decoded:
                    source = _copy(tensor)
                    nbytes = read_bytes(source, self._folder).nbytes
                    self._moved.append((source, self._place(tensor, nbytes)))

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

    def _decode(self, decode: DecodeNode, payload: onnx.TensorProto) -> NDArray[Any]:
        from nnc_codec import decode_single

        data = to_array(payload, self._folder)
        if data.dtype != np.uint8:
            raise CarriageError(f"payload {payload.name!r} is not of type uint8", tensor=decode.output)
        crc = zlib.crc32(data.data)
        if crc != decode.crc32:
            raise CarriageError(
                f"the CRC-32 of the payload is {crc:#010x}, the model says {decode.crc32:#010x}; "
                "the model file is damaged",
                tensor=decode.output,
            )
        values: NDArray[Any] = decode_single(data, decode.element.dtype, decode.shape, limits=self._limits)
        return values


def _copy(tensor: onnx.TensorProto) -> onnx.TensorProto:
    copied = type(tensor)()
    copied.CopyFrom(tensor)
    return copied


def _drop_payloads(model: onnx.ModelProto, payloads: set[str]) -> None:
    used: set[str] = set()
    for _, graph in iter_graphs(model.graph):
        used.update(value.name for value in graph.output)
        for node in graph.node:
            used.update(node_inputs(node))
    for _, graph in iter_graphs(model.graph):
        for index in reversed(range(len(graph.initializer))):
            name = graph.initializer[index].name
            if name in payloads and name not in used:
                del graph.initializer[index]


def _drop_opset(model: onnx.ModelProto) -> None:
    for index in reversed(range(len(model.opset_import))):
        if model.opset_import[index].domain == DOMAIN:
            del model.opset_import[index]


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
