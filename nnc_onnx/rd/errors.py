"""Typed errors of planning (`NNC-E220` to `NNC-E229`)."""

from __future__ import annotations

from nnc_codec.errors import InvalidArgumentError, UnsupportedError


class CalibrationError(InvalidArgumentError):
    """Calibration inputs do not fit the model, or hold nothing usable."""

    code = "NNC-E220"


class GoalError(InvalidArgumentError):
    """The goal is contradictory, or out of reach for this model."""

    code = "NNC-E221"


class CannotRunError(UnsupportedError):
    """onnxruntime is absent, or cannot run the model on the inputs at hand."""

    code = "NNC-E222"
