"""Native status -> typed error."""

from __future__ import annotations

from .errors import (
    CorruptError,
    InvalidArgumentError,
    LimitExceededError,
    NNRError,
    TruncatedError,
    UnsupportedError,
)

_ERRORS: dict[int, type[NNRError]] = {
    1: CorruptError,
    2: TruncatedError,
    3: UnsupportedError,
    4: InvalidArgumentError,
    5: LimitExceededError,
    6: LimitExceededError,
}


def check(
    status: tuple[int, str, int], *, unit: int | None = None, tensor: str | None = None, bit_offset: int = 0
) -> None:
    """Raise the error that a native status stands for.

    Args:
        status: (code, reason, bits from the start of the buffer that was passed in).
        unit: index of the unit the buffer belongs to.
        tensor: name of the tensor.
        bit_offset: position of the buffer in the bitstream.
    """
    code, what, bit = status
    if code:
        where = bit_offset + bit if code < 4 else None
        raise _ERRORS[code](what, unit=unit, tensor=tensor, bit_offset=where)
