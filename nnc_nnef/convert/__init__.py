"""Conversion between ONNX and NNEF, plain and packed."""

from __future__ import annotations

from .settings import ConvertSettings
from .write_nnef import to_nnef
from .write_onnx import to_onnx

__all__ = ["ConvertSettings", "to_nnef", "to_onnx"]
