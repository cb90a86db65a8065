"""ONNX as one of the model formats that the command line works on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nnc_codec.formats import (
    DEFAULT_LIMITS,
    Kind,
    PackOptions,
    ProgressCallback,
    RunOptions,
    UnpackOptions,
    VerifyOptions,
)
from nnc_codec.limits import Limits
from nnc_codec.report import InspectReport, PackReport, RunReport, UnpackReport, VerifyReport

from .recognise import recognise_onnx
from .update.abilities import OnnxUpdates

if TYPE_CHECKING:
    from nnc_codec.bitstream import Buffer

_MIDDLE = {"pack": ".nnc", "unpack": ".plain"}


class OnnxFormat(OnnxUpdates):
    """Implements :class:`nnc_codec.formats.ModelFormat`."""

    name = "onnx"

    def recognise(self, path: Path) -> Kind | None:
        """Whether `path` is an ONNX model, packed or plain."""
        return recognise_onnx(path)

    def default_output(self, path: Path, operation: Literal["pack", "unpack"]) -> Path:
        """``m.onnx`` -> ``m.nnc.onnx`` -> ``m.plain.onnx``."""
        stem = path.name.removesuffix(".onnx").removesuffix(".nnc")
        return path.with_name(f"{stem}{_MIDDLE[operation]}.onnx")

    def pack(
        self, source: Path, output: Path, options: PackOptions, *, progress: ProgressCallback | None = None
    ) -> PackReport:
        """See :func:`nnc_onnx.pack`."""
        from .packing import pack

        return pack(source, output, options, progress=progress)

    def unpack(
        self, source: Path, output: Path, options: UnpackOptions, *, progress: ProgressCallback | None = None
    ) -> UnpackReport:
        """See :func:`nnc_onnx.unpack`."""
        from .unpacking import unpack

        return unpack(source, output, options, progress=progress)

    def inspect(self, source: Path, *, limits: Limits = DEFAULT_LIMITS) -> InspectReport:
        """See :func:`nnc_onnx.inspect`."""
        from .inspection import inspect

        return inspect(source, limits=limits)

    def verify(self, source: Path, options: VerifyOptions, *, progress: ProgressCallback | None = None) -> VerifyReport:
        """See :func:`nnc_onnx.verify`."""
        from .verification import verify

        return verify(source, options, progress=progress)

    def run(self, source: Path, options: RunOptions) -> RunReport:
        """See :func:`nnc_onnx.run`."""
        from .runtime.running import run

        return run(source, options)

    def bitstreams(self, source: Path) -> Iterator[tuple[str, Buffer]]:
        """See :func:`nnc_onnx.payloads.bitstreams`."""
        from .payloads import bitstreams

        return bitstreams(source)
