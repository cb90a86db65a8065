"""Typed errors of the codec. Every one says what is wrong, where, and what to do.

Codes are stable: `NNC-E1xx` for the bitstream, `NNC-E2xx` for carriages and run time (defined there).
"""

from __future__ import annotations


class NNRError(Exception):
    """Base of all errors raised by this project.

    Attributes:
        code: stable identifier, e.g. ``NNC-E101``.
        exit_code: process exit status the command line uses for it.
        unit: index of the NNR unit in the bitstream, if known.
        tensor: name of the tensor, if known.
        bit_offset: position inside the bitstream in bits, if known.
        hint: what the user can do, if there is something.
    """

    code = "NNC-E100"
    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        unit: int | None = None,
        tensor: str | None = None,
        bit_offset: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.unit = unit
        self.tensor = tensor
        self.bit_offset = bit_offset
        self.hint = hint

    def __str__(self) -> str:
        where = [
            f"{label} {value!r}" if isinstance(value, str) else f"{label} {value}"
            for label, value in (("unit", self.unit), ("tensor", self.tensor), ("bit", self.bit_offset))
            if value is not None
        ]
        text = self.message + (f" ({', '.join(where)})" if where else "")
        return text + (f"; {self.hint}" if self.hint else "")


class CorruptError(NNRError):
    """The bits contradict the syntax, a checksum, or themselves."""

    code = "NNC-E101"
    exit_code = 3


class TruncatedError(CorruptError):
    """The data end before the syntax does."""

    code = "NNC-E102"


class UnsupportedError(NNRError):
    """Legal data that this version does not decode, or a request it cannot fulfil."""

    code = "NNC-E103"
    exit_code = 5


class InvalidArgumentError(NNRError, ValueError):
    """The caller's values are unusable."""

    code = "NNC-E104"
    exit_code = 1


class LimitExceededError(NNRError):
    """Above a limit of :class:`nnc_codec.Limits`; nothing was allocated."""

    code = "NNC-E105"
    exit_code = 3
