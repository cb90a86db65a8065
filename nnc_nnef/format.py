"""NNEF as one of the model formats that the command line works on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from nnc_codec.errors import InvalidArgumentError
from nnc_codec.formats import (
    DEFAULT_LIMITS,
    ConvertOptions,
    Kind,
    PackOptions,
    Progress,
    ProgressCallback,
    RunOptions,
    UnpackOptions,
    VerifyOptions,
)
from nnc_codec.limits import Limits
from nnc_codec.report import ConvertReport, InspectReport, PackReport, RunReport, UnpackReport, VerifyReport

_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip", ".nnef", ".nnc", ".plain")
_OUTPUTS = {"pack": ".nnc.nnef.tar", "unpack": ".plain.nnef.tgz"}


class NnefFormat:
    """Implements :class:`nnc_codec.formats.ModelFormat` and :class:`nnc_codec.formats.Converter`."""

    name = "nnef"
    conversions = frozenset({("onnx", "nnef"), ("nnef", "onnx")})

    def recognise(self, path: Path) -> Kind | None:
        """Whether `path` is a container with a ``graph.nnef``, and whether bitstreams are in it.

        A container that is called ``.nnef`` something or holds bitstreams counts even if it is damaged.
        """
        from .recognition import recognise_nnef

        return recognise_nnef(path)

    def default_output(self, path: Path, operation: Literal["pack", "unpack"]) -> Path:
        """``m.nnef.tgz`` -> ``m.nnc.nnef.tar`` -> ``m.plain.nnef.tgz``."""
        stem = path.name
        while stem.lower().endswith(_SUFFIXES) and not stem.startswith("."):
            stem = stem[: stem.rindex(".")]
        return path.with_name((stem or path.name) + _OUTPUTS[operation])

    def pack(
        self, source: Path, output: Path, options: PackOptions, *, progress: ProgressCallback | None = None
    ) -> PackReport:
        """See :func:`nnc_nnef.pack`."""
        from .packing import pack

        return pack(source, output, options, progress=progress)

    def unpack(
        self, source: Path, output: Path, options: UnpackOptions, *, progress: ProgressCallback | None = None
    ) -> UnpackReport:
        """See :func:`nnc_nnef.unpack`."""
        from .unpacking import unpack

        return unpack(source, output, options, progress=progress)

    def inspect(self, source: Path, *, limits: Limits = DEFAULT_LIMITS) -> InspectReport:
        """See :func:`nnc_nnef.inspect`."""
        from .inspection import inspect

        return inspect(source, limits=limits)

    def verify(self, source: Path, options: VerifyOptions, *, progress: ProgressCallback | None = None) -> VerifyReport:
        """See :func:`nnc_nnef.verify`."""
        from .verification import verify

        return verify(source, options, progress=progress)

    def run(self, source: Path, options: RunOptions) -> RunReport:
        """See :func:`nnc_nnef.run`."""
        from .running import run

        return run(source, options)

    def bitstreams(self, source: Path) -> Iterator[tuple[str, bytes]]:
        """(member, bytes) of every bitstream in the container.

        Raises:
            FileAccessError, ArchiveError, LimitExceededError: a bad container.
            InvalidArgumentError: there is none.
        """
        from .container import open_archive

        with open_archive(source) as archive:
            names = [name for name in archive if name.endswith(".nnr")]
            if not names:
                raise InvalidArgumentError(f"{source} is not packed", hint="a plain model holds no bitstreams")
            for name in names:
                yield name, archive.read(name)

    def convert(
        self,
        source: Path,
        output: Path,
        target_format: str,
        options: ConvertOptions,
        *,
        progress: ProgressCallback | None = None,
    ) -> ConvertReport:
        """See :func:`nnc_nnef.to_nnef` and :func:`nnc_nnef.to_onnx`."""
        from .convert import ConvertSettings, to_nnef, to_onnx

        if target_format not in ("nnef", "onnx"):
            raise InvalidArgumentError(f"there is no conversion to {target_format!r}", hint="nnef or onnx")
        settings = ConvertSettings(
            payloads=options.payloads,
            check=options.check,
            dims=options.dims,
            input_shapes=options.input_shapes,
            fixed_inputs=dict(options.fixed_inputs),
            force=options.force,
        )
        worker = to_nnef if target_format == "nnef" else to_onnx
        report = worker(source, output, settings)
        if progress is not None:
            progress(Progress(what=source.name, done=1, total=1))
        return report
