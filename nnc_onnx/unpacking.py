"""Unpacking: the plain model with decoded values, its initializers in their old order."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnc_codec.errors import InvalidArgumentError
from nnc_codec.formats import Progress, ProgressCallback, UnpackOptions
from nnc_codec.report import UnpackReport

from . import carriage
from .compact import restore
from .compact.constants import constant_node
from .graph.node_order import insert_nodes, replace_nodes
from .graph.usage import Usage, Value
from .graph.walk import GraphPath
from .model_io import EXTERNAL_THRESHOLD, Model, all_tensors, check_output, embed, load, model_writer, written_bytes
from .payloads import Entries, PackedTensor, check_digest, decode_payload, manifest_of, packed_tensors, read_payload
from .tensors import is_external, raw_tensor, read_bytes, stored_nbytes

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray
    from typing_extensions import Buffer


def unpack(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: UnpackOptions | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> UnpackReport:
    """Write the plain ONNX model that a packed one stands for.

    Args:
        source: packed ONNX file.
        output: ONNX file to write; with external data also ``<output>.data``.
        options: where the weights go, threads, limits.
        progress: called after every tensor.

    Raises:
        FileAccessError, OutputExistsError, InvalidModelError, TruncatedModelError, ExternalDataError:
            bad files.
        InvalidArgumentError: the model is not packed.
        CarriageError, UnsupportedCarriageError, NNRError: a tensor cannot be decoded; nothing is written.
    """
    start = time.perf_counter()
    options = options or UnpackOptions()
    source, output = Path(source), Path(output)
    model = load(source)
    check_output(output, source=source, external=options.external_data, force=options.force)
    packed_bytes = model.nbytes
    tensors, usage = _tensors(model, str(source))
    external = options.external_data
    if external is None:
        others = sum(stored_nbytes(tensor) for tensor in all_tensors(model.proto))
        external = sum(tensor.decode.nbytes for tensor in tensors) + others > EXTERNAL_THRESHOLD
    with model_writer(output, external=external, force=options.force) as writer:
        # A Constant node cannot have external data in onnxruntime.
        _restore(model, usage, tensors, writer.put, not writer.is_external, options, progress)
        writer.finish(model.proto)
    return UnpackReport(
        format="onnx",
        source=str(source),
        output=str(output),
        seconds=time.perf_counter() - start,
        packed_bytes=packed_bytes,
        unpacked_bytes=written_bytes(output, external=external),
        tensors=len(tensors),
    )


def unpack_model(
    model: onnx.ModelProto, options: UnpackOptions | None = None, *, folder: str | os.PathLike[str] = "."
) -> onnx.ModelProto:
    """The plain model that a packed one in memory stands for.

    Args:
        model: stays as it is.
        options: threads and limits; weights are embedded whatever `external_data` says.
        folder: where external data of `model` are looked for.

    Raises:
        InvalidArgumentError: the model is not packed.
        CarriageError, UnsupportedCarriageError, ExternalDataError, NNRError: a tensor cannot be decoded.
    """
    copied = type(model)()
    copied.CopyFrom(model)
    restore(copied)
    loaded = Model(copied, Path(folder), Path(), ())
    tensors, usage = _tensors(loaded, "the model")
    _restore(loaded, usage, tensors, embed, True, options or UnpackOptions(), None)
    return copied


def _tensors(model: Model, name: str) -> tuple[list[PackedTensor], Usage]:
    if carriage.check_format(model.proto) is None:
        raise InvalidArgumentError(f"{name} is not packed", hint="there is nothing to unpack")
    usage = Usage(model.proto.graph)
    return list(packed_tensors(usage)), usage


def _restore(
    model: Model,
    usage: Usage,
    tensors: list[PackedTensor],
    put: Callable[[onnx.TensorProto, Buffer], None],
    with_constants: bool,
    options: UnpackOptions,
    progress: ProgressCallback | None,
) -> None:
    entries = Entries(manifest_of(model.proto))
    payloads = {Value(tensor.home, tensor.payload.name) for tensor in tensors}
    for path, graph in usage.graphs.items():
        for plain in graph.initializer:
            if is_external(plain) and Value(path, plain.name) not in payloads:
                put(plain, read_bytes(plain, model.folder).data)

    # Decoded values replace decode nodes one by one, so that only a few of them are in memory at a time.
    restored: defaultdict[GraphPath, list[tuple[PackedTensor, onnx.TensorProto]]] = defaultdict(list)
    total = sum(tensor.decode.nbytes for tensor in tensors)
    done = 0
    for tensor, values in _decoded(tensors, entries, model, options):
        decode = tensor.decode
        proto = raw_tensor(decode.output, decode.element.onnx_type, decode.shape, None)
        if tensor.payload.doc_string:
            proto.doc_string = tensor.payload.doc_string
        put(proto, np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        restored[tensor.path].append((tensor, proto))
        done += decode.nbytes
        if progress is not None:
            progress(Progress(what=decode.output, done=done, total=total))

    names: defaultdict[GraphPath, set[str]] = defaultdict(set)
    for payload in payloads:
        names[payload.path].add(payload.name)
    for path in sorted(usage.graphs, key=len, reverse=True):
        if path in restored or path in names:
            _rebuild(usage.graphs[path], restored[path], names[path], entries, with_constants)
    unmark(model.proto)


def _decoded(
    tensors: list[PackedTensor],
    entries: Entries,
    model: Model,
    options: UnpackOptions,
) -> Iterator[tuple[PackedTensor, NDArray[np.generic]]]:
    """All tensors in order, decoded by several threads that run only a few tensors ahead."""

    def decode(tensor: PackedTensor) -> NDArray[np.generic]:
        payload = read_payload(tensor, model)
        entry = entries.find(tensor.decode)
        if entry is not None:
            check_digest(tensor, model, entry.sha256)
        return decode_payload(tensor, payload, options.limits)

    workers = options.jobs or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as executor:
        waiting = iter(tensors)
        running = [(tensor, executor.submit(decode, tensor)) for tensor in islice(waiting, workers)]
        try:
            while running:
                tensor, future = running.pop(0)
                yield tensor, future.result()
                running.extend((later, executor.submit(decode, later)) for later in islice(waiting, 1))
        finally:
            for _, future in running:
                future.cancel()


def _rebuild(
    graph: onnx.GraphProto,
    restored: list[tuple[PackedTensor, onnx.TensorProto]],
    payload_names: set[str],
    entries: Entries,
    with_constants: bool,
) -> None:
    """Take decode nodes and payloads out of one graph and put the plain tensors in."""
    protos = {tensor.decode.output: proto for tensor, proto in restored}
    initializers: list[tuple[int, onnx.TensorProto]] = []
    constants: list[tuple[int, onnx.NodeProto]] = []
    last = len(graph.initializer) + len(restored)
    for tensor, proto in restored:
        entry = entries.find(tensor.decode)
        if entry is not None and entry.origin == "constant" and with_constants:
            output, proto.name = proto.name, proto.name if entry.inner is None else entry.inner
            if not proto.name:
                proto.ClearField("name")
            constants.append((entry.position, constant_node(output, entry.node or tensor.node_name, proto)))
        else:
            from_initializer = entry is not None and entry.origin == "initializer"
            initializers.append((entry.position if entry is not None and from_initializer else last, proto))
    nodes = insert_nodes([node for node in graph.node if not carriage.is_decode_node(node)], constants)
    kept = [tensor for tensor in graph.initializer if tensor.name not in payload_names]
    # In ascending order every tensor lands where it was, because all before it are back already.
    for position, proto in sorted(initializers, key=lambda item: item[0]):
        kept.insert(position, proto)
    information = [value for value in graph.value_info if value.name not in protos]
    replace_nodes(graph, nodes)
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)
    graph.value_info.extend(information)


def unmark(model: onnx.ModelProto) -> None:
    """Remove what made the model a packed one."""
    ours = (carriage.FORMAT_KEY, carriage.CODEC_KEY, carriage.MANIFEST_KEY)
    metadata = [entry for entry in model.metadata_props if entry.key not in ours]
    opsets = [entry for entry in model.opset_import if entry.domain != carriage.DOMAIN]
    del model.metadata_props[:], model.opset_import[:]
    model.metadata_props.extend(metadata)
    model.opset_import.extend(opsets)
