"""The native run-time library: where it is, and what its counters say.

The library is an onnxruntime custom-op library that knows nothing of Python, so the path serves C, C++, C#
and Java as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from .errors import LibraryMissingError

INTERFACE_VERSION = 1
"""What ``onnx_nnc_interface_version`` of a library of this release returns."""

_constants: dict[int, int] = {}  # by id of the session

_NAMES = {"win32": "onnx_nnc_ops.dll", "darwin": "libonnx_nnc_ops.dylib"}


class RuntimeStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of the run-time library, of all sessions of the process together.

    Attributes:
        kernels: decode operators alive.
        computes: times onnxruntime asked for a tensor.
        decodes: tensors decoded.
        decoded_bytes: bytes of decoded tensors written.
        decode_ns: nanoseconds spent decoding, summed over threads.
        split_decodes: tensors of them whose block rows were decoded side by side.
        payload_bytes: payload bytes read by decoding.
        failures: requests that ended in an error.
        cache_hits: requests served from the cache.
        cache_misses: requests of caching sessions that had to be decoded.
        cache_loans: tensors handed to onnxruntime without a copy.
        cache_evictions: tensors dropped to make room.
        cache_restores: tensors made from levels held in the cache.
        row_hits: rows of tables that were asked for and held.
        row_misses: rows of tables that had to be decoded.
        recodings: payloads that were read once and for all, into the recoded form.
        recoded_reads: tensors made from the recoded form.
        recoded_ns: nanoseconds spent on that, summed over threads.
        recoded_bytes: bytes of recoded forms held now.
        cache_bytes: bytes of decoded tensors held now.
        cache_peak_bytes: the most that were held at a time.
        constant_bytes: bytes of weights that living sessions hold as constants.
    """

    kernels: int
    computes: int
    decodes: int
    decoded_bytes: int
    decode_ns: int
    split_decodes: int
    payload_bytes: int
    failures: int
    cache_hits: int
    cache_misses: int
    cache_loans: int
    cache_evictions: int
    cache_restores: int
    row_hits: int
    row_misses: int
    recodings: int
    recoded_reads: int
    recoded_ns: int
    recoded_bytes: int
    cache_bytes: int
    cache_peak_bytes: int
    constant_bytes: int = 0


def get_library_path() -> str:
    """Absolute path of the custom-op library.

    It goes to ``SessionOptions.register_custom_ops_library`` or its like in any language.

    Raises:
        LibraryMissingError: it is not there, which means that the package was not built.
    """
    name = _NAMES.get(sys.platform, "libonnx_nnc_ops.so")
    path = Path(__file__).resolve().parents[1] / name
    if not path.is_file():
        raise LibraryMissingError(
            f"the run-time library {path} is missing",
            hint="install the package (pip install onnx-nnc), or use mode='eager' or onnx-nnc unpack",
        )
    return os.fspath(path)


@functools.lru_cache(maxsize=1)
def load_library() -> ctypes.CDLL:
    """The library, loaded once per process.

    Raises:
        LibraryMissingError: it is not there, cannot be loaded, or belongs to another release.
    """
    path = get_library_path()
    try:
        library = ctypes.CDLL(path)
        version = library.onnx_nnc_interface_version
        version.restype = ctypes.c_int32
        found = version()
    except (OSError, AttributeError) as error:
        raise LibraryMissingError(
            f"the run-time library {path} cannot be loaded: {error}", hint="reinstall the package"
        ) from error
    if found != INTERFACE_VERSION:
        raise LibraryMissingError(
            f"the run-time library {path} has interface version {found}, not {INTERFACE_VERSION}",
            hint="reinstall the package",
        )
    library.onnx_nnc_stat_name.restype = ctypes.c_char_p
    library.onnx_nnc_stat_name.argtypes = [ctypes.c_size_t]
    library.onnx_nnc_stat_value.restype = ctypes.c_uint64
    library.onnx_nnc_stat_value.argtypes = [ctypes.c_size_t]
    library.onnx_nnc_block_rows.restype = ctypes.c_uint64
    library.onnx_nnc_block_rows.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.onnx_nnc_share.restype = ctypes.c_int32
    library.onnx_nnc_share.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.onnx_nnc_reset_stats.restype = None
    library.onnx_nnc_reset_stats.argtypes = []
    return library


@contextlib.contextmanager
def sharing(names: Sequence[str]) -> Iterator[None]:
    """Tell the library which tensors the session that this thread creates in the block may lend.

    Raises:
        LibraryMissingError: there is no library.
    """
    share = load_library().onnx_nnc_share
    data = b"".join(name.encode() + b"\0" for name in names)
    share(data, len(data))
    try:
        yield
    finally:
        share(None, 0)


def stats() -> RuntimeStats:
    """The counters now.

    Raises:
        LibraryMissingError: there is no library.
    """
    library = load_library()
    values: dict[str, int] = {}
    index = 0
    while (name := library.onnx_nnc_stat_name(index)) is not None:
        values[name.decode("ascii")] = library.onnx_nnc_stat_value(index)
        index += 1
    return msgspec.convert({**values, "constant_bytes": sum(_constants.values())}, RuntimeStats)


def count_constants(owner: object, nbytes: int) -> None:
    """Count `nbytes` of constants for as long as `owner` lives; a later call replaces the number."""
    if id(owner) not in _constants:
        weakref.finalize(owner, _constants.pop, id(owner), 0)
    _constants[id(owner)] = nbytes


def reset_stats() -> None:
    """Set the counters that only grow back to zero.

    Raises:
        LibraryMissingError: there is no library.
    """
    load_library().onnx_nnc_reset_stats()
