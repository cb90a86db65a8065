"""The model formats the tools work on, found through the entry-point group ``onnx_nnc.formats``.

A format is a class without constructor arguments that satisfies :class:`ModelFormat`. The command line asks
every registered format whether it recognises a file, by content; so it needs to import none of them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import msgspec

from .errors import InvalidArgumentError, NNRError, UnsupportedError
from .files import require_readable
from .limits import Limits
from .params import Method
from .report import (
    ConvertReport,
    Finding,
    InspectReport,
    OutputComparison,
    PackReport,
    RunReport,
    UnpackReport,
    VerifyReport,
)

GROUP = "onnx_nnc.formats"
DEFAULT_LIMITS = Limits()

Kind = Literal["plain", "packed"]


class UnknownFormatError(InvalidArgumentError):
    """No registered format recognises the file."""

    code = "NNC-E203"


class VerificationError(NNRError):
    """The data are sound but not what they were compared with."""

    code = "NNC-E204"
    exit_code = 4


def output_findings(outputs: Sequence[OutputComparison]) -> list[Finding]:
    """A finding for every output that the packed and the unpacked model do not share bit for bit."""
    message = "output of the packed model differs from the unpacked one's"
    return [Finding.of(VerificationError(message, tensor=o.name)) for o in outputs if not o.identical]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """State of a long operation.

    Attributes:
        what: tensor or step just finished.
        done: bytes of original tensor data done.
        total: bytes of original tensor data in all.
    """

    what: str
    done: int
    total: int


ProgressCallback = Callable[[Progress], None]


class PackOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is packed.

    Attributes:
        qp: one quantization parameter for all weights; ``None`` chooses one per tensor from its statistics.
        qp_density: ``mps_qp_density``, 0 to 7.
        method: quantization method of float tensors.
        sparsity: share of the weights between the first and the last layers to become zero before they are quantized;
            ``None`` for none.
        optimize: simplify the graph first, as onnxruntime does on every processor. Then the unpacked model is the
            simplified one, not the source. Formats without a runtime to do it refuse.
        include: shell patterns; tensors that match are coded although a rule of thumb would leave them plain
            (never those whose coding would break the model). With patterns the others follow the usual rules.
        exclude: shell patterns; tensors that match stay plain. Stronger than `include`.
        min_elements: smaller tensors are coded finely, like vectors.
        group_below: tensors of fewer elements share bitstreams. 0 leaves vectors and tensors below `min_elements`
            plain and gives every other tensor a bitstream of its own. Formats with one bitstream ignore it.
        keep_names: leave the names of nodes and values in the file. Without, they move to a compressed table where
            that saves enough. Formats that have no such table ignore it.
        external_data: payloads in a file beside the model; ``None`` decides by size. Formats without such a
            thing ignore it.
        topology: how an NNR bitstream carries the model beside its tensors; ``"none"`` leaves it out. Formats
            that are no bitstreams ignore it.
        jobs: worker threads; 0 means one per processor. Never changes a byte of the result.
        force: overwrite the output.
    """

    qp: int | None = None
    qp_density: int = 2
    method: Method = "dq"
    sparsity: float | None = None
    optimize: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_elements: int = 1024
    group_below: int = 4096
    keep_names: bool = False
    external_data: bool | None = None
    topology: Literal["deflate", "raw", "none"] = "deflate"
    jobs: int = 0
    force: bool = False

    def __post_init__(self) -> None:
        for name, low in (("min_elements", 0), ("group_below", 0), ("jobs", 0)):
            if getattr(self, name) < low:
                raise InvalidArgumentError(f"{name} = {getattr(self, name)} is below {low}")
        if self.sparsity is not None and not 0 < self.sparsity < 1:
            raise InvalidArgumentError(
                f"sparsity = {self.sparsity} is not between 0 and 1", hint="give the share of zeros, e.g. 0.5"
            )
        if not 0 <= self.qp_density <= 7:
            raise InvalidArgumentError(f"qp_density = {self.qp_density} is outside 0..7")


class UnpackOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is unpacked.

    Attributes:
        external_data: weights in a file beside the model; ``None`` decides by size.
        jobs: worker threads; 0 means one per processor.
        force: overwrite the output.
        limits: bounds for what the packed file may ask for.
    """

    external_data: bool | None = None
    jobs: int = 0
    force: bool = False
    limits: Limits = Limits()


class VerifyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is verified beyond hashes and a full decode.

    Attributes:
        against: the original model; values are compared with it.
        max_rel_error: largest relative rms error against the original that still passes.
        run: compare outputs of the packed and the unpacked model.
        inputs: ``.npz`` file with one array per model input for `run`; ``None`` makes random ones.
        seed: of the random inputs.
        dims: sizes of symbolic dimensions of the random inputs by name; others are 1.
        jobs: worker threads; 0 means one per processor.
        limits: bounds for what the packed file may ask for.
    """

    against: Path | None = None
    max_rel_error: float | None = None
    run: bool = False
    inputs: Path | None = None
    seed: int = 0
    dims: dict[str, int] = {}
    jobs: int = 0
    limits: Limits = Limits()


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is run.

    Attributes:
        inputs: ``.npz`` file with one array per model input; ``None`` makes random ones.
        outputs: ``.npz`` file to write the outputs to.
        against: model to compare with, run on the same inputs.
        seed: of the random inputs.
        dims: sizes for symbolic dimensions by name, e.g. ``{"batch": 4}``; others are 1.
        runs: number of runs.
        mode: how weights are held: ``"auto"``, ``"lazy"``, ``"cache"``, ``"eager"`` or ``"int8"``.
        cache_bytes: budget for decoded tensors in modes ``"cache"`` and ``"auto"``: bytes, a fraction of all, or
            ``"all"``; ``None`` for the loader's.
        force: overwrite `outputs`.
    """

    inputs: Path | None = None
    outputs: Path | None = None
    against: Path | None = None
    seed: int = 0
    dims: dict[str, int] = {}
    runs: int = 5
    mode: str = "auto"
    cache_bytes: int | float | Literal["all"] | None = None
    force: bool = False


class ConvertOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a model changes its format.

    Attributes:
        payloads: what to do with a payload that cannot be carried over untouched: refuse, decode and code it
            again, or store the decoded values plain.
        check: compare the outputs of both models numerically.
        dims: sizes for symbolic dimensions by name, where the target format has fixed shapes.
        input_shapes: whole shapes by input name, for dimensions without a name.
        fixed_inputs: numbers by input name, of inputs that become constants.
        force: overwrite the output.
    """

    payloads: Literal["refuse", "reencode", "raw"] = "refuse"
    check: bool = True
    dims: dict[str, int] = {}
    input_shapes: dict[str, tuple[int, ...]] = {}
    fixed_inputs: dict[str, int | float] = {}
    force: bool = False


@runtime_checkable
class ModelFormat(Protocol):
    """A kind of model file. Methods raise errors of :mod:`nnc_codec.errors`, then having written nothing."""

    name: str
    """Short lower-case name, e.g. ``"onnx"``."""

    def recognise(self, path: Path) -> Kind | None:
        """Whether `path` (file or folder, exists) is of this format, from a cheap look at its content.

        A damaged file that is plainly meant to be of this format counts as recognised.
        """
        ...

    def default_output(self, path: Path, operation: Literal["pack", "unpack"]) -> Path:
        """Where the operation writes without ``-o``: beside the source, e.g. ``m.onnx`` -> ``m.nnc.onnx``."""
        ...

    def pack(
        self, source: Path, output: Path, options: PackOptions, *, progress: ProgressCallback | None = None
    ) -> PackReport:
        """Code the model's tensors."""
        ...

    def unpack(
        self, source: Path, output: Path, options: UnpackOptions, *, progress: ProgressCallback | None = None
    ) -> UnpackReport:
        """Write the plain model with the decoded values."""
        ...

    def inspect(self, source: Path, *, limits: Limits = DEFAULT_LIMITS) -> InspectReport:
        """Describe a plain or packed model without decoding a tensor."""
        ...

    def verify(self, source: Path, options: VerifyOptions, *, progress: ProgressCallback | None = None) -> VerifyReport:
        """Check a packed model; what is wrong goes into the report, unreadable files raise."""
        ...

    def run(self, source: Path, options: RunOptions) -> RunReport:
        """Execute a plain or packed model."""
        ...


@runtime_checkable
class Converter(Protocol):
    """What a format adds if it knows how to turn one format into another."""

    conversions: frozenset[tuple[str, str]]
    """Pairs (source format, target format), by name."""

    def convert(
        self,
        source: Path,
        output: Path,
        target_format: str,
        options: ConvertOptions,
        *,
        progress: ProgressCallback | None = None,
    ) -> ConvertReport:
        """Write `source` as a model of `target_format`."""
        ...


_registered: dict[str, ModelFormat] = {}
_discovered = False


def register(model_format: ModelFormat) -> None:
    """Add a format for this process; the first one of a name stays."""
    _registered.setdefault(model_format.name, model_format)


def formats() -> Sequence[ModelFormat]:
    """All formats: those registered in this process, then the installed ones in order of their names."""
    global _discovered
    if not _discovered:
        for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
            if entry.name not in _registered:
                register(entry.load()())
        _discovered = True
    return tuple(_registered.values())


def recognise(path: str | Path) -> tuple[ModelFormat, Kind]:
    """The format of a file or folder and whether it is packed.

    Raises:
        FileAccessError: `path` cannot be read.
        UnknownFormatError: no format recognises it.
    """
    checked = require_readable(path)
    for model_format in formats():
        kind = model_format.recognise(checked)
        if kind is not None:
            return model_format, kind
    known = ", ".join(model_format.name for model_format in formats())
    raise UnknownFormatError(f"{checked} is not a model of a known format (known: {known})")


def by_name(name: str) -> ModelFormat:
    """The format called `name`.

    Raises:
        InvalidArgumentError: there is none.
    """
    for model_format in formats():
        if model_format.name == name:
            return model_format
    known = ", ".join(model_format.name for model_format in formats())
    raise InvalidArgumentError(f"there is no model format {name!r}", hint=f"known: {known}")


def converter(source_format: str, target_format: str) -> Converter:
    """The format that converts `source_format` into `target_format`.

    Raises:
        UnsupportedError: none does.
    """
    for model_format in formats():
        if isinstance(model_format, Converter) and (source_format, target_format) in model_format.conversions:
            return model_format
    raise UnsupportedError(f"no installed format converts {source_format} into {target_format}")
