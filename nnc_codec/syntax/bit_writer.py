"""Bits out, most significant first: the descriptors of the standard, as :mod:`.bit_reader` reads them."""

from __future__ import annotations

import operator
import struct
from typing import Any, NoReturn

from ..errors import InvalidArgumentError, LimitExceededError, NNRError, UnsupportedError
from .bit_reader import MAX_PREFIX

_ERRORS: dict[str, type[NNRError]] = {
    "corrupt": InvalidArgumentError,
    "unsupported": UnsupportedError,
    "limit_exceeded": LimitExceededError,
}


class BitWriter:
    """Writes descriptors; values that do not fit are refused with :class:`InvalidArgumentError`."""

    def __init__(self, unit_type: str = "") -> None:
        self.unit_type = unit_type
        self.position = 0
        self._done = bytearray()
        self._pending = 0
        self._pending_bits = 0

    def put(self, value: int, width: int) -> None:
        """Append ``width`` bits."""
        self.position += width
        self._pending = self._pending << width | value
        self._pending_bits += width
        if self._pending_bits >= 2048:
            keep = self._pending_bits & 7
            self._done += (self._pending >> keep).to_bytes(self._pending_bits >> 3, "big")
            self._pending &= (1 << keep) - 1
            self._pending_bits = keep

    def put_bytes(self, data: bytes) -> None:
        """Append whole bytes."""
        if self._pending_bits & 7:
            self.put(int.from_bytes(data, "big"), 8 * len(data))
            return
        self._done += self._pending.to_bytes(self._pending_bits >> 3, "big")
        self._done += data
        self.position += 8 * len(data)
        self._pending = self._pending_bits = 0

    def finish(self) -> bytes:
        """The bytes written; the position must be on a byte boundary."""
        if self.position & 7:
            raise InvalidArgumentError(f"{self.unit_type or 'syntax'} ends inside a byte", bit_offset=self.position)
        self.put_bytes(b"")
        return bytes(self._done)

    def fail(self, kind: str, name: str, why: str) -> NoReturn:
        """Raise the error of a check."""
        text = f"{self.unit_type}: {name}: {why}" if self.unit_type else f"{name}: {why}"
        raise _ERRORS[kind](text, bit_offset=self.position)

    def refuse(self, name: str, why: str) -> NoReturn:
        """Raise the error of an element that must not be written."""
        self.fail("unsupported", name, why)

    def extra(self, name: str) -> NoReturn:
        """Raise the error of a value whose element is not coded."""
        self.fail("corrupt", name, "has a value, but the elements before it say that it is absent")

    def items(self, values: Any, count: int, name: str) -> None:
        """Check that an array has as many entries as the elements before it say."""
        if not isinstance(values, tuple):
            self.fail("corrupt", name, f"must be a tuple, not {type(values).__name__}")
        if len(values) != count:
            self.fail("corrupt", name, f"{len(values)} entries where {count} are announced")

    def number(self, value: Any, name: str) -> int:
        """The value as an exact integer."""
        try:
            return operator.index(value)
        except TypeError:
            self.fail("corrupt", name, "is missing" if value is None else f"{value!r} is not an integer")

    def u(self, width: int, value: Any, name: str) -> None:
        """Unsigned integer."""
        number = self.number(value, name)
        if number < 0 or number >> width:
            self.fail("corrupt", name, f"{number} does not fit {width} bits")
        self.put(number, width)

    def i(self, width: int, value: Any, name: str) -> None:
        """Two's complement integer."""
        number = self.number(value, name)
        if not -(1 << (width - 1)) <= number < 1 << (width - 1):
            self.fail("corrupt", name, f"{number} does not fit {width} bits")
        self.put(number & ((1 << width) - 1), width)

    def ue(self, order: int, value: Any, name: str) -> None:
        """Unsigned Exp-Golomb code."""
        number = self.number(value, name)
        zeros = ((number >> order) + 1).bit_length() - 1
        if number < 0 or zeros > MAX_PREFIX:
            self.fail("corrupt", name, f"{number} is outside the Exp-Golomb code of order {order}")
        self.put(number - (((1 << zeros) - 1) << order) + (1 << (order + zeros)), 2 * zeros + 1 + order)

    def ie(self, order: int, value: Any, name: str) -> None:
        """Signed Exp-Golomb code."""
        number = self.number(value, name)
        self.ue(order, 2 * number - 1 if number > 0 else -2 * number, name)

    def flt(self, value: Any, name: str) -> None:
        """IEEE 754 binary32 in little-endian byte order; the value must be one exactly."""
        try:
            pattern = struct.pack("<f", value)
        except (struct.error, OverflowError):
            self.fail("corrupt", name, "is missing" if value is None else f"{value!r} is not a binary32 number")
        if value == value and struct.unpack("<f", pattern)[0] != value:
            self.fail("corrupt", name, f"{value!r} is not a binary32 number")
        self.put_bytes(pattern)

    def st(self, max_bytes: int, value: Any, name: str) -> None:
        """Zero-terminated UTF-8 string."""
        if not isinstance(value, str):
            self.fail("corrupt", name, "is missing" if value is None else f"{value!r} is not a string")
        try:
            encoded = value.encode("utf-8")
        except UnicodeEncodeError:
            self.fail("corrupt", name, "cannot be written as UTF-8")
        if b"\0" in encoded:
            self.fail("corrupt", name, "contains a zero character")
        if len(encoded) > max_bytes:
            self.fail("limit_exceeded", name, f"longer than {max_bytes} bytes")
        if self.position & 7:
            self.fail("corrupt", name, "a string must start on a byte boundary")
        self.put_bytes(encoded + b"\0")

    def bits(self, width: int, value: Any, name: str) -> None:
        """A string of bits."""
        if not isinstance(value, bytes) or len(value) != (width + 7) >> 3:
            self.fail("corrupt", name, f"must be {(width + 7) >> 3} bytes")
        number = int.from_bytes(value, "big")
        if number & ((1 << (-width & 7)) - 1):
            self.fail("corrupt", name, f"has bits beyond the {width}")
        self.put(number >> (-width & 7), width)

    def rest(self, value: Any, name: str) -> None:
        """Every byte up to the end of the unit."""
        if not isinstance(value, bytes):
            self.fail("corrupt", name, "is missing" if value is None else "must be bytes")
        if self.position & 7:
            self.fail("corrupt", name, "data must start on a byte boundary")
        self.put_bytes(value)

    def align(self, name: str) -> None:
        """Byte alignment."""
        width = 8 - (self.position & 7)
        self.put(1 << (width - 1), width)


class BitCounter(BitWriter):
    """Runs a write without keeping anything: ``position`` is then the exact size in bits."""

    def put(self, value: int, width: int) -> None:
        """Count ``width`` bits."""
        self.position += width

    def put_bytes(self, data: bytes) -> None:
        """Count whole bytes."""
        self.position += 8 * len(data)
