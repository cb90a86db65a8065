"""An NNR file back into an ONNX model, or into bare arrays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc_codec.bitstream import Bitstream
from nnc_codec.errors import InvalidArgumentError, LimitExceededError
from nnc_codec.files import require_writable
from nnc_codec.formats import Progress, ProgressCallback, UnpackOptions
from nnc_codec.limits import Limits
from nnc_codec.npz import write_npz
from nnc_codec.report import UnpackReport
from nnc_codec.syntax.enums import PayloadType

from ..carriage import BY_ONNX_TYPE, ElementType
from ..errors import CarriageError
from ..hollow import clear_values, hollow_tensors
from ..model_io import EXTERNAL_THRESHOLD, all_tensors, check_output, model_writer, written_bytes
from ..tensors import element_count, stored_nbytes
from .layout import NnrFile, check_units, read_nnr, record_of, remove_record

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

NPZ_SUFFIX = ".npz"


class Hole(NamedTuple):
    """A hollow tensor of a model and what fills it.

    Attributes:
        tensor: the TensorProto.
        name: of the tensor in the bitstream.
        element: element type of the model's tensor.
        shape: of the model's tensor.
    """

    tensor: onnx.TensorProto
    name: str
    element: ElementType
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the plain tensor."""
        return element_count(self.tensor) * self.element.dtype.itemsize


def holes_of(proto: onnx.ModelProto, bitstream: Bitstream, limits: Limits) -> list[Hole]:
    """Every hollow tensor of a model, after it was compared with the headers in the bitstream.

    Raises:
        CarriageError: a tensor is not in the bitstream, or has another shape or kind of values there.
        ExternalDataError, InvalidModelError: the model is impossible.
        LimitExceededError: more elements than ``limits.max_total_elements``.
    """
    holes = []
    elements = 0
    for tensor, name in hollow_tensors(proto, bitstream.keys()):
        element = BY_ONNX_TYPE.get(tensor.data_type)
        coded = bitstream.get(name)
        if coded is None:
            raise CarriageError("the bitstream has no data unit for it", tensor=name)
        shape = tuple(tensor.dims)
        if coded.shape != (shape or (1,)):
            raise CarriageError(f"the bitstream has shape {coded.shape}, the model {shape}", tensor=name)
        if element is None or element.is_float == (coded.payload_type == PayloadType.NNR_PT_INT):
            raise CarriageError("the bitstream has another kind of values than the model", tensor=name)
        # Several tensors may share a data unit, so the bitstream's own limit does not bound the model.
        elements += coded.size
        if elements > limits.max_total_elements:
            raise LimitExceededError("the model has more elements than Limits.max_total_elements", tensor=name)
        holes.append(Hole(tensor, name, element, shape))
    return holes


def unpack_nnr(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: UnpackOptions | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> UnpackReport:
    """Write the ONNX model in an NNR file with the decoded values, or, into ``.npz``, its tensors alone.

    Args:
        source: NNR file.
        output: ONNX file to write, with external data also ``<output>.data``; or a file whose name ends in ``.npz``.
        options: where the weights go, threads, limits.
        progress: called after every tensor.

    Raises:
        FileAccessError, OutputExistsError: bad files.
        InvalidArgumentError: the file carries no model, or is an update.
        UnsupportedError: it carries a model of another kind.
        CarriageError, NNRError: a tensor cannot be decoded; nothing is written.
    """
    start = time.perf_counter()
    options = options or UnpackOptions()
    output = Path(output)
    file = read_nnr(Path(source), options.limits)
    if output.suffix == NPZ_SUFFIX:
        notes, tensors = _unpack_arrays(file, output, options, progress)
        unpacked_bytes = output.stat().st_size
    else:
        notes, tensors, unpacked_bytes = _unpack_model(file, output, options, progress)
    return UnpackReport(
        format="nnr",
        source=str(source),
        output=str(output),
        seconds=time.perf_counter() - start,
        notes=notes,
        packed_bytes=file.bitstream.nbytes,
        unpacked_bytes=unpacked_bytes,
        tensors=tensors,
    )


def _unpack_model(
    file: NnrFile, output: Path, options: UnpackOptions, progress: ProgressCallback | None
) -> tuple[tuple[str, ...], int, int]:
    proto = file.model("unpacking")
    check_units(file.bitstream, record_of(proto))
    check_output(output, source=file.path, external=options.external_data, force=options.force)
    holes = holes_of(proto, file.bitstream, options.limits)
    external = options.external_data
    if external is None:
        hollow = {id(hole.tensor) for hole in holes}
        others = sum(stored_nbytes(tensor) for tensor in all_tensors(proto) if id(tensor) not in hollow)
        external = sum(hole.nbytes for hole in holes) + others > EXTERNAL_THRESHOLD
    remove_record(proto)
    with model_writer(output, external=external, force=options.force) as writer:
        for hole, values in decoded(file.bitstream, holes, options.jobs, progress):
            clear_values(hole.tensor)
            writer.put(hole.tensor, np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        writer.finish(proto)
    left = file.bitstream.keys() - {hole.name for hole in holes}
    notes = (f"{len(left)} tensors of the bitstream are not in its model, e.g. {min(left)}",) if left else ()
    return notes, len(holes), written_bytes(output, external=external)


def decoded(
    bitstream: Bitstream, holes: Sequence[Hole], jobs: int, progress: ProgressCallback | None
) -> Iterator[tuple[Hole, NDArray[Any]]]:
    """The values of all holes in order, decoded by several threads that run only a few tensors ahead."""

    def decode(hole: Hole) -> NDArray[Any]:
        return bitstream[hole.name].decode(dtype=hole.element.dtype).reshape(hole.shape)

    workers = jobs or os.cpu_count() or 1
    total, done = sum(hole.nbytes for hole in holes), 0
    with ThreadPoolExecutor(workers) as executor:
        waiting = iter(holes)
        running = [(hole, executor.submit(decode, hole)) for hole in islice(waiting, workers)]
        try:
            while running:
                hole, future = running.pop(0)
                yield hole, future.result()
                done += hole.nbytes
                if progress is not None:
                    progress(Progress(what=hole.name, done=done, total=total))
                running.extend((later, executor.submit(decode, later)) for later in islice(waiting, 1))
        finally:
            for _, future in running:
                future.cancel()


def _unpack_arrays(
    file: NnrFile, output: Path, options: UnpackOptions, progress: ProgressCallback | None
) -> tuple[tuple[str, ...], int]:
    require_writable(output, force=options.force)
    if not file.bitstream:
        raise InvalidArgumentError(f"{file.path} holds no tensors")
    total, done = sum(tensor.size for tensor in file.bitstream.values()), 0

    def arrays() -> Iterator[tuple[str, NDArray[Any]]]:
        nonlocal done
        for unit in file.bitstream.data_units():
            for name, values in unit[0].decode_unit().items():
                yield name, values
                done += values.size
                if progress is not None:
                    progress(Progress(what=name, done=done, total=total))

    write_npz(output, arrays(), force=options.force)
    notes = ("the values are differences to a base model",) if file.is_update else ()
    return notes, len(file.bitstream)
