"""Compiles a structure's description to a reader for bits without fault: the way nearly every unit is read.

Numbers are cut out of one large integer, a window on the next bytes, instead of being asked for one by one, and what
depends on the same condition is read under one test. The price is that nothing can be explained here: whatever is
not plain and in order raises :class:`ValueError`, and the caller reads again with :func:`.codec.reader`, which knows
what to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from .bit_reader import MAX_PREFIX, BitReader
from .codec import Read
from .fields import REQUIRED, Check, Element, Structure
from .source import Compiled

_WINDOW = 40
_LOW = 128
"""Bits below which the window is moved on before an element of unknown size; no number needs more."""

_MASKS = tuple((1 << held) - 1 for held in range(8 * _WINDOW + 1))
_SHORT_STRING = 160
_NUMBERS = ("u", "i", "ue", "ie")


class PlainBits(BitReader):
    """A reader that raises :class:`ValueError` at everything worth a word."""

    __slots__ = ()

    def fail(self, kind: str, name: str, why: str) -> NoReturn:
        """A check that fails."""
        raise ValueError

    def refuse(self, name: str, why: str) -> NoReturn:
        """An element that must not be read."""
        raise ValueError

    def truncated(self, name: str) -> NoReturn:
        """A read past the end of the unit."""
        raise ValueError

    def warn(self, name: str, why: str) -> None:
        """A deviation."""
        raise ValueError


class QuickRead(Read):
    """Source of a reader that keeps to the window: ``w`` its bits, ``r`` how many are left, ``e`` where it ends.

    The window may reach beyond the unit; that the structure does not is found out at its end.
    """

    def __init__(self, cls: type[Structure]) -> None:
        super().__init__(cls)
        values = {e.name: None if e.default is REQUIRED else e.default for e in cls.elements if e.is_value}
        self.scope |= {"MASKS": _MASKS, "FROM_BYTES": int.from_bytes, "ABSENT": values}
        self.asked_for = {name for e in cls.elements for expression in e.expressions for name in expression.names}
        self.put(0, "v = ABSENT.copy(); d = b.data; p = b.position")
        self.load(0)

    @staticmethod
    def run(structure: type[Structure]) -> Callable[..., Any]:
        """The function for a nested structure."""
        return quick_reader(structure)

    def body(self) -> None:
        """All elements; numbers that depend on the same condition share its test."""
        group: list[Element] = []
        for element in self.cls.elements:
            if group and not (_is_conditional_number(element) and element.when is group[0].when):
                self.together(group)
                group = []
            if _is_conditional_number(element):
                group.append(element)
            else:
                self.element(element)
        self.together(group)

    def together(self, group: list[Element]) -> None:
        """Numbers under one test. Their checks come after the last one, since they explain nothing here."""
        if not group or group[0].when is None:
            return
        self.put(0, f"if {self.text(group[0].when)}:")
        for element in group:
            self.number(element, 1, _stored(element))
            self.bounds(element, 1)
            self.known.add(element.name)
        self.otherwise(group)
        for element in group:
            self.checks(element)

    def load(self, depth: int) -> None:
        """Open the window at bit ``p``."""
        self.put(depth, f"t = d[p >> 3:(p >> 3) + {_WINDOW}]")
        self.put(depth, "w = FROM_BYTES(t, 'big'); r = 8 * len(t) - (p & 7); e = p + r")

    def move_on(self, depth: int) -> None:
        """Open the window anew if little is left of it."""
        self.put(depth, f"if r < {_LOW}:")
        self.put(depth + 1, "p = e - r")
        self.load(depth + 1)

    def leave_window(self, depth: int) -> None:
        """Tell the reader the position, unless it is beyond the unit."""
        self.put(depth, "p = b.position = e - r")
        self.refuse(depth, "p > b.end")

    def refuse(self, depth: int, condition: str) -> None:
        """Leave it to the careful reader."""
        self.put(depth, f"if {condition}: raise ValueError")

    def unverified(self, element: Element, depth: int) -> None:
        """Unconfirmed syntax is refused by the careful reader."""
        self.refuse(depth, "c.strict")

    def absent(self, element: Element) -> None:
        """What an absent element is worth."""
        if element.is_value:
            self.otherwise([element])

    def otherwise(self, elements: list[Element]) -> None:
        """What absent elements are worth. Defaults are in the value already, but expressions may ask for them."""
        wanted = [element for element in elements if element.inferred is not None or element.name in self.asked_for]
        if wanted:
            self.put(0, "else:")
        for element in wanted:
            if element.inferred is None:
                self.put(1, f"{element.name} = {self.constant(element)}")
            else:
                self.put(1, f"{_stored(element)} = {self.text(element.inferred)}")
                self.bounds(element, 1)

    def bounds(self, element: Element, depth: int) -> None:
        """The range; unsigned numbers are not compared with zero."""
        if element.high is not None and element.count is None and _is_unsigned(element):
            self.refuse(depth, f"{element.name} > {self.text(element.high)}")
        else:
            super().bounds(element, depth)

    def out_of_range(self, element: Element, depth: int, outside: str, message: str) -> None:
        """Values out of range are reported by the careful reader."""
        self.refuse(depth, outside)

    def violated(self, element: Element, condition: str, check: Check) -> None:
        """So are conditions that do not hold."""
        self.refuse(0, condition)

    def present(self, element: Element, depth: int) -> None:
        """Read one element, or all entries of an array."""
        name = element.name
        if element.count is None:
            self.read_one(element, depth, _stored(element))
        else:
            self.put(depth, f"n = {self.text(element.count)}")
            self.refuse(depth, f"n < 0 or n * {element.min_bits} > b.end - e + r")
            self.put(depth, "items = []")
            self.put(depth, "for index in range(n):")
            self.move_on(depth + 1)
            self.read_one(element, depth + 1, "item")
            self.put(depth + 1, "items.append(item)")
            self.put(depth, f"{_stored(element)} = tuple(items)")
            self.move_on(depth)
        if element.reserved is not None:
            self.refuse(depth, f"{name} != {element.reserved}")

    def read_one(self, element: Element, depth: int, target: str) -> None:
        """Read one entry into the variable ``target``."""
        if element.kind in _NUMBERS:
            self.number(element, depth, target)
        elif element.kind == "align":
            self.put(depth, "n = (r & 7) or 8; r -= n")
            self.refuse(depth, "(w >> r) & MASKS[n] != 1 << (n - 1)")
        elif element.kind == "st":
            self.string(element, depth, target)
        else:
            self.leave_window(depth)
            self.put(depth, f"{target} = {self.call(element)}")
            self.put(depth, "r = e - b.position")
            self.move_on(depth)

    def number(self, element: Element, depth: int, target: str) -> None:
        """A number; a shift by less than nothing, when the window ends too early, raises :class:`ValueError`."""
        width = self.text(element.width) if element.width is not None else ""
        if element.kind in ("u", "i"):
            if element.fixed_width:
                mask, sign = str((1 << element.fixed_width) - 1), str(1 << (element.fixed_width - 1))
            else:
                self.put(depth, f"n = {width}")
                width, mask, sign = "n", "((1 << n) - 1)", "(1 << (n - 1))"
            bits = f"(w >> r) & {mask}"
            value = bits if element.kind == "u" else f"(({bits}) ^ {sign}) - {sign}"
            self.put(depth, f"r -= {width}; {target} = {value}")
            return
        extra, base = str(element.fixed_width + 1), str(1 << element.fixed_width)
        if not element.fixed_width:
            self.put(depth, f"n = {width}")
            extra, base = "(n + 1)", "(1 << n)"
        self.put(depth, "q = w & MASKS[r]; z = r - q.bit_length()")
        if not _is_short(element):
            self.refuse(depth, f"z > {MAX_PREFIX}")
        if element.kind == "ie":
            self.put(depth, f"r -= z + z + {extra}; q = (q >> r) - {base}")
            self.put(depth, f"{target} = (q + 1) >> 1 if q & 1 else -(q >> 1)")
        else:
            self.put(depth, f"r -= z + z + {extra}; {target} = (q >> r) - {base}")

    def string(self, element: Element, depth: int, target: str) -> None:
        """A short string; others are read by the reader's method."""
        self.refuse(depth, "r & 7")
        self.put(depth, f"k = (e - r) >> 3; t = bytes(d[k:k + {_SHORT_STRING}]); n = t.find(0)")
        self.put(depth, "if 0 <= n <= c.max_name_bytes:")
        self.put(depth + 1, f"{target} = t[:n].decode(); p = 8 * (k + n + 1)")
        self.put(depth, "else:")
        self.leave_window(depth + 1)
        self.put(depth + 1, f"{target} = {self.call(element)}; p = b.position")
        self.load(depth)

    def finish(self) -> None:
        """Hand out the value, unless it took more than the unit holds."""
        self.leave_window(0)
        self.put(0, "value = NEW(CLS)")
        self.put(0, "SET(value, '__dict__', v)")
        self.put(0, "return value")


def _stored(element: Element) -> str:
    """Targets of an assignment: the value under construction, and a variable for the expressions that follow."""
    return f"v[{element.name!r}] = {element.name}" if element.kind != "align" else ""


def _is_unsigned(element: Element) -> bool:
    return element.kind in ("u", "ue") and element.low is not None and element.low.source == "0"


def _is_short(element: Element) -> bool:
    """Whether the range of an unsigned Exp-Golomb code rules out the prefixes that are too long."""
    high = element.high.source if element.kind == "ue" and element.high is not None else ""
    return high.isdigit() and int(high) < (1 << (MAX_PREFIX + 1)) - 1


def _is_conditional_number(element: Element) -> bool:
    return (
        element.kind in _NUMBERS
        and element.when is not None
        and element.count is None
        and element.unverified is None
        and element.reserved is None
        and not element.repeats
    )


_READERS = Compiled(QuickRead)


def quick_reader(cls: type[Structure]) -> Callable[..., Any]:
    """``read(plain_bits, context, *parameters) -> cls``; :class:`ValueError` asks for :func:`.codec.reader`."""
    return _READERS[cls]
