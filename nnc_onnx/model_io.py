"""Loading and saving ONNX models of any size.

Weights above protobuf's 2 GiB live in external data files. They are mapped, never loaded into the ModelProto,
and written tensor by tensor.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from nnc_codec.files import access_error, atomic_writer, require_readable, require_writable

from .compact import restore
from .errors import InvalidModelError
from .graph.walk import iter_graphs
from .model_head import model_bytes, read_head
from .tensors import external_files

if TYPE_CHECKING:
    import onnx
    from typing_extensions import Buffer

ALIGNMENT = 64 << 10
"""Offset granularity of external data: the largest page size in use, so that every tensor can be mapped."""

SMALL_ALIGNMENT = 4 << 10
"""The same for tensors below :data:`ALIGNMENT` bytes, where gaps would cost more than mapping gains."""

EXTERNAL_THRESHOLD = 1 << 30
"""Bytes of tensors above which they are stored beside the model instead of inside."""

_MAX_PROTOBUF = (1 << 31) - 1
_BLOCK = 1 << 20


class Model(NamedTuple):
    """A loaded model.

    Attributes:
        proto: the ModelProto, without the values of external tensors.
        folder: where external data are looked for.
        path: file it came from.
        files: all files of the model.
    """

    proto: onnx.ModelProto
    folder: Path
    path: Path
    files: tuple[Path, ...]

    @property
    def nbytes(self) -> int:
        """Size of all files."""
        return sum(file.stat().st_size for file in self.files)


def all_tensors(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Every TensorProto of the main graph and its subgraphs: initializers and tensor attributes."""
    from onnx import AttributeProto

    found: list[onnx.TensorProto] = []
    for _, graph in iter_graphs(proto.graph):
        found.extend(graph.initializer)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.TENSOR:
                    found.append(attribute.t)
                elif attribute.type == AttributeProto.TENSORS:
                    found.extend(attribute.tensors)
    return found


def load(path: str | Path) -> Model:
    """Read an ONNX model, its graph as it was before it was made compact; external data stay on disk.

    Raises:
        FileAccessError: the file cannot be read.
        TruncatedModelError: it ends too early.
        InvalidModelError: it is no ONNX model.
        ExternalDataError: an external file is missing or outside the model's folder.
        CarriageError: the table of names of a packed model is damaged.
    """
    checked = require_readable(path)
    try:
        if checked.stat().st_size > _MAX_PROTOBUF:
            raise InvalidModelError(f"{checked} is larger than the 2 GiB that protobuf can hold")
        # Protobuf accepts a message cut between two fields, so the outer fields are looked at first.
        with model_bytes(checked) as data:
            head = read_head(data)
        if head.is_ort_format:
            raise InvalidModelError(f"{checked} is in onnxruntime's own format, not ONNX")
        proto = parse(checked.read_bytes(), str(checked))
    except OSError as error:
        raise access_error(error, checked, "read") from error
    restore(proto)
    files = (checked, *external_files(all_tensors(proto), checked.parent))
    return Model(proto, checked.parent, checked, files)


def parse(data: bytes, what: str = "model") -> onnx.ModelProto:
    """Parse a serialized ModelProto.

    Raises:
        InvalidModelError: it is none.
    """
    import onnx
    from google.protobuf.message import DecodeError

    proto: onnx.ModelProto
    try:
        proto = onnx.ModelProto.FromString(data)
    except (DecodeError, RuntimeError) as error:
        raise InvalidModelError(f"{what} is damaged or not an ONNX model: {error}") from error
    if not proto.HasField("graph"):
        raise InvalidModelError(f"{what} is not an ONNX model: it has no graph")
    return proto


class ExternalWriter:
    """Appends tensors to one external data file at aligned offsets."""

    def __init__(self, stream: BinaryIO, location: str) -> None:
        self._stream = stream
        self._location = location

    def add(self, tensor: onnx.TensorProto, data: Buffer) -> None:
        """Write `data` and make `tensor` refer to it."""
        from onnx import TensorProto

        view = memoryview(data).cast("B")
        alignment = ALIGNMENT if view.nbytes >= ALIGNMENT else SMALL_ALIGNMENT
        offset = -(-self._stream.tell() // alignment) * alignment
        self._stream.seek(offset)
        self._write(view)
        tensor.ClearField("raw_data")
        del tensor.external_data[:]
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self._location), ("offset", offset), ("length", view.nbytes)):
            tensor.external_data.add(key=key, value=str(value))

    def _write(self, view: memoryview) -> None:
        """Write `view`; blocks of zeros become holes, so that a sparse file stays sparse."""
        for start in range(0, view.nbytes, _BLOCK):
            block = view[start : start + _BLOCK]
            if np.frombuffer(block, np.uint8).any():
                self._stream.write(block)
            else:
                self._stream.seek(block.nbytes, os.SEEK_CUR)
        self._stream.truncate(self._stream.tell())


def external_file_of(path: Path) -> Path:
    """Where the external data of the model `path` are written."""
    return path.with_name(path.name + ".data")


def embed(tensor: onnx.TensorProto, data: Buffer) -> None:
    """Give `tensor` its values inside the model."""
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    tensor.raw_data = memoryview(data).cast("B").tobytes()


def written_bytes(path: Path, *, external: bool) -> int:
    """Size of a model just written, with its external data file."""
    files = [path, external_file_of(path)] if external else [path]
    return sum(file.stat().st_size for file in files)


class ModelWriter:
    """Collects a model's files; see :func:`model_writer`."""

    def __init__(self, stream: BinaryIO, external: ExternalWriter | None) -> None:
        self._stream = stream
        self._external = external

    @property
    def is_external(self) -> bool:
        """Whether tensor values go to an external file."""
        return self._external is not None

    def put(self, tensor: onnx.TensorProto, data: Buffer) -> None:
        """Give `tensor` its values: in the external file if there is one, else embedded."""
        if self._external is not None:
            self._external.add(tensor, data)
        else:
            embed(tensor, data)

    def finish(self, proto: onnx.ModelProto) -> None:
        """Write the ModelProto.

        Raises:
            InvalidModelError: it is too large for protobuf.
        """
        if proto.ByteSize() > _MAX_PROTOBUF:
            raise InvalidModelError("the model without external data is larger than 2 GiB")
        self._stream.write(proto.SerializeToString(deterministic=True))


@contextlib.contextmanager
def model_writer(path: Path, *, external: bool, force: bool) -> Iterator[ModelWriter]:
    """Write a model, and its external data file first, so that nothing refers to bytes that are not there.

    Raises:
        OutputExistsError, FileAccessError: as :func:`nnc_codec.files.atomic_writer`.
    """
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(atomic_writer(path, force=force))
        writer = None
        if external:
            data = external_file_of(path)
            writer = ExternalWriter(stack.enter_context(atomic_writer(data, force=force)), data.name)
        yield ModelWriter(stream, writer)


def check_output(path: Path, *, source: Path | None, external: bool | None, force: bool) -> None:
    """Refuse an output that is the input, or exists without `force`, before any work is done.

    Raises:
        OutputExistsError, FileAccessError: as :func:`nnc_codec.files.require_writable`.
        InvalidArgumentError: output and input are the same file.
    """
    from nnc_codec.errors import InvalidArgumentError

    require_writable(path, force=force)
    if external is not False:
        data = external_file_of(path)
        if external or data.exists():
            require_writable(data, force=force)
    if source is not None and path.exists() and path.samefile(source):
        raise InvalidArgumentError(f"output {path} is the input", hint="models are never changed in place")
