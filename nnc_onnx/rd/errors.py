"""Typed errors of planning (`NNC-E230` to `NNC-E239`)."""

from __future__ import annotations

from nnc_codec.errors import InvalidArgumentError, UnsupportedError


class CalibrationError(InvalidArgumentError):
    """Calibration inputs do not fit the model, or hold nothing usable."""

    code = "NNC-E230"


class GoalError(InvalidArgumentError):
    """The goal is contradictory, or out of reach for this model."""

    code = "NNC-E231"


class CannotRunError(UnsupportedError):
    """onnxruntime is absent, or cannot run the model on the inputs at hand."""

    code = "NNC-E232"
