"""Every syntax element of bitstreams as a stream of lines or as one JSON document; nothing is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from .bitstream import Buffer, as_bytes
from .errors import NNRError
from .limits import Limits
from .syntax import TraceEntry, trace_units
from .syntax.context import Context

_SHOWN_BYTES = 64
_LARGEST_INTEGER = 1 << 63
_AROUND = ("nnr_unit_size.", "nnr_unit_header.", "compressed_data_unit_header.", "payload.")

Labelled = Iterable[tuple[str, Buffer]]
Write = Callable[[str], None]


class SyntaxElement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One element of a bitstream.

    Attributes:
        unit: index of the NNR unit.
        element: name, below the names of the structures around it.
        bit_offset: first bit, counted from the start of the bitstream.
        width: bits it takes.
        value: number or text; bytes and integers beyond 63 bits in hexadecimal, of long data only the beginning.
        meaning: enumerator or phrase, empty if the name says it all.
    """

    unit: int
    element: str
    bit_offset: int
    width: int
    value: int | float | str | None
    meaning: str = ""


class SyntaxFault(msgspec.Struct, frozen=True, kw_only=True):
    """What ended the reading of a bitstream early."""

    code: str
    message: str


class BitstreamSyntax(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All elements of one bitstream.

    Attributes:
        label: what the file calls it.
        nbytes: its size.
        elements: its elements in order, each bit exactly once.
        error: what is wrong behind the last of them.
    """

    label: str
    nbytes: int
    elements: tuple[SyntaxElement, ...]
    error: SyntaxFault | None = None


class SyntaxReport(msgspec.Struct, frozen=True, kw_only=True, tag_field="report", tag="syntax"):
    """What ``inspect --syntax --json`` prints."""

    source: str
    bitstreams: tuple[BitstreamSyntax, ...]


def trace(data: Buffer, *, limits: Limits | None = None) -> Iterator[list[SyntaxElement]]:
    """The elements of a bitstream, unit by unit.

    Syntax that is not confirmed is read in its most plausible form, since no weights come of it.

    Raises:
        NNRError: the syntax is broken; the elements in front of the damage have been handed out.
    """
    context = Context.from_limits(limits or Limits(), strict=False)
    for unit, entries in enumerate(trace_units(as_bytes(data), context)):
        yield [_element(unit, entry) for entry in entries]


def _element(unit: int, entry: TraceEntry) -> SyntaxElement:
    return SyntaxElement(
        unit=unit,
        element=entry.path,
        bit_offset=entry.bit_offset,
        width=entry.width,
        value=_value(entry.value),
        meaning=entry.meaning,
    )


def _value(value: int | float | str | bytes) -> int | float | str | None:
    if isinstance(value, bytes):
        return value[:_SHOWN_BYTES].hex() + ("..." if len(value) > _SHOWN_BYTES else "")
    if isinstance(value, int) and not -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
        return f"{value:#x}"
    return value


def write_text(bitstreams: Labelled, write: Write, *, limits: Limits | None = None) -> None:
    """One line per element: bit offset, width, name, value, meaning; flushed unit by unit.

    Raises:
        NNRError: as :func:`trace`, after the lines in front of the damage.
    """
    for label, source in bitstreams:
        data = as_bytes(source)
        write(f"{_printable(label)}: {len(data)} bytes\n")
        for elements in trace(data, limits=limits):
            lines = [_unit_line(elements)] if elements else []
            lines += (_line(element) for element in elements)
            write("".join(lines))


def _unit_line(elements: list[SyntaxElement]) -> str:
    kind = next((e.meaning for e in elements if e.element == "nnr_unit_header.nnr_unit_type"), "")
    return f"  unit {elements[0].unit}" + (f": {kind}" if kind else "") + "\n"


def _line(element: SyntaxElement) -> str:
    name = element.element
    for around in _AROUND:
        name = name.removeprefix(around)
    value = element.value
    shown = f'"{_printable(value)}"' if isinstance(value, str) and _is_text(element) else f"{value}"
    line = f"    {element.bit_offset:>10} {element.width:>6}  {name:<52} {shown:<14}  {element.meaning}"
    return line.rstrip() + "\n"


def _is_text(element: SyntaxElement) -> bool:
    return "topology_elem_id" in element.element or element.element.endswith(("base_model_id", "metric_type"))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def write_json(source: str, bitstreams: Labelled, write: Write, *, limits: Limits | None = None) -> None:
    """One JSON document of the form of :class:`SyntaxReport`, flushed unit by unit and whole even on errors.

    Raises:
        NNRError: as :func:`trace`, after the document has been closed.
    """
    encode = msgspec.json.Encoder().encode
    broken: NNRError | None = None
    write(f'{{"report":"syntax","source":{encode(source).decode()},"bitstreams":[')
    between = ""
    for label, buffer in bitstreams:
        data = as_bytes(buffer)
        write(f'{between}\n{{"label":{encode(label).decode()},"nbytes":{len(data)},"elements":[')
        between, comma = ",", ""
        try:
            for elements in trace(data, limits=limits):
                write("".join(f"{comma if i == 0 else ','}\n{encode(e).decode()}" for i, e in enumerate(elements)))
                comma = "," if elements else comma
        except NNRError as error:
            broken = error
        write("]")
        if broken is not None:
            write(f',"error":{encode(SyntaxFault(code=broken.code, message=str(broken))).decode()}}}')
            break
        write("}")
    write("]}\n")
    if broken is not None:
        raise broken
