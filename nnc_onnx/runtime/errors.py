"""Typed errors of running packed models; codes `NNC-E220` to `NNC-E229`."""

from __future__ import annotations

import re

from nnc_codec import errors as codec_errors
from nnc_codec.errors import NNRError, UnsupportedError

from ..errors import CarriageError


class RuntimeMissingError(UnsupportedError, ImportError):
    """onnxruntime is not installed, or cannot be imported."""

    code = "NNC-E220"
    exit_code = 1


class RuntimeTooOldError(UnsupportedError):
    """The installed onnxruntime is older than the oldest one that is served."""

    code = "NNC-E221"
    exit_code = 1


class LibraryMissingError(UnsupportedError):
    """The native run-time library is not where the package has it."""

    code = "NNC-E222"
    exit_code = 1


class RegistrationError(UnsupportedError):
    """onnxruntime refused the run-time library, or the library found onnxruntime to behave unexpectedly."""

    code = "NNC-E223"


class RuntimeMemoryError(NNRError, MemoryError):
    """Not enough memory to decode a tensor."""

    code = "NNC-E224"
    exit_code = 1


_BY_CODE: dict[str, type[NNRError]] = {
    kind.code: kind
    for kind in (
        codec_errors.NNRError,
        codec_errors.CorruptError,
        codec_errors.TruncatedError,
        codec_errors.UnsupportedError,
        codec_errors.InvalidArgumentError,
        codec_errors.LimitExceededError,
        RuntimeTooOldError,
        RegistrationError,
        CarriageError,
        RuntimeMemoryError,
    )
}
_NATIVE_LINE = re.compile(r"(NNC-E\d{3}): (?:tensor '(.*?)': )?(.*?)(?: ?\((.*), bit (\d+)\))?$", re.MULTILINE)


def from_native(error: BaseException) -> NNRError | None:
    """The typed error for an exception of onnxruntime that carries a line of the run-time library.

    Returns ``None`` if the exception comes from something else.
    """
    found = _NATIVE_LINE.search(str(error))
    if found is None or found[1] not in _BY_CODE:
        return None
    code, tensor, what, element, bit = found.groups()
    message = f"{what} ({element})" if element else what
    return _BY_CODE[code](message, tensor=tensor, bit_offset=int(bit) if bit else None)


def raise_typed(error: BaseException) -> None:
    """Raise the typed error for `error` if :func:`from_native` knows one; else return."""
    typed = from_native(error)
    if typed is not None:
        raise typed from error
