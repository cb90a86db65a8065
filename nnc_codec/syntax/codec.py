"""Compiles a structure's description to Python functions: read, write and trace.

The functions are plain straight-line code, built on first use: a generic walk over the description costs
several times as much, and a model has hundreds of units. There is one builder; reading and writing differ
only in what happens at an element.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .bit_reader import BitReader
from .bit_writer import BitCounter, BitWriter
from .context import Context
from .enums import CONSTANTS
from .expressions import HELPERS, Expression
from .fields import Check, Element, Structure

_NEW = object.__new__
_SET = object.__setattr__


class Source:
    """Source text of one function; subclasses say what a present and an absent element do."""

    head = ""

    def __init__(self, cls: type[Structure]) -> None:
        self.cls = cls
        self.known: set[str] = {"index", *cls.parameters}
        self.lines: list[str] = []
        self.scope: dict[str, Any] = {**HELPERS, "CLS": cls, "NEW": _NEW, "SET": _SET}

    @staticmethod
    def run(structure: type[Structure]) -> Callable[..., Any]:
        """The function for a nested structure."""
        raise NotImplementedError

    def nested(self, structure: type[Structure]) -> str:
        """Name of the function for a nested structure, which is compiled when it is first called."""
        name = f"run_{structure.__name__}"

        def compile_first(*args: Any) -> Any:
            self.scope[name] = self.run(structure)
            return self.scope[name](*args)

        self.scope.setdefault(name, compile_first)
        self.scope[structure.__name__] = structure
        return name

    def build(self) -> Callable[..., Any]:
        """Compile the function."""
        self.body()
        self.finish()
        source = "\n".join([f"def run({', '.join([self.head, *self.cls.parameters])}):", *self.lines])
        exec(compile(source, f"<{type(self).__name__} of {self.cls.__name__}>", "exec"), self.scope)
        function: Callable[..., Any] = self.scope["run"]
        return function

    def body(self) -> None:
        """All elements in order."""
        for element in self.cls.elements:
            self.element(element)

    def put(self, depth: int, line: str) -> None:
        """Append a line of source."""
        self.lines.append("    " * (depth + 1) + line)

    def text(self, expression: Expression) -> str:
        """The expression as Python."""
        return expression.python(self.resolve)

    def resolve(self, name: str) -> str:
        """A name of the description as Python: variable, constant or attribute of the context."""
        if name in self.known:
            return name
        return str(CONSTANTS[name]) if name in CONSTANTS else f"c.{name}"

    def constant(self, element: Element) -> str:
        """An element's default as Python."""
        if element.default is None or type(element.default) in (int, tuple):
            return repr(element.default)
        name = f"DEFAULT_{element.name}"
        self.scope[name] = element.default
        return name

    def element(self, element: Element) -> None:
        """One line of the description."""
        if element.kind == "local" and element.inferred is not None:
            self.put(0, f"{element.name} = {self.text(element.inferred)}")
            self.known.add(element.name)
            return
        depth = 0
        if element.when is not None:
            self.put(0, f"if {self.text(element.when)}:")
            depth = 1
        if element.unverified is not None:
            self.unverified(element, depth)
        self.present(element, depth)
        self.bounds(element, depth)
        if element.when is not None:
            self.absent(element)
        if element.is_value:
            self.known.add(element.name)
        self.checks(element)

    def present(self, element: Element, depth: int) -> None:
        """What happens at an element that is coded."""
        raise NotImplementedError

    def absent(self, element: Element) -> None:
        """What happens at an element that is not."""
        raise NotImplementedError

    def finish(self) -> None:
        """The end of the function."""
        raise NotImplementedError

    def arguments(self, element: Element) -> str:
        """Parameters of a nested structure, each after a comma."""
        args = dict(element.args)
        names = element.structure.parameters if element.structure is not None else ()
        return "".join(f", {self.text(args[name])}" for name in names)

    def bounds(self, element: Element, depth: int) -> None:
        """The check of the range."""
        if element.low is None or element.high is None:
            return
        low, high, name = self.text(element.low), self.text(element.high), element.name
        outside = f"{name} < {low} or {name} > {high}"
        wrong = name
        if element.count is not None:
            outside = f"{name} and (min({name}) < {low} or max({name}) > {high})"
            wrong = f"next(x for x in {name} if x < {low} or x > {high})"
        self.out_of_range(element, depth, outside, f"f'{{{wrong}}} is outside {{{low}}}..{{{high}}}'")

    def checks(self, element: Element) -> None:
        """The further conditions."""
        for check in element.require:
            condition = f"not ({self.text(check.expression)})"
            if element.only_if_present and element.when is not None:
                condition = f"({self.text(element.when)}) and {condition}"
            self.violated(element, condition, check)

    def unverified(self, element: Element, depth: int) -> None:
        """At unconfirmed syntax."""
        self.put(depth, f"if c.strict: b.refuse({element.name!r}, {element.unverified!r})")

    def out_of_range(self, element: Element, depth: int, outside: str, message: str) -> None:
        """Where a value is out of range."""
        self.put(depth, f"if {outside}: b.fail('corrupt', {element.name!r}, {message})")

    def violated(self, element: Element, condition: str, check: Check) -> None:
        """Where a condition does not hold."""
        self.put(0, f"if {condition}: b.fail({check.kind!r}, {element.name!r}, {check.why!r})")


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


class Compiled(dict[type[Structure], Callable[..., Any]]):
    """Functions of one kind by structure; each is compiled when it is first asked for."""

    def __init__(self, source: type[Source]) -> None:
        super().__init__()
        self._source = source

    def __missing__(self, cls: type[Structure]) -> Callable[..., Any]:
        function = self[cls] = self._source(cls).build()
        return function


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
