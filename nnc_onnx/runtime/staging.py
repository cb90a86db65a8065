"""A packed model made ready for onnxruntime in a temporary folder: some weights as constants, the others still coded.

Decoded weights lie in an external-data file that onnxruntime maps, so a session made from it needs the memory of a
plain model with external data; handing decoded arrays to a session instead would hold every weight twice. Payloads of
tensors that stay coded lie in the same file, where they cost no memory until they are read.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnc_codec.files import FileAccessError, access_error
from nnc_codec.limits import Limits

from ..graph.usage import Value
from ..model_io import Model
from .stage import DEFAULT_LIMITS, Stage, Substitute
from .weights_file import WeightsFile

if TYPE_CHECKING:
    import onnx

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


def _make_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="onnx-nnc-"))
    except OSError as error:
        raise FileAccessError(
            f"no temporary folder: {error}", hint="set TMPDIR to a folder with room for the weights"
        ) from error
