"""Planning as :func:`nnc_onnx.pack` takes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nnc_codec.errors import UnsupportedError
from nnc_codec.formats import ModelFormat, PackOptions, ProgressCallback
from nnc_codec.report import PackReport

from ..model_io import Model
from ..packing import Planner, pack
from ..plan import PlannedTensor
from .calibration import Calibration
from .fitting import Study
from .goals import Goal, Metric
from .planner import Plan, plan_quality
from .wish import Wish


def planner_for(
    goal: Goal | None = None,
    *,
    calibration: Calibration | None = None,
    metric: Metric | None = None,
    study: Study | None = None,
    inform: Callable[[Plan], None] | None = None,
) -> Planner:
    """A planner for ``nnc_onnx.pack(source, output, planner=...)``; arguments as :func:`plan_quality`.

    `inform` is given the plan before anything is coded.
    """

    def plan(
        model: Model, planned: list[PlannedTensor], options: PackOptions, progress: ProgressCallback | None
    ) -> tuple[list[PlannedTensor], tuple[str, ...]]:
        found = plan_quality(
            model.proto,
            planned,
            model.folder,
            options,
            goal,
            original_bytes=sum(file.stat().st_size for file in model.files) or model.proto.ByteSize(),
            calibration=calibration,
            metric=metric,
            study=study,
            progress=progress,
        )
        if inform is not None:
            inform(found)
        return [tensor._replace(chosen=found.params.get(tensor.value)) for tensor in planned], found.notes

    return plan


def pack_to(
    wish: Wish,
    packer: ModelFormat,
    source: Path,
    output: Path,
    options: PackOptions,
    *,
    progress: ProgressCallback | None = None,
) -> PackReport:
    """Pack with a plan.

    Raises:
        UnsupportedError: `packer` writes something other than ONNX.
        NNRError: as :func:`plan_quality` and :func:`nnc_onnx.pack`.
    """
    if packer.name != "onnx":
        raise UnsupportedError(
            f"planning is for ONNX models, not for {packer.name}", hint="leave out the options that ask for it"
        )
    planner = planner_for(wish.goal(), calibration=wish.calibration, metric=wish.judge())
    return pack(source, output, options, planner=planner, progress=progress)
