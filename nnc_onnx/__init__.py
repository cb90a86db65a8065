"""ONNX models with weights coded by ISO/IEC 15938-17: pack, unpack, inspect, verify, update, run while still coded.

The names below are imported when they are first used, so that importing this package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnc_codec.abilities import ApplyOptions, DiffOptions
    from nnc_codec.formats import PackOptions, RunOptions, UnpackOptions, VerifyOptions

    from .benchmark.bench import bench
    from .benchmark.report import BenchOptions
    from .inspection import inspect
    from .nnr.packing import pack_nnr
    from .nnr.unpacking import unpack_nnr
    from .packing import pack, pack_model
    from .runtime.library import get_library_path, stats
    from .runtime.loader import InferenceSession, register
    from .runtime.running import run
    from .runtime.shell import shell_weights, unpack_shell
    from .unpacking import unpack, unpack_model
    from .update.updates import apply, diff
    from .verification import verify

__all__ = [
    "ApplyOptions",
    "BenchOptions",
    "DiffOptions",
    "InferenceSession",
    "PackOptions",
    "RunOptions",
    "UnpackOptions",
    "VerifyOptions",
    "apply",
    "bench",
    "diff",
    "get_library_path",
    "inspect",
    "pack",
    "pack_model",
    "pack_nnr",
    "register",
    "run",
    "shell_weights",
    "stats",
    "unpack",
    "unpack_model",
    "unpack_nnr",
    "unpack_shell",
    "verify",
]

_HOMES = {
    "ApplyOptions": "nnc_codec.abilities",
    "BenchOptions": "nnc_onnx.benchmark.report",
    "DiffOptions": "nnc_codec.abilities",
    "InferenceSession": "nnc_onnx.runtime.loader",
    "PackOptions": "nnc_codec.formats",
    "RunOptions": "nnc_codec.formats",
    "UnpackOptions": "nnc_codec.formats",
    "VerifyOptions": "nnc_codec.formats",
    "apply": "nnc_onnx.update.updates",
    "bench": "nnc_onnx.benchmark.bench",
    "diff": "nnc_onnx.update.updates",
    "get_library_path": "nnc_onnx.runtime.library",
    "inspect": "nnc_onnx.inspection",
    "pack": "nnc_onnx.packing",
    "pack_model": "nnc_onnx.packing",
    "pack_nnr": "nnc_onnx.nnr.packing",
    "register": "nnc_onnx.runtime.loader",
    "run": "nnc_onnx.runtime.running",
    "shell_weights": "nnc_onnx.runtime.shell",
    "stats": "nnc_onnx.runtime.library",
    "unpack": "nnc_onnx.unpacking",
    "unpack_model": "nnc_onnx.unpacking",
    "unpack_nnr": "nnc_onnx.nnr.unpacking",
    "unpack_shell": "nnc_onnx.runtime.shell",
    "verify": "nnc_onnx.verification",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
