"""What a model format may be able to do beyond :class:`nnc_codec.formats.ModelFormat`.

A format says so by having the methods; tools ask with ``isinstance``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import msgspec

from .bitstream import Buffer
from .errors import UnsupportedError
from .formats import ModelFormat, ProgressCallback, formats
from .limits import Limits
from .params import Method
from .update_report import ApplyReport, DiffReport


@runtime_checkable
class BitstreamSource(Protocol):
    """A format whose files hold NNR bitstreams that can be looked at one by one."""

    def bitstreams(self, source: Path) -> Iterator[tuple[str, Buffer]]:
        """(label, bytes) of every bitstream in the file, in its order; nothing is decoded.

        Raises:
            InvalidArgumentError: the file holds none.
        """
        ...


@runtime_checkable
class Collector(Protocol):
    """A format that packs models of other formats into files of its own."""

    suffix: str
    """End of the names of these files, with the dot."""

    def packs(self, source_format: str) -> bool:
        """Whether a model of `source_format` can be packed into such a file."""
        ...


class DiffOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How an update is made.

    Attributes:
        after: updates that come between the base and the new model, oldest first.
        qp: one quantization parameter for all quantized differences; ``None`` chooses one per tensor from the
            size of the differences.
        method: quantization method of the differences.
        temporal_context: let contexts depend on the previous update where that makes a unit smaller.
        history: let contexts depend on all updates before where that makes a unit smaller.
        jobs: worker threads; 0 means one per processor. Never changes a byte of the result.
        force: overwrite the output.
        limits: bounds for what packed models and updates may ask for.
    """

    after: tuple[Path, ...] = ()
    qp: int | None = None
    method: Method = "dq"
    temporal_context: bool = True
    history: bool = True
    jobs: int = 0
    force: bool = False
    limits: Limits = Limits()


class ApplyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How updates are applied.

    Attributes:
        external_data: weights in a file beside the model; ``None`` decides by size.
        jobs: worker threads; 0 means one per processor.
        force: overwrite the output.
        limits: bounds for what packed models and updates may ask for.
    """

    external_data: bool | None = None
    jobs: int = 0
    force: bool = False
    limits: Limits = Limits()


@runtime_checkable
class Updater(Protocol):
    """A format between whose models updates can be made."""

    def default_update(self, new: Path) -> Path:
        """Where an update is written without ``-o``."""
        ...

    def default_updated(self, base: Path) -> Path:
        """Where an updated model is written without ``-o``."""
        ...

    def diff(
        self, base: Path, new: Path, output: Path, options: DiffOptions, *, progress: ProgressCallback | None = None
    ) -> DiffReport:
        """Write what makes `new` out of `base` as an NNR bitstream of differences."""
        ...

    def apply(
        self,
        base: Path,
        updates: Sequence[Path],
        output: Path,
        options: ApplyOptions,
        *,
        progress: ProgressCallback | None = None,
    ) -> ApplyReport:
        """Write the model that `base` becomes with `updates`, oldest first."""
        ...


def bitstream_source(model_format: ModelFormat, what: Path) -> BitstreamSource:
    """`model_format` as a source of bitstreams.

    Raises:
        UnsupportedError: it is none.
    """
    if isinstance(model_format, BitstreamSource):
        return model_format
    raise UnsupportedError(f"{what}: bitstreams in {model_format.name} models cannot be listed")


def packer(model_format: ModelFormat, output: Path) -> ModelFormat:
    """The format that packs a model of `model_format` into `output`: one whose files are called so, else its own.

    Raises:
        UnsupportedError: files called so cannot hold a model of `model_format`.
    """
    for other in formats():
        if isinstance(other, Collector) and output.suffix == other.suffix and other.name != model_format.name:
            if not other.packs(model_format.name):
                raise UnsupportedError(f"models of format {model_format.name} cannot be packed into {output.name}")
            return other
    return model_format


def updater(model_format: ModelFormat, what: Path, operation: Literal["diff", "apply"]) -> Updater:
    """`model_format` as a maker of updates.

    Raises:
        UnsupportedError: it is none.
    """
    if isinstance(model_format, Updater):
        return model_format
    able = ", ".join(other.name for other in formats() if isinstance(other, Updater))
    raise UnsupportedError(
        f"{operation} does not work on {what}, a model of format {model_format.name}", hint=f"it works on: {able}"
    )
