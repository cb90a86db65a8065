"""The ``onnx-nnc`` command. It parses arguments and prints reports; all work is done by the model formats."""

from __future__ import annotations

from .app import main

__all__ = ["main"]
