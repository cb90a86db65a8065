"""A reader that writes down every element: what ``inspect --syntax`` shows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import IntFlag
from typing import Any, NamedTuple, ParamSpec, TypeVar

from .bit_reader import BitReader
from .fields import Structure

_P = ParamSpec("_P")
_T = TypeVar("_T")
_LONGEST_VALUE = 64


class TraceEntry(NamedTuple):
    """One element of a unit.

    Attributes:
        path: element name below the names of the structures around it, e.g. ``codebook.codebook_size``.
        bit_offset: first bit, counted from the start of the buffer.
        width: bits it takes.
        value: number, string or bytes; of alignment its bits as a number.
        meaning: enumerator or phrase, empty if the name says it all.
    """

    path: str
    bit_offset: int
    width: int
    value: int | float | str | bytes
    meaning: str

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON types; bytes become hexadecimal."""
        return {**self._asdict(), "value": self.value.hex() if isinstance(self.value, bytes) else self.value}

    @property
    def text(self) -> str:
        """One line: bit offset, width, path, value and meaning; long strings are cut."""
        value = self.value.hex() if isinstance(self.value, bytes) else repr(self.value)
        if len(value) > _LONGEST_VALUE:
            value = f"{value[:_LONGEST_VALUE]}... ({self.width >> 3} bytes)"
        line = f"{self.bit_offset:>10} {self.width:>6}  {self.path} = {value}"
        return f"{line}  ({self.meaning})" if self.meaning else line


def _noted(descriptor: Callable[_P, _T]) -> Callable[_P, _T]:
    """The descriptor, writing down what it read. Its last argument is the element's name."""

    @functools.wraps(descriptor)
    def read(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        value = descriptor(*args, **kwargs)
        self, name = args[0], args[-1]
        if isinstance(self, TracingReader):
            self.note(str(name), value)
        return value

    return read


class TracingReader(BitReader):
    """Appends a :class:`TraceEntry` to ``entries_read`` for every element, also when a later one fails."""

    __slots__ = ("entries_read", "places")

    def __init__(self, data: bytes | memoryview, start: int, stop: int, *, unit: int | None,
                 entries: list[TraceEntry]) -> None:  # fmt: skip
        super().__init__(data, start, stop, unit=unit)
        self.entries_read = entries
        self.places: list[tuple[str, type[Structure] | None, bool]] = [("", None, False)]

    def enter(self, name: str, structure: type[Structure] | None) -> None:
        """Step into a nested structure, or into one entry of an array of plain elements."""
        prefix, around, _ = self.places[-1]
        is_entry = structure is None
        self.places.append((f"{prefix}{name}" + ("" if is_entry else "."), structure or around, is_entry))

    def leave(self) -> None:
        """Step out again."""
        self.places.pop()

    def note(self, name: str, value: Any) -> None:
        """Write down the element between ``at`` and ``position``."""
        prefix, structure, is_entry = self.places[-1]
        path = prefix if is_entry else prefix + name
        meaning = _meaning(structure, name, value)
        self.entries_read.append(TraceEntry(path, self.at, self.position - self.at, value, meaning))

    u = _noted(BitReader.u)
    i = _noted(BitReader.i)
    ue = _noted(BitReader.ue)
    ie = _noted(BitReader.ie)
    flt = _noted(BitReader.flt)
    st = _noted(BitReader.st)
    bits = _noted(BitReader.bits)
    rest = _noted(BitReader.rest)
    align = _noted(BitReader.align)

    def unread(self, name: str) -> None:
        """Pass over the rest of the unit and note its size."""
        super().unread(name)
        if self.position > self.at:
            self.places[-1] = ("", None, False)
            self.note(name, f"{(self.position - self.at) >> 3} bytes")


def _meaning(structure: type[Structure] | None, name: str, value: Any) -> str:
    element = next((e for e in structure.elements if e.name == name), None) if structure is not None else None
    if element is None:
        return ""
    if element.kind == "align":
        return "byte alignment"
    if element.reserved is not None:
        return "reserved" if value == element.reserved else f"reserved, should be {element.reserved}"
    meaning = element.meaning
    if meaning is None or isinstance(meaning, str):
        is_flag = element.kind == "u" and element.fixed_width == 1
        return "" if meaning is None or (is_flag and not value) else meaning
    if issubclass(meaning, IntFlag):
        return " | ".join(member.name or "" for member in meaning if value & member) if value else "none"
    return next((member.name for member in meaning if member == value), "reserved")
