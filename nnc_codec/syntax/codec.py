"""Compiles a structure's description to Python functions: read, write and trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .bit_reader import BitReader
from .bit_writer import BitCounter, BitWriter
from .context import Context
from .fields import Element, Structure
from .source import Compiled, Source


class Read(Source):
    """Source of a reader that can tell where what went wrong."""

    head = "b, c"

    @staticmethod
    def run(structure: type[Structure]) -> Callable[..., Any]:
        """The function for a nested structure."""
        return reader(structure)

    def call(self, element: Element) -> str:
        """The call that reads one entry."""
        name = repr(element.name)
        if element.structure is not None:
            return f"{self.nested(element.structure)}(b, c{self.arguments(element)})"
        if element.kind == "st":
            return f"b.st(c.max_name_bytes, {name})"
        if element.kind in ("flt", "align", "data"):
            return f"b.{'rest' if element.kind == 'data' else element.kind}({name})"
        return f"b.{element.kind}({self.text(element.width) if element.width else ''}, {name})"

    def present(self, element: Element, depth: int) -> None:
        """Read one element, or all entries of an array."""
        name = element.name
        if element.count is not None:
            self.put(depth, f"n = {self.text(element.count)}")
            self.put(depth, f"b.entries(n, {element.min_bits}, {name!r})")
            self.array(element, depth)
        elif element.kind == "align":
            self.put(depth, self.call(element))
        else:
            self.put(depth, f"{name} = {self.call(element)}")
        if element.reserved is not None:
            self.put(depth, f"if {name} != {element.reserved}: b.warn({name!r}, f'reserved bits are {{{name}}}')")

    def array(self, element: Element, depth: int) -> None:
        """All entries of an array; their number is ``n``."""
        self.put(depth, f"{element.name} = tuple([{self.call(element)} for index in range(n)])")

    def absent(self, element: Element) -> None:
        """Give it its default, or the value inferred."""
        if element.repeats or not element.is_value:
            return
        self.put(0, "else:")
        value = self.text(element.inferred) if element.inferred is not None else self.constant(element)
        self.put(1, f"{element.name} = {value}")
        if element.inferred is not None:
            self.bounds(element, 1)

    def finish(self) -> None:
        """Make the value."""
        values = ", ".join(f"{e.name!r}: {e.name}" for e in self.cls.elements if e.is_value)
        self.put(0, "value = NEW(CLS)")
        self.put(0, f"SET(value, '__dict__', {{{values}}})")
        self.put(0, "return value")


class _Trace(Read):
    """Like reading, but tells the reader which structure and which entry it is in."""

    @staticmethod
    def run(structure: type[Structure]) -> Callable[..., Any]:
        return tracer(structure)

    def present(self, element: Element, depth: int) -> None:
        if element.structure is not None and element.count is None:
            self.put(depth, f"b.enter({element.name!r}, {element.structure.__name__})")
        super().present(element, depth)
        if element.structure is not None and element.count is None:
            self.put(depth, "b.leave()")

    def array(self, element: Element, depth: int) -> None:
        self.put(depth, "items = []")
        self.put(depth, "for index in range(n):")
        structure = element.structure.__name__ if element.structure is not None else "None"
        self.put(depth + 1, f"b.enter(f'{element.name}[{{index}}]', {structure})")
        self.put(depth + 1, f"items.append({self.call(element)})")
        self.put(depth + 1, "b.leave()")
        self.put(depth, f"{element.name} = tuple(items)")


class _Write(Source):
    head = "b, c, value"

    @staticmethod
    def run(structure: type[Structure]) -> Callable[..., Any]:
        return writer(structure)

    def element(self, element: Element) -> None:
        if element.is_value:
            self.put(0, f"{element.name} = value.{element.name}")
        super().element(element)

    def present(self, element: Element, depth: int) -> None:
        name = element.name
        if element.count is None:
            self.put_one(element, depth, name)
            return
        self.put(depth, f"b.items({name}, {self.text(element.count)}, {name!r})")
        self.put(depth, f"for index, item in enumerate({name}):")
        self.put_one(element, depth + 1, "item")

    def put_one(self, element: Element, depth: int, item: str) -> None:
        name = repr(element.name)
        if element.structure is not None:
            structure = element.structure.__name__
            run = self.nested(element.structure)
            self.put(
                depth,
                f"if type({item}) is not {structure}: b.fail('corrupt', {name}, 'must be a {structure}')",
            )
            self.put(depth, f"{run}(b, c, {item}{self.arguments(element)})")
        elif element.kind == "align":
            self.put(depth, f"b.align({name})")
        elif element.kind == "st":
            self.put(depth, f"b.st(c.max_name_bytes, {item}, {name})")
        elif element.kind in ("flt", "data"):
            self.put(depth, f"b.{'rest' if element.kind == 'data' else 'flt'}({item}, {name})")
        else:
            self.put(
                depth,
                f"b.{element.kind}({self.text(element.width) if element.width else ''}, {item}, {name})",
            )

    def absent(self, element: Element) -> None:
        name = element.name
        if element.kind == "align":
            return
        default = self.constant(element)
        places = [e.when for e in self.cls.elements if e.name == name and e.when is not None]
        if element.repeats:
            earlier = self.text(places[0])
            self.put(0, f"elif not ({earlier}) and {name} != {default}: b.extra({name!r})")
            return
        if len(places) > 1:
            return
        if element.inferred is None:
            self.put(0, f"elif {name} != {default}: b.extra({name!r})")
            return
        self.put(0, "else:")
        self.put(1, f"inferred = {self.text(element.inferred)}")
        self.put(1, f"if {name} != {default} and {name} != inferred: b.extra({name!r})")
        self.put(1, f"{name} = inferred")

    def finish(self) -> None:
        self.put(0, "return")


_READERS, _TRACERS, _WRITERS = Compiled(Read), Compiled(_Trace), Compiled(_Write)


def reader(cls: type[Structure]) -> Callable[..., Any]:
    """``read(bit_reader, context, *parameters) -> cls``."""
    return _READERS[cls]


def tracer(cls: type[Structure]) -> Callable[..., Any]:
    """Like :func:`reader`, for a reader with ``enter(name, structure)`` and ``leave()``."""
    return _TRACERS[cls]


def writer(cls: type[Structure]) -> Callable[..., Any]:
    """``write(bit_writer, context, value, *parameters)``."""
    return _WRITERS[cls]


def read(cls: type[Structure], data: bytes, context: Context, *parameters: int) -> Structure:
    """Read one structure that fills ``data``; the last byte may have bits left."""
    bits = BitReader(data)
    value: Structure = reader(cls)(bits, context, *parameters)
    if bits.end - bits.position >= 8:
        bits.at = bits.position
        bits.fail("corrupt", cls.__name__, f"{(bits.end - bits.position) >> 3} bytes follow")
    return value


def write(value: Structure, context: Context, *parameters: int) -> bytes:
    """Write one structure; it is filled up to a byte with zeros."""
    bits = BitWriter(type(value).__name__)
    writer(type(value))(bits, context, value, *parameters)
    bits.put(0, -bits.position & 7)
    return bits.finish()


def size_in_bits(value: Structure, context: Context, *parameters: int) -> int:
    """Exact number of bits that writing takes."""
    bits = BitCounter(type(value).__name__)
    writer(type(value))(bits, context, value, *parameters)
    return bits.position
