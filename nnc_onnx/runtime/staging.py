"""A packed model made ready for onnxruntime in a temporary folder: some weights as constants, the others still coded.

Decoded weights lie in an external-data file that onnxruntime maps, so a session made from it needs the memory of a
plain model with external data; handing decoded arrays to a session instead would hold every weight twice. Payloads of
tensors that stay coded lie in the same file, where they cost no memory until they are read.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnc_codec.files import FileAccessError, access_error
from nnc_codec.limits import Limits

from ..graph.usage import Usage, Value
from ..graph.walk import iter_graphs
from ..model_io import Model
from ..payloads import packed_tensors
from ..tensors import external_files, stored_nbytes
from .skeleton import lies_in
from .stage import DEFAULT_LIMITS, Stage, Substitute
from .weights_file import WeightsFile

if TYPE_CHECKING:
    import onnx

MOST_EMBEDDED = 4 << 20
"""Bytes of constants that a model may have inside, where onnxruntime holds them twice while it loads."""

MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "weights.bin"

Rewrite = Callable[["onnx.ModelProto"], None]
"""Changes the graph of a staged model in place, after its constants have replaced their decode nodes."""


@contextlib.contextmanager
def staged(
    model: Model,
    constants: Collection[Value] | None = None,
    *,
    rewrites: Sequence[Rewrite] = (),
    substitutes: Sequence[Substitute] = (),
    limits: Limits = DEFAULT_LIMITS,
    jobs: int = 0,
) -> Iterator[Path]:
    """Path of `model` with decoded `constants`; folder and files go when the block ends.

    The folder is made where :mod:`tempfile` makes its folders (``TMPDIR``) and needs room for the decoded weights
    and the payloads of the others.

    Args:
        model: a packed model, changed in place.
        constants: the tensors that become initializers; ``None`` means all. Members of groups always do.
        rewrites: further changes of the graph, in this order.
        substitutes: what takes the place of constants that become something else.
        limits: bounds of the decoder.
        jobs: decoding threads, each holding one decoded tensor; 0 means one per processor, at most eight.

    Raises:
        FileAccessError: the temporary folder cannot be written.
        CarriageError: a payload is not the one the model was written with, or is missing.
        NNRError: a payload cannot be decoded.
    """
    folder = _make_folder()
    try:
        stage = Stage(model, WEIGHTS_FILE, constants, substitutes, limits)
        try:
            with WeightsFile(folder / WEIGHTS_FILE) as weights:
                stage.write(weights, jobs)
            for rewrite in rewrites:
                rewrite(model.proto)
            (folder / MODEL_FILE).write_bytes(model.proto.SerializeToString(deterministic=True))
        except OSError as error:
            raise access_error(error, folder, "write") from error
        yield folder / MODEL_FILE
    finally:
        # Where mapped files cannot be removed (Windows) the folder stays until TMPDIR is cleaned.
        shutil.rmtree(folder, ignore_errors=True)


def in_place(
    model: Model, constants: Collection[Value], constant_bytes: int, rewrites: Sequence[Rewrite] = ()
) -> bytes | None:
    """`model` with decoded `constants` and everything else but payloads inside; payloads stay where they are.

    onnxruntime maps them from the model's files, so they cost no memory until they are read, and nothing is copied.

    Args:
        model: a packed model as :func:`read_skeleton` reads it, changed in place unless the answer is ``None``.
        constants: the tensors that become initializers. Members of groups always do.
        constant_bytes: size of `constants`.
        rewrites: further changes of the graph, in this order.

    Returns:
        The serialized model; ``None`` if more than :data:`MOST_EMBEDDED` bytes would lie inside.

    Raises:
        CarriageError: a payload is not the one the model was written with, or is missing.
        NNRError: a payload cannot be decoded.
    """
    usage = Usage(model.proto.graph)
    payloads: set[Value] = set()
    embedded = constant_bytes
    for tensor in packed_tensors(usage):
        payloads.add(Value(tensor.home, tensor.payload.name))
        embedded += tensor.decode.nbytes if tensor.decode.member is not None else 0
    for path, graph in usage.graphs.items():
        for initializer in graph.initializer:
            if Value(path, initializer.name) not in payloads and lies_in(initializer, model.path.name):
                embedded += stored_nbytes(initializer)
    if embedded > MOST_EMBEDDED:
        return None
    Stage(model, "", constants, in_place=True).write(None)
    for rewrite in rewrites:
        rewrite(model.proto)
    return bytes(model.proto.SerializeToString(deterministic=True))


@contextlib.contextmanager
def linked(model: Model, data: bytes) -> Iterator[Path | None]:
    """Path of the model `data` that :func:`in_place` made of `model`, next to links to the files it refers to.

    onnxruntime looks for external data beside a model only. ``None`` if the files cannot be linked, because they are
    on another file system, for example.

    Raises:
        FileAccessError: the temporary folder cannot be written.
    """
    folder = _make_folder()
    try:
        yield _link(model, data, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _link(model: Model, data: bytes, folder: Path) -> Path | None:
    path = folder / MODEL_FILE
    try:
        tensors = [tensor for _, graph in iter_graphs(model.proto.graph) for tensor in graph.initializer]
        for file in external_files(tensors, model.folder):
            if file.parent != model.folder or file.name == MODEL_FILE:
                return None
            os.link(file, folder / file.name, follow_symlinks=False)
        path.write_bytes(data)
    except (OSError, NotImplementedError):
        return None
    return path


def _make_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="onnx-nnc-"))
    except OSError as error:
        raise FileAccessError(
            f"no temporary folder: {error}", hint="set TMPDIR to a folder with room for the weights"
        ) from error
