"""Conversion between ONNX and NNEF, plain and packed."""

from __future__ import annotations

from .to_nnef import ConvertSettings, to_nnef
from .to_onnx import to_onnx

__all__ = ["ConvertSettings", "to_nnef", "to_onnx"]
