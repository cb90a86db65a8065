"""NNCodec as a pair of functions: no files, no printing."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from nncodec import nnc
from nncodec.nnc_core.hdsp.hdsp_tool import HdspTool

Arrays = dict[str, np.ndarray]


class State:
    """What one side of a sequence of updates keeps."""

    def __init__(self, history: bool) -> None:
        self.base: dict[str, Any] = {
            "parameters": {},
            "put_node_depth": {},
            "device_id": 0,
            "parameter_id": {},
        }
        self.hdsp = HdspTool(history)


def encode(tensors: Arrays, options: dict[str, Any], state: State | None = None, tca: bool = False) -> bytes:
    """``nnc.compress``; with a state, as the next step of a sequence of differences."""
    extra: dict[str, Any] = {}
    if state is not None:
        extra = {
            "approx_param_base": state.base,
            "update_base_param": True,
            "compress_differences": True,
            "tca": tca,
            "hdsp_tool": state.hdsp,
        }
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        copies = {name: array.copy() for name, array in tensors.items()}
        result = nnc.compress(copies, bitstream_path=None, return_bitstream=True, **options, **extra)
    return bytes(result)


def decode(data: bytes, state: State | None = None) -> Arrays:
    """``nnc.decompress``; float64 (its codebook products) is rounded once to float32."""
    extra: dict[str, Any] = {}
    if state is not None:
        # Without return_hls the decoder would not record the history.
        extra = {
            "approx_param_base": state.base,
            "update_base_param": True,
            "hdsp_tool": state.hdsp,
            "return_hls": True,
        }
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        result = nnc.decompress(bytearray(data), **extra)
    tensors = result[0] if state is not None else result
    return {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in tensors.items()}


def same(ours: Arrays, theirs: Arrays) -> None:
    """Equal names, types, shapes and bits; the order of names is not compared."""
    assert sorted(ours) == sorted(theirs)
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype, name
        assert ours[name].shape == value.shape, name
        assert ours[name].tobytes() == np.ascontiguousarray(value).tobytes(), name
