"""The model formats as the commands see them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnc_codec.formats import Kind, ModelFormat


def recognise(path: Path) -> tuple[ModelFormat, Kind]:
    """The format of `path` and whether it is packed.

    ONNX and NNR files are at home here; all others are installed through entry points, so that this package
    needs none of them.

    Raises:
        FileAccessError, UnknownFormatError: as :func:`nnc_codec.formats.recognise`.
    """
    from nnc_codec import formats
    from nnc_onnx.format import OnnxFormat
    from nnc_onnx.nnr.format import NnrFormat

    formats.register(OnnxFormat())
    formats.register(NnrFormat())
    return formats.recognise(path)
