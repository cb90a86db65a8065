"""How a syntax structure is written down: one line per element, in bitstream order.

A structure is a class whose attributes are made by the descriptors below (the standard's ``u(n)``, ``ue(k)``,
``st(v)`` …). From that single description :mod:`.codec` compiles reading, writing, sizes and the trace,
:mod:`.quick_read` the reader of units without fault, and :mod:`.generate_cpp` the C++ reader. To add an element, add
its line; there is no second place.

Options of every descriptor:

* ``when``: condition of presence. Then ``default`` is what the element is worth when absent.
* ``inferred``: expression for the value when absent, where it depends on the context.
* ``count``: the element is an array of that many entries (a tuple in Python).
* ``range``: legal values, for every entry of an array. Outside is a :class:`CorruptError`.
* ``require``: further conditions, checked right after the element: :func:`corrupt_unless` and its siblings.
* ``reserved``: value the standard asks for; others are accepted on reading and reported as a warning.
* ``unverified``: reason why the text of the standard is not confirmed here; refused while ``Context.strict``.
* ``meaning``: enumeration or phrase for the trace.

Expressions see the elements above them, the structure's parameters, the enumerators and the context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..errors import InvalidArgumentError
from .context import CONTEXT_NAMES
from .enums import CONSTANTS
from .expressions import Expression, expression

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        """Tell type checkers only; the run time needs nothing."""
        return lambda decorated: decorated


REQUIRED: Any = object()
Meaning = type[IntEnum] | type[IntFlag] | str | None


@dataclass(frozen=True)
class Check:
    """A condition that must hold once the element is known; ``kind`` names the error."""

    kind: str
    expression: Expression
    why: str


def corrupt_unless(condition: str, why: str) -> Check:
    """The bitstream contradicts itself unless the condition holds."""
    return Check("corrupt", expression(condition), why)


def unsupported_unless(condition: str, why: str) -> Check:
    """Legal or unknown syntax, refused unless the condition holds."""
    return Check("unsupported", expression(condition), why)


def limited(condition: str, why: str) -> Check:
    """Above a limit of the context unless the condition holds."""
    return Check("limit_exceeded", expression(condition), why)


@dataclass(frozen=True)
class Element:
    """One line of a syntax structure."""

    kind: str
    width: Expression | None = None
    structure: type[Structure] | None = None
    args: tuple[tuple[str, Expression], ...] = ()
    count: Expression | None = None
    when: Expression | None = None
    default: Any = REQUIRED
    inferred: Expression | None = None
    low: Expression | None = None
    high: Expression | None = None
    require: tuple[Check, ...] = ()
    reserved: int | None = None
    unverified: str | None = None
    meaning: Meaning = None
    name: str = ""
    repeats: bool = False

    @property
    def is_value(self) -> bool:
        """Whether the element is a member of the value object."""
        return self.kind not in ("align", "local") and not self.repeats

    @property
    def only_if_present(self) -> bool:
        """Whether the checks make no sense without a value."""
        return self.when is not None and self.default is None

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Everything that is evaluated for this element."""
        plain = (self.width, self.count, self.when, self.inferred, self.low, self.high)
        checks = (check.expression for check in self.require)
        return (*(e for e in plain if e is not None), *(e for _, e in self.args), *checks)

    @property
    def fixed_width(self) -> int:
        """Width or order if it is a number, else 0."""
        return int(self.width.source) if self.width is not None and self.width.source.isdigit() else 0

    @property
    def min_bits(self) -> int:
        """Fewest bits one entry can take, to bound counts before anything is allocated."""
        if self.kind == "struct" and self.structure is not None:
            return sum(e.min_bits for e in self.structure.elements if e.when is None and e.count is None)
        width = self.fixed_width
        return {"ue": width + 1, "ie": width + 1, "flt": 32, "st": 8, "align": 1, "u": width, "i": width,
                "bits": width}.get(self.kind, 0)  # fmt: skip


def _element(kind: str, width: int | str | None = None, **options: Any) -> Any:
    for name in ("count", "when", "inferred"):
        if name in options:
            options[name] = expression(options[name])
    if width is not None:
        options["width"] = expression(str(width))
    if "range" in options:
        low, high = options.pop("range")
        options.update(low=expression(str(low)), high=expression(str(high)))
    require = options.pop("require", ())
    options["require"] = (require,) if isinstance(require, Check) else require
    options["args"] = tuple((name, expression(text)) for name, text in options.pop("args", {}).items())
    return Element(kind=kind, **options)


def u(width: int | str, *, default: Any = REQUIRED, **options: Any) -> Any:
    """Unsigned integer of ``width`` bits, most significant first."""
    return _element("u", width, default=default, **options)


def i(width: int | str, *, default: Any = REQUIRED, **options: Any) -> Any:
    """Two's complement integer of ``width`` bits."""
    return _element("i", width, default=default, **options)


def ue(order: int | str, *, default: Any = REQUIRED, **options: Any) -> Any:
    """Unsigned Exp-Golomb code of the given order."""
    return _element("ue", order, default=default, **options)


def ie(order: int | str, *, default: Any = REQUIRED, **options: Any) -> Any:
    """Signed Exp-Golomb code of the given order."""
    return _element("ie", order, default=default, **options)


def flt(*, default: Any = REQUIRED, **options: Any) -> Any:
    """IEEE 754 binary32, bytes in little-endian order, at any bit position."""
    return _element("flt", default=default, **options)


