"""NNR files as one of the model formats that the command line works on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nnc_codec.formats import (
    DEFAULT_LIMITS,
    ConvertOptions,
    Kind,
    PackOptions,
    ProgressCallback,
    RunOptions,
    UnpackOptions,
    VerifyOptions,
)
from nnc_codec.limits import Limits
from nnc_codec.report import ConvertReport, InspectReport, PackReport, RunReport, UnpackReport, VerifyReport

from ..update.abilities import OnnxUpdates
from .layout import SUFFIX, recognise_nnr

if TYPE_CHECKING:
    from nnc_codec.bitstream import Buffer


class NnrFormat(OnnxUpdates):
    """Implements :class:`nnc_codec.formats.ModelFormat` and :class:`nnc_codec.formats.Converter`."""

    name = "nnr"
    suffix = SUFFIX
    conversions = frozenset({("onnx", "nnr"), ("nnr", "onnx")})

    def recognise(self, path: Path) -> Kind | None:
        """Whether `path` is an NNR bitstream."""
        return recognise_nnr(path)

    def default_output(self, path: Path, operation: Literal["pack", "unpack"]) -> Path:
        """``m.onnx`` -> ``m.nnr`` -> ``m.plain.onnx``."""
        stem = path.name.removesuffix(SUFFIX).removesuffix(".onnx").removesuffix(".nnc")
        return path.with_name(stem + (SUFFIX if operation == "pack" else ".plain.onnx"))

    def packs(self, source_format: str) -> bool:
        """ONNX models."""
        return source_format == "onnx"

    def pack(
        self, source: Path, output: Path, options: PackOptions, *, progress: ProgressCallback | None = None
    ) -> PackReport:
        """See :func:`nnc_onnx.nnr.packing.pack_nnr`."""
        from .packing import pack_nnr

        return pack_nnr(source, output, options, progress=progress)

    def unpack(
        self, source: Path, output: Path, options: UnpackOptions, *, progress: ProgressCallback | None = None
    ) -> UnpackReport:
        """See :func:`nnc_onnx.nnr.unpacking.unpack_nnr`."""
        from .unpacking import unpack_nnr

        return unpack_nnr(source, output, options, progress=progress)

    def inspect(self, source: Path, *, limits: Limits = DEFAULT_LIMITS) -> InspectReport:
        """See :func:`nnc_onnx.nnr.inspection.inspect_nnr`."""
        from .inspection import inspect_nnr

        return inspect_nnr(source, limits=limits)

    def verify(self, source: Path, options: VerifyOptions, *, progress: ProgressCallback | None = None) -> VerifyReport:
        """See :func:`nnc_onnx.nnr.inspection.verify_nnr`."""
        from .inspection import verify_nnr

        return verify_nnr(source, options, progress=progress)

    def run(self, source: Path, options: RunOptions) -> RunReport:
        """Execute the model in the file, unpacked into a temporary one."""
        import tempfile

        import msgspec

        from ..runtime.running import run
        from .unpacking import unpack_nnr

        with tempfile.TemporaryDirectory(prefix="onnx-nnc-") as folder:
            plain = Path(folder) / "model.onnx"
            unpack_nnr(source, plain)
            return msgspec.structs.replace(run(plain, options), format=self.name, source=str(source))

    def convert(
        self,
        source: Path,
        output: Path,
        target_format: str,
        options: ConvertOptions,
        *,
        progress: ProgressCallback | None = None,
    ) -> ConvertReport:
        """See :func:`nnc_onnx.nnr.convert.to_nnr` and :func:`nnc_onnx.nnr.convert.to_onnx`."""
        from .convert import to_nnr, to_onnx

        return to_nnr(source, output, options) if target_format == self.name else to_onnx(source, output, options)

    def bitstreams(self, source: Path) -> Iterator[tuple[str, Buffer]]:
        """The file itself."""
        yield source.name, source.read_bytes()
