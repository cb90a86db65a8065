"""Bitstream to tensors in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _native
from ._status import check
from .bitstream import Bitstream, Buffer, Source, as_bytes
from .elements import empty, flat_bytes, native_type
from .limits import Limits
from .parallel import run_all
from .state import UpdateState

_WORK_PER_ELEMENT = 4
"""Bytes of float32 that one element stands for when work is shared out."""


def open(data: Source, *, limits: Limits | None = None, strict: bool = True) -> Bitstream:
    """Parse the units of a bitstream; nothing is decoded.

    Args:
        data: the bytes, any buffer, or the path of a file.
        limits: bounds for untrusted data.
        strict: refuse syntax whose text in the standard is not confirmed.

    Raises:
        CorruptError, TruncatedError, UnsupportedError, LimitExceededError: with unit and bit offset.
    """
    return Bitstream(as_bytes(data), limits=limits, strict=strict)


def decode(
    data: Source,
    *,
    limits: Limits | None = None,
    base: UpdateState | None = None,
    executor: Executor | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Decode all tensors of a bitstream.

    Args:
        data: the bytes, any buffer, or the path of a file.
        limits: bounds for untrusted data, checked before anything is allocated.
        base: state of a sequence of updates, advanced by this call. The results of an update are differences; tensors
            that did not change are missing.
        executor: threads that decode units; ``None`` uses one per processor.

    Returns:
        name -> array, in payload order. FLOAT and BLOCK units give float32, INT units int32, unless
        ``nnr_decompressed_data_format`` states another type of the same kind.

    Raises:
        CorruptError, TruncatedError, UnsupportedError, LimitExceededError: with unit, tensor and bit offset.
    """
    groups = open(data, limits=limits).data_units()
    if base is not None:
        # A copy, so that a stream that fails half way does not leave the state between two updates.
        state = replace(base, nodes=dict(base.nodes))
        tensors = {name: values for group in groups for name, values in group[0].decode_update(state).items()}
        base.nodes.update(state.nodes)
        base.device_id = state.device_id
        return tensors
    decoded: list[dict[str, npt.NDArray[Any]]] = []
    tasks: list[Callable[[], None]] = []
    sizes: list[int] = []
    for group in groups:
        tensors, parts = group[0].decoding()
        decoded.append(tensors)
        tasks += parts
        sizes += [sum(tensor.size for tensor in group) * _WORK_PER_ELEMENT // len(parts)] * len(parts)
    run_all(_call, tasks, sizes, executor, max_in_flight_bytes=sum(sizes))
    return {name: values for unit in decoded for name, values in unit.items()}


def _call(task: Callable[[], None]) -> None:
    task()


def decode_single(
    payload: Buffer, dtype: npt.DTypeLike, shape: Sequence[int], *, limits: Limits | None = None
) -> npt.NDArray[Any]:
    """Decode a bitstream of one data unit in one native call, as the run-time library does.

    Args:
        payload: STR, MPS, [TPL], NDU.
        dtype: element type of the result: a float type for quantized data, an integer type for INT units.
        shape: shape of the result; its volume must be that of the coded tensor.

    Raises:
        CorruptError, TruncatedError, UnsupportedError, LimitExceededError: with bit offset.
    """
    bounds = limits or Limits()
    out = empty(shape, np.dtype(dtype))
    data = np.frombuffer(as_bytes(payload), np.uint8)
    dims = min(bounds.max_dims, 16)
    check(_native.decode_single(data, flat_bytes(out), native_type(out.dtype), bounds.max_elements, dims))
    return out
