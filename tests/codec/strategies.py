"""Random legal values of any syntax structure, drawn from its own description."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from nnc_codec.syntax.bit_reader import MAX_PREFIX
from nnc_codec.syntax.context import Context
from nnc_codec.syntax.enums import CONSTANTS
from nnc_codec.syntax.expressions import HELPERS, Expression
from nnc_codec.syntax.fields import Element, Structure

TRIES = 12
SMALL = 4

names = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=12)
floats = st.integers(0, (1 << 32) - 1).map(
    lambda bits: struct.unpack("<f", bits.to_bytes(4, "little"))[0]
).filter(lambda value: value == value)  # fmt: skip


class _Scope:
    """Values that an expression of the description can see."""

    def __init__(self, context: Context, parameters: dict[str, int]) -> None:
        self.context = context
        self.values: dict[str, Any] = dict(parameters)

    def evaluate(self, expression: Expression, **extra: Any) -> Any:
        scope = {**HELPERS, **CONSTANTS, **self.values, **extra}
        for name in expression.names - scope.keys():
            scope[name] = getattr(self.context, name)
        return eval(expression.source, scope)


def _bounds(element: Element, scope: _Scope) -> tuple[int, int]:
    width = scope.evaluate(element.width) if element.width is not None else 0
    if element.kind == "u":
        low, high = 0, (1 << width) - 1
    elif element.kind == "i":
        low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    else:
        high = (1 << width) * ((1 << (MAX_PREFIX + 1)) - 1) - 1
        low, high = (-(high // 2), high // 2) if element.kind == "ie" else (0, high)
    if element.low is not None and element.high is not None:
        low, high = max(low, scope.evaluate(element.low)), min(high, scope.evaluate(element.high))
    return low, high


@st.composite
def _entry(draw: Any, element: Element, scope: _Scope, counts: frozenset[str], index: int) -> Any:
    if element.structure is not None:
        given = {name: scope.evaluate(text, index=index) for name, text in element.args}
        return draw(structures(element.structure, scope.context, **given))
    if element.kind == "flt":
        return draw(floats)
    if element.kind == "st":
        return draw(names)
    if element.kind == "data":
        return draw(st.binary(max_size=20))
    if element.kind == "bits":
        width = scope.evaluate(element.width)
        number = draw(st.integers(0, (1 << width) - 1)) << (-width & 7)
        return number.to_bytes((width + 7) // 8, "big")
    low, high = _bounds(element, scope)
    assume(low <= high)
    if element.reserved is not None:
        return element.reserved
    if element.name in counts:
        return draw(st.integers(low, min(high, low + SMALL)))
    near = st.integers(low, min(high, low + 300)) if low >= 0 else st.integers(max(low, -300), min(high, 300))
    return draw(st.one_of(near, near, st.integers(low, high)))


@st.composite
def _value(draw: Any, element: Element, scope: _Scope, counts: frozenset[str]) -> Any:
    if element.count is None:
        return draw(_entry(element, scope, counts, 0))
    count = scope.evaluate(element.count)
    return tuple(draw(_entry(element, scope, counts, index)) for index in range(count))


@st.composite
def structures(draw: Any, cls: type[Structure], context: Context, **parameters: int) -> Structure:
    """A legal value of ``cls``: every element within its range, every condition kept."""
    scope = _Scope(context, parameters)
    counts = frozenset().union(
        *(e.count.names for e in cls.elements if e.count is not None),
        *(e.width.names for e in cls.elements if e.kind == "bits" and e.width is not None),
        *(text.names for e in cls.elements for _, text in e.args),
    )
    result: dict[str, Any] = {}
    for element in cls.elements:
        if element.kind == "local":
            scope.values[element.name] = scope.evaluate(element.inferred)
            continue
        present = element.when is None or bool(scope.evaluate(element.when))
        if element.repeats:
            if present:
                result[element.name] = scope.values[element.name] = draw(_value(element, scope, counts))
            continue
        if not element.is_value:
            continue
        for _ in range(TRIES):
            value = draw(_value(element, scope, counts)) if present else element.default
            if not present and element.inferred is not None:
                value = scope.evaluate(element.inferred)
            scope.values[element.name] = value
            skipped = element.only_if_present and not present
            if skipped or all(scope.evaluate(check.expression) for check in element.require):
                break
        else:
            assume(False)
        result[element.name] = value
    return cls(**result)
