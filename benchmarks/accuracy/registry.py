"""All methods by the name that ``--method`` takes, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable

from context import Context, Outcomes
from methods import calibrated, curve, curve_calibrated, fast, planned
from peer_nncodec import nncodec
from peers import brotli, half, int8_dynamic, int8_static, nbits, xz, zipnn, zstd

METHODS: dict[str, Callable[[Context], Outcomes]] = {
    "fast": fast,
    "planned": planned,
    "calibrated": calibrated,
    "nncodec": nncodec,
    "int8": int8_dynamic,
    "int8-static": int8_static,
    "nbits": nbits,
    "half": half,
    "zipnn": zipnn,
    "zstd": zstd,
    "brotli": brotli,
    "xz": xz,
}

CURVES: dict[str, Callable[[Context], Outcomes]] = {"curve": curve, "curve-calibrated": curve_calibrated}
"""Methods that are only run if asked for: more points of ours."""
