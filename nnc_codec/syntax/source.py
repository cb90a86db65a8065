"""Source text of functions made from a structure's description.

The functions are plain straight-line code, built on first use: a generic walk over the description costs several times
as much, and a model has hundreds of units. There is one builder; reading and writing differ only in what happens at an
element.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


class Compiled(dict[type[Structure], Callable[..., Any]]):
    """Functions of one kind by structure; each is compiled when it is first asked for."""

    def __init__(self, source: type[Source]) -> None:
        super().__init__()
        self._source = source

    def __missing__(self, cls: type[Structure]) -> Callable[..., Any]:
        function = self[cls] = self._source(cls).build()
        return function
