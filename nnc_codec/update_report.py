"""What making and applying updates says about itself."""

from __future__ import annotations

from typing import Literal

import msgspec

from .params import Method
from .report import ErrorMeasure, Report

Change = Literal["unchanged", "quantized", "exact", "carried"]


class TensorChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an update does to one tensor.

    Attributes:
        name: as the model calls it.
        shape: dimensions.
        dtype: element type in numpy's words.
        change: ``"quantized"`` difference, ``"exact"`` difference (integers, raw floats), ``"carried"`` whole in
            the topology unit, or ``"unchanged"``.
        coded_bytes: payload in the update.
        method: quantization method of the difference.
        qp: quantization parameter of the difference.
        step: its step size.
        temporal_context: whether the contexts depend on the previous update.
        error: of the result against the new model.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    change: Change
    coded_bytes: int = 0
    method: Method | None = None
    qp: int | None = None
    step: float | None = None
    temporal_context: bool = False
    error: ErrorMeasure | None = None


class DiffReport(Report, frozen=True, kw_only=True, omit_defaults=True, tag="diff"):
    """Result of ``diff``; ``source`` is the new model.

    Attributes:
        base: path of the base model.
        output: path written.
        base_model_id: of the model that the update applies to.
        result_model_id: of the model it makes.
        new_bytes: all files of the new model.
        update_bytes: size of the update.
        tensors: every tensor of the model.
        topology_bytes: what the update takes for changes outside the tensors and for tensors carried whole.
    """

    base: str
    output: str
    base_model_id: str
    result_model_id: str
    new_bytes: int
    update_bytes: int
    tensors: tuple[TensorChange, ...]
    topology_bytes: int = 0

    @property
    def changed(self) -> tuple[TensorChange, ...]:
        """The tensors that the update changes."""
        return tuple(tensor for tensor in self.tensors if tensor.change != "unchanged")

    @property
    def worst(self) -> TensorChange | None:
        """The tensor whose result is farthest from the new model, relative to its size."""
        measured = [tensor for tensor in self.tensors if tensor.error is not None]
        return max(measured, key=lambda t: t.error.rel_rms if t.error else 0.0, default=None)


class AppliedUpdate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One update that was given to ``apply``.

    Attributes:
        path: of the update.
        nbytes: its size.
        changed: number of tensors it changes.
        applied: false if the base held it already, so that it only supplied the context of later ones.
        result_model_id: of the model after it.
    """

    path: str
    nbytes: int
    changed: int
    applied: bool
    result_model_id: str | None = None


class ApplyReport(Report, frozen=True, kw_only=True, omit_defaults=True, tag="apply"):
    """Result of ``apply``; ``source`` is the base model.

    Attributes:
        output: path written.
        output_bytes: all files of the model written.
        model_id: of the model written.
        updates: the updates in order.
    """

    output: str
    output_bytes: int
    model_id: str
    updates: tuple[AppliedUpdate, ...]
