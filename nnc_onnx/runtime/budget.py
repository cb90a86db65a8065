"""How many bytes of decoded tensors a session may keep."""

from __future__ import annotations

from typing import Literal

from nnc_codec.errors import InvalidArgumentError

Budget = int | float | Literal["all"]

DEFAULT_CACHE_BYTES = 64 << 20
"""Budget of modes ``"auto"`` and ``"cache"`` if none is given."""

ROUNDING = 1 << 20
"""The cache rounds sizes up; ``"all"`` leaves room for that in any model of sensible size."""

_UNBOUNDED = 1 << 62


def budget_bytes(cache_bytes: Budget | None, decoded_bytes: int | None) -> int:
    """`cache_bytes` as a number of bytes.

    Args:
        cache_bytes: bytes (int), a fraction of all decoded tensors (float, 0 to 1), ``"all"``, or ``None`` for the
            default.
        decoded_bytes: size of all decoded tensors, ``None`` if it is not known.

    Raises:
        InvalidArgumentError: it is none of these, or a fraction of something unknown.
    """
    if cache_bytes is None:
        return DEFAULT_CACHE_BYTES
    if isinstance(cache_bytes, str):
        if cache_bytes != "all":
            raise InvalidArgumentError(f"cache_bytes = {cache_bytes!r} is neither a number nor 'all'")
        return decoded_bytes + ROUNDING if decoded_bytes is not None else _UNBOUNDED
    if isinstance(cache_bytes, float):
        if not 0 <= cache_bytes <= 1:
            raise InvalidArgumentError(f"cache_bytes = {cache_bytes} is no fraction", hint="give bytes as int")
        if decoded_bytes is None:
            raise InvalidArgumentError("a fraction needs a model", hint="use nnc_onnx.InferenceSession")
        return decoded_bytes + ROUNDING if cache_bytes == 1 else int(cache_bytes * decoded_bytes)
    if cache_bytes < 0:
        raise InvalidArgumentError(f"cache_bytes = {cache_bytes} is negative")
    return cache_bytes
