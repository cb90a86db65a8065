"""Shells: the graph of a packed model as a standard ONNX model whose weights somebody else decodes.

A shell refers to one external-data file that is not written. Runtimes that take such files from memory get its bytes
from any NNR decoder: onnxruntime-web as ``externalData: [{path, data}]``, onnxruntime through
``SessionOptions.add_external_initializers_from_files_in_memory``. The initializers of the shell say which tensor lies
where; their names are those of the decoded tensors.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnc_codec.errors import InvalidArgumentError
from nnc_codec.files import write_atomic
from nnc_codec.formats import UnpackOptions
from nnc_codec.report import UnpackReport

from .. import carriage
from ..compact import restore
from ..graph.usage import Usage
from ..model_io import check_output, external_file_of
from ..payloads import packed_tensors
from ..unpacking import unmark
from .skeleton import read_skeleton
from .stage import Stage
from .weights_file import WeightsMemory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..model_io import Model


def unpack_shell(
    source: str | os.PathLike[str], output: str | os.PathLike[str], options: UnpackOptions | None = None
) -> UnpackReport:
    """Write the graph of a packed model; its weights would lie in ``<output>.data``.

    Args:
        source: packed ONNX file.
        output: ONNX file to write. Values of fewer than 4 KiB are embedded.
        options: `force` and `limits` count.

    Raises:
        FileAccessError, OutputExistsError, InvalidModelError, TruncatedModelError: bad files.
        InvalidArgumentError: the model is not packed.
        CarriageError, UnsupportedCarriageError, NNRError: the model is damaged; nothing is written.
    """
    start = time.perf_counter()
    options = options or UnpackOptions()
    source, output = Path(source), Path(output)
    check_output(output, source=source, external=False, force=options.force)
    model = _packed_model(source)
    tensors = len(list(packed_tensors(Usage(model.proto.graph))))
    stage = Stage(model, external_file_of(output).name, limits=options.limits)
    stage.write(None)
    unmark(model.proto)
    data = model.proto.SerializeToString(deterministic=True)
    write_atomic(output, data, force=options.force)
    note = f"{external_file_of(output).name} of {stage.nbytes} bytes is not written: the runtime brings the weights"
    return UnpackReport(
        format="onnx",
        source=str(source),
        output=str(output),
        seconds=time.perf_counter() - start,
        notes=(note,),
        packed_bytes=source.stat().st_size,
        unpacked_bytes=len(data),
        tensors=tensors,
    )


def shell_weights(source: str | os.PathLike[str], options: UnpackOptions | None = None) -> NDArray[np.uint8]:
    """The bytes of the external-data file that a shell of `source` refers to.

    Args:
        source: packed ONNX file.
        options: `jobs` and `limits` count.

    Returns:
        uint8 array, one-dimensional.

    Raises:
        FileAccessError, InvalidModelError, TruncatedModelError, ExternalDataError: bad files.
        InvalidArgumentError: the model is not packed.
        CarriageError, UnsupportedCarriageError, NNRError: a tensor cannot be decoded.
    """
    options = options or UnpackOptions()
    stage = Stage(_packed_model(Path(source)), "", limits=options.limits)
    weights = WeightsMemory(stage.nbytes)
    stage.write(weights, options.jobs)
    return weights.data


def _packed_model(source: Path) -> Model:
    model = read_skeleton(source)
    if carriage.check_format(model.proto) is None:
        raise InvalidArgumentError(f"{source} is not packed", hint="there is nothing to unpack")
    restore(model.proto)
    return model
