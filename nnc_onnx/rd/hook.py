"""Planning as :func:`nnc_onnx.pack` takes it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from nnc_codec.errors import UnsupportedError
from nnc_codec.formats import ModelFormat, PackOptions, ProgressCallback
from nnc_codec.report import PackReport

from ..graph.usage import Value
from ..model_io import Model
from ..packing import Planner, pack
from ..plan import PlannedTensor
from .calibration import Calibration
from .fitting import Study
from .goals import Goal, Metric
from .planner import Plan, plan_quality
from .sparsify import sparsify, with_sparse
from .wish import Wish

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PLANNED = frozenset({"onnx", "nnr"})


class Packer(Protocol):
    """A function that packs, as :func:`nnc_onnx.pack`."""

    def __call__(
        self,
        source: Path,
        output: Path,
        options: PackOptions | None = ...,
        *,
        planner: Planner | None = ...,
        progress: ProgressCallback | None = ...,
    ) -> PackReport:
        """Pack `source` into `output`."""
        ...


def planner_for(
    goal: Goal | None = None,
    *,
    calibration: Calibration | None = None,
    metric: Metric | None = None,
    study: Study | None = None,
    inform: Callable[[Plan], None] | None = None,
    packer: Packer = pack,
) -> Planner:
    """A planner for ``nnc_onnx.pack(source, output, planner=...)``; arguments as :func:`plan_quality`.

    `inform` is given the plan before anything is coded. Goals that are sizes are sizes of what `packer` writes.
    """

    def plan(
        model: Model, planned: list[PlannedTensor], options: PackOptions, progress: ProgressCallback | None
    ) -> tuple[list[PlannedTensor], tuple[str, ...]]:
        sparse: dict[Value, NDArray[Any]] = {}
        notes: tuple[str, ...] = ()
        aim = goal
        if options.sparsity is not None:
            sparsified = sparsify(
                model,
                planned,
                options,
                options.sparsity,
                goal,
                calibration=calibration,
                metric=metric,
                study=study,
                progress=progress,
            )
            planned, aim, notes = sparsified
            sparse = {tensor.value: tensor.sparse for tensor in planned if tensor.sparse is not None}

        def packed_size(tried: Plan) -> int:
            def as_tried(tensors: list[PlannedTensor]) -> list[PlannedTensor]:
                return _with(with_sparse(tensors, sparse), tried)

            with tempfile.TemporaryDirectory(prefix="onnx-nnc-") as folder:
                report = packer(
                    model.path,
                    Path(folder) / "packed.onnx",
                    msgspec.structs.replace(options, force=True),
                    planner=lambda _model, tensors, _options, _progress: (as_tried(tensors), ()),
                )
            return report.packed_bytes

        found = plan_quality(
            model.proto,
            planned,
            model.folder,
            options,
            aim,
            original_bytes=sum(file.stat().st_size for file in model.files) or model.proto.ByteSize(),
            packed_size=packed_size,
            calibration=calibration,
            metric=metric,
            study=None if sparse else study,
            progress=progress,
        )
        if inform is not None:
            inform(found)
        return _with(planned, found), notes + found.notes

    return plan


def _with(planned: list[PlannedTensor], found: Plan) -> list[PlannedTensor]:
    return [
        tensor._replace(chosen=found.params.get(tensor.value), values=found.values.get(tensor.value))
        for tensor in planned
    ]


def pack_to(
    wish: Wish,
    packer: ModelFormat,
    source: Path,
    output: Path,
    options: PackOptions,
    *,
    progress: ProgressCallback | None = None,
) -> PackReport:
    """Pack with a plan, which is made by running the model unless ``wish.fast``.

    Formats that no plan is made for are packed by the statistics of every tensor.

    Raises:
        UnsupportedError: `packer` takes no plan, and one is asked for.
        NNRError: as :func:`plan_quality`, :func:`nnc_onnx.pack` and :func:`nnc_onnx.nnr.packing.pack_nnr`.
    """
    goal = wish.goal()
    if packer.name not in _PLANNED:
        if wish.is_given:
            raise UnsupportedError(
                f"planning is for ONNX models, not for {packer.name}", hint="leave out the options that ask for it"
            )
        return packer.pack(source, output, options, progress=progress)
    write: Packer = pack
    if packer.name == "nnr":
        from ..nnr.packing import pack_nnr

        write = pack_nnr
    judge = wish.judge()
    planner = None if wish.fast else planner_for(goal, calibration=wish.calibration, metric=judge, packer=write)
    return write(source, output, options, planner=planner, progress=progress)
