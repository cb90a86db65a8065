"""Planning as :func:`nnc_onnx.pack` takes it."""

from __future__ import annotations

from nnc_codec.formats import PackOptions, ProgressCallback

from ..model_io import Model
from ..packing import Planner
from ..plan import PlannedTensor
from .calibration import Calibration
from .goals import Goal, Metric
from .planner import plan_quality


def planner_for(
    goal: Goal | None = None, *, calibration: Calibration | None = None, metric: Metric | None = None
) -> Planner:
    """A planner for ``nnc_onnx.pack(source, output, planner=...)``; arguments as :func:`plan_quality`."""

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
            progress=progress,
        )
        return [tensor._replace(chosen=found.params.get(tensor.value)) for tensor in planned], found.notes

    return plan
