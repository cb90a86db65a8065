"""How many bytes of decoded tensors a session may keep."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Literal

from nnc_codec.errors import InvalidArgumentError

Budget = int | float | Literal["all"]

DEFAULT_CACHE_BYTES = 64 << 20
"""Budget of mode ``"cache"``, and of sessions that do not know their model."""

MEMORY_SHARE = 4
"""Mode ``"auto"`` keeps at most one part in this many of the machine's memory."""

ROUNDING = 1 << 20
"""The cache rounds sizes up; ``"all"`` leaves room for that in any model of sensible size."""

_UNBOUNDED = 1 << 62
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def budget_bytes(cache_bytes: Budget | None, decoded_bytes: int | None, *, whole_machine: bool = False) -> int:
    """`cache_bytes` as a number of bytes.

    Args:
        cache_bytes: bytes (int), a fraction of all decoded tensors (float, 0 to 1), ``"all"``, or ``None`` for the
            default.
        decoded_bytes: size of all decoded tensors, ``None`` if it is not known.
        whole_machine: the default is a share of the machine's memory.

    Raises:
        InvalidArgumentError: it is none of these, or a fraction of something unknown.
    """
    if cache_bytes is None:
        return machine_bytes() // MEMORY_SHARE if whole_machine else DEFAULT_CACHE_BYTES
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


def machine_bytes() -> int:
    """Memory of the machine, or of the container if that is less; a multiple of the default budget if unknown."""
    found = [_physical_bytes()]
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            found.append(int(Path(path).read_text(encoding="ascii")))
    known = [nbytes for nbytes in found if nbytes > 0]
    return min(known, default=DEFAULT_CACHE_BYTES * MEMORY_SHARE)


def _physical_bytes() -> int:
    """Bytes of memory as the system tells, 0 if it does not."""
    if sys.platform == "win32":
        return _windows_bytes()
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0


def _windows_bytes() -> int:
    import ctypes

    kilobytes = ctypes.c_ulonglong()
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - other systems do not have it
    return kilobytes.value * 1024 if kernel.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes)) else 0
