"""Typed errors of the ONNX carriage (`NNC-E210` to `NNC-E219`)."""

from __future__ import annotations

from nnc_codec.errors import CorruptError, InvalidArgumentError, TruncatedError, UnsupportedError


class InvalidModelError(InvalidArgumentError):
    """The file is no ONNX model, or onnx itself rejects it."""

    code = "NNC-E210"


class TruncatedModelError(TruncatedError):
    """The model file ends before its protobuf messages do."""

    code = "NNC-E211"


class CarriageError(CorruptError):
    """A packed model contradicts itself: checksum, hash, shape, missing payload."""

    code = "NNC-E212"


class UnsupportedCarriageError(UnsupportedError):
    """A carriage or operator version that this release does not know."""

    code = "NNC-E213"


class ExternalDataError(CorruptError):
    """External data are missing, too short, or point outside the model's folder."""

    code = "NNC-E214"
