"""Bits in, most significant first: the descriptors of the standard.

The reader never leaves its unit. Every read notes where its element starts, so that an error can say so.
"""

from __future__ import annotations

import struct
from typing import NoReturn

from ..errors import (
    CorruptError,
    LimitExceededError,
    NNRError,
    TruncatedError,
    UnsupportedError,
)

MAX_PREFIX = 32
"""Most zeros an Exp-Golomb code may start with; with orders up to 15 every value fits 48 bits."""

_ERRORS: dict[str, type[NNRError]] = {
    "corrupt": CorruptError,
    "unsupported": UnsupportedError,
    "limit_exceeded": LimitExceededError,
}


class BitReader:
    """Reads descriptors from the bytes ``start`` to ``stop`` of a buffer.

    Positions count bits from the start of the buffer.

    Attributes:
        position: bit that is read next.
        end: first bit that does not belong to the unit.
        warnings: deviations that do not change the result, such as reserved bits.
    """

    __slots__ = ("at", "data", "end", "position", "unit", "unit_type", "warnings")

    def __init__(
        self, data: bytes | memoryview, start: int = 0, stop: int | None = None, *, unit: int | None = None
    ) -> None:
        self.data = data
        self.position = self.at = 8 * start
        self.end = 8 * (len(data) if stop is None else stop)
        self.unit = unit
        self.unit_type = ""
        self.warnings: list[str] = []

    def _text(self, name: str, why: str) -> str:
        return f"{self.unit_type}: {name}: {why}" if self.unit_type else f"{name}: {why}"

    def fail(self, kind: str, name: str, why: str) -> NoReturn:
        """Raise the error of a check at the element read last."""
        raise _ERRORS[kind](self._text(name, why), unit=self.unit, bit_offset=self.at)

    def refuse(self, name: str, why: str) -> NoReturn:
        """Raise the error of an element that must not be read."""
        self.at = self.position
        self.fail("unsupported", name, why)

    def truncated(self, name: str) -> NoReturn:
        """Raise the error of a read past the end of the unit."""
        raise TruncatedError(self._text(name, "the unit ends too early"), unit=self.unit, bit_offset=self.at)

    def warn(self, name: str, why: str) -> None:
        """Note a deviation that is accepted."""
        self.warnings.append(f"bit {self.at}: {self._text(name, why)}")

    def entries(self, count: int, min_bits: int, name: str) -> None:
        """Check that ``count`` entries can be there before anything is allocated for them."""
        self.at = self.position
        if count < 0:
            self.fail("corrupt", name, "negative count")
        if count * min_bits > self.end - self.position:
            self.truncated(name)

    def u(self, width: int, name: str) -> int:
        """Unsigned integer."""
        self.at = position = self.position
        end = position + width
        if end > self.end:
            self.truncated(name)
        self.position = end
        return int.from_bytes(self.data[position >> 3 : (end + 7) >> 3], "big") >> (-end & 7) & ((1 << width) - 1)

    def i(self, width: int, name: str) -> int:
        """Two's complement integer."""
        sign = 1 << (width - 1)
        return (BitReader.u(self, width, name) ^ sign) - sign

    def ue(self, order: int, name: str) -> int:
        """Unsigned Exp-Golomb code."""
        self.at = position = self.position
        left = self.end - position
        # Prefix of 32 zeros, a one and a suffix of up to 32 + 15 bits fit 80 bits after the first byte.
        window = int.from_bytes(self.data[position >> 3 : (position >> 3) + 11], "big")
        held = 8 * min(11, len(self.data) - (position >> 3)) - (position & 7)
        window &= (1 << held) - 1 if held > 0 else 0
        zeros = held - window.bit_length()
        if zeros >= left:
            self.truncated(name)
        if zeros > MAX_PREFIX:
            self.fail("corrupt", name, f"more than {MAX_PREFIX} leading zeros")
        width = 2 * zeros + 1 + order
        if width > left:
            self.truncated(name)
        self.position = position + width
        return (window >> (held - width)) - (1 << (order + zeros)) + (((1 << zeros) - 1) << order)

    def ie(self, order: int, name: str) -> int:
        """Signed Exp-Golomb code."""
        code = BitReader.ue(self, order, name)
        return (code + 1) >> 1 if code & 1 else -(code >> 1)

    def flt(self, name: str) -> float:
        """IEEE 754 binary32 in little-endian byte order; signalling NaNs become quiet."""
        value: float = struct.unpack("<f", BitReader.u(self, 32, name).to_bytes(4, "big"))[0]
        return value

    def st(self, max_bytes: int, name: str) -> str:
        """Zero-terminated UTF-8 string."""
        self.at = self.position
        if self.position & 7:
            self.fail("corrupt", name, "a string must start on a byte boundary")
        start, stop = self.position >> 3, self.end >> 3
        piece = bytes(self.data[start : min(stop, start + max_bytes + 1)])
        size = piece.find(0)
        if size < 0:
            if stop - start > max_bytes:
                self.fail("limit_exceeded", name, f"longer than {max_bytes} bytes")
            self.truncated(name)
        try:
            text = piece[:size].decode("utf-8")
        except UnicodeDecodeError:
            self.fail("corrupt", name, "not UTF-8")
        self.position += 8 * (size + 1)
        return text

    def bits(self, width: int, name: str) -> bytes:
        """A string of bits."""
        return (BitReader.u(self, width, name) << (-width & 7)).to_bytes((width + 7) >> 3, "big")

    def rest(self, name: str) -> bytes:
        """Every byte up to the end of the unit."""
        self.at = self.position
        if self.position & 7:
            self.fail("corrupt", name, "data must start on a byte boundary")
        self.position = self.end
        return bytes(self.data[self.at >> 3 : self.end >> 3])

    def unread(self, name: str) -> None:
        """Pass over the rest of the unit without touching it."""
        self.at = self.position
        self.position = self.end

    def align(self, name: str) -> int:
        """Byte alignment, never empty; returns its bits. Bits other than 1, 0, 0 … are noted and skipped."""
        width = 8 - (self.position & 7)
        pattern = BitReader.u(self, width, name)
        if pattern != 1 << (width - 1):
            self.warn(name, f"alignment bits {pattern:0{width}b}")
        return pattern