def st(*, default: Any = REQUIRED, **options: Any) -> Any:
    """UTF-8 string with a final zero byte, byte aligned."""
    return _element("st", default=default, **options)


def bits(width: int | str, *, default: Any = REQUIRED, **options: Any) -> Any:
    """String of ``width`` bits at any bit position, as bytes; the last byte is filled up with zeros."""
    return _element("bits", width, default=default, **options)


def data(*, default: Any = REQUIRED, **options: Any) -> Any:
    """Bytes up to the end of the unit."""
    return _element("data", default=default, **options)


def nested(structure: type[Structure], *, default: Any = REQUIRED, **options: Any) -> Any:
    """Another structure; ``args`` are its parameters. In an array ``index`` counts the entries."""
    return _element("struct", structure=structure, default=default, **options)


def align(**options: Any) -> Any:
    """Byte alignment: one bit 1, then zeros to the byte boundary. Never empty."""
    return _element("align", **options)


def again(when: str) -> Any:
    """Second place where an element above can be coded; name the attribute ``<element>_again``."""
    return _element("again", when=when)


def local(value: str) -> Any:
    """A name for an expression, without bits and without a member."""
    return _element("local", inferred=value)


class Structure:
    """Base of all syntax structures: a frozen value with one attribute per element."""

    elements: ClassVar[tuple[Element, ...]] = ()
    parameters: ClassVar[tuple[str, ...]] = ()
    exports: ClassVar[tuple[str, ...]] = ()
    counter: ClassVar[str | None] = None
    names: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, **values: Any) -> None:
        filled = {**self.defaults, **values}
        if filled.keys() != self.names:
            unknown = sorted(filled.keys() - self.names)
            problem = f"has no element {unknown[0]}" if unknown else f"needs {min(self.names - filled.keys())}"
            raise InvalidArgumentError(f"{type(self).__name__} {problem}")
        for name, value in values.items():
            if isinstance(value, list):
                filled[name] = tuple(value)
        object.__setattr__(self, "__dict__", filled)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), tuple(vars(self)[e.name] for e in self.elements if e.is_value)))

    def __repr__(self) -> str:
        shown = (e.name for e in self.elements if e.is_value)
        values = ", ".join(f"{name}={vars(self)[name]!r}" for name in shown if vars(self)[name] is not None)
        return f"{type(self).__name__}({values})"

    def replace(self: _S, **changes: Any) -> _S:
        """A copy with other values for some elements."""
        return type(self)(**{**vars(self), **changes})

    def to_dict(self) -> dict[str, Any]:
        """The elements in bitstream order as JSON types: bytes in hexadecimal, absent elements left out."""
        return {
            e.name: _plain(vars(self)[e.name]) for e in self.elements if e.is_value and vars(self)[e.name] is not None
        }


_S = TypeVar("_S", bound=Structure)


def _plain(value: Any) -> Any:
    if isinstance(value, Structure):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


@dataclass_transform(kw_only_default=True, frozen_default=True,
                     field_specifiers=(u, i, ue, ie, flt, st, bits, data, nested))  # fmt: skip
def structure(*parameters: str, exports: tuple[str, ...] = (), counter: str | None = None) -> Any:
    """Class decorator: collect the elements in order and validate the description.

    Args:
        parameters: names the enclosing structure supplies.
        exports: elements that the context takes over after the unit (:meth:`.unit.Unit.context_after`).
        counter: number in the context that goes up by one after the unit.
    """

    def decorate(cls: type[_S]) -> type[_S]:
        elements: dict[str, Element] = {}
        for name, value in list(vars(cls).items()):
            if isinstance(value, Element):
                if value.kind == "again":
                    original = elements[name.removesuffix("_again")]
                    elements[name] = replace(original, when=value.when, repeats=True)
                else:
                    elements[name] = replace(value, name=name)
                delattr(cls, name)
        cls.elements = tuple(elements.values())
        cls.parameters = parameters
        cls.exports = exports
        cls.counter = counter
        cls.names = frozenset(e.name for e in cls.elements if e.is_value)
        cls.defaults = {e.name: e.default for e in cls.elements if e.is_value and e.default is not REQUIRED}
        _validate(cls)
        return cls

    return decorate


def _validate(cls: type[Structure]) -> None:
    seen: set[str] = set(cls.parameters) | CONTEXT_NAMES | CONSTANTS.keys()
    for element in cls.elements:
        where = f"{cls.__name__}.{element.name}"
        if element.is_value and element.when is not None and element.default is REQUIRED:
            raise TypeError(f"{where}: conditional elements need a default")
        if element.count is not None and element.min_bits == 0:
            raise TypeError(f"{where}: nothing bounds the count of entries that may be empty")
        inputs = (element.when, element.count, element.width, element.inferred)
        _resolve(where, seen, *inputs)
        _resolve(where, seen | {"index"}, *(value for _, value in element.args))
        if element.structure is not None and {n for n, _ in element.args} != set(element.structure.parameters):
            raise TypeError(f"{where}: parameters of {element.structure.__name__} do not match")
        seen.add(element.name)
        _resolve(where, seen, element.low, element.high, *(check.expression for check in element.require))
    if not {*cls.exports, cls.counter or "strict"} <= seen & CONTEXT_NAMES:
        raise TypeError(f"{cls.__name__} changes something that is not in the context")


def _resolve(where: str, seen: set[str], *expressions: Expression | None) -> None:
    for item in expressions:
        if item is not None and not item.names <= seen:
            raise TypeError(f"{where}: unknown name {set(item.names - seen)} in {item.source!r}")
