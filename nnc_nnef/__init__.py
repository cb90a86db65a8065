"""NNEF models with weights coded by ISO/IEC 15938-17: pack, unpack, inspect, verify, run, and convert to and from ONNX.

The names below are imported when they are first used, so that importing this package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .convert import ConvertSettings, to_nnef, to_onnx
    from .inspection import inspect
    from .model import NnefModel, Variable
    from .model import open_model as open
    from .packing import pack
    from .running import run
    from .unpacking import unpack
    from .updating import update
    from .verification import verify

__all__ = [
    "ConvertSettings",
    "NnefModel",
    "Variable",
    "inspect",
    "open",
    "pack",
    "run",
    "to_nnef",
    "to_onnx",
    "unpack",
    "update",
    "verify",
]

_HOMES = {
    "ConvertSettings": ("convert", "ConvertSettings"),
    "NnefModel": ("model", "NnefModel"),
    "Variable": ("model", "Variable"),
    "inspect": ("inspection", "inspect"),
    "open": ("model", "open_model"),
    "pack": ("packing", "pack"),
    "run": ("running", "run"),
    "to_nnef": ("convert", "to_nnef"),
    "to_onnx": ("convert", "to_onnx"),
    "unpack": ("unpacking", "unpack"),
    "update": ("updating", "update"),
    "verify": ("verification", "verify"),
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home[0]}"), home[1])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
