"""A lexical look at ``graph.nnef`` before any parser sees it.

The Khronos parser is a recursive descent in C++: deep nesting overflows its stack, integer division by zero kills
the process, and expressions are evaluated while parsing. :func:`check_text` bounds nesting, operator runs, size and
literals of every text. Texts that define fragments or use operator expressions can still make the parser work
without end, so :func:`needs_trial` tells which must first be parsed in a child process (:mod:`nnc_nnef.parse`).
"""

from __future__ import annotations

import re

import msgspec

from nnc_codec.errors import LimitExceededError

from .errors import GraphTextError


class TextLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds for ``graph.nnef`` and ``graph.quant``.

    Attributes:
        max_bytes: length of the text.
        max_depth: nesting of brackets.
        max_operator_run: operator characters in a row.
        max_statements: semicolons.
        max_literal: characters of a name, number or string.
        max_integer: largest integer literal; the parser wraps silently above.
    """

    max_bytes: int = 16 << 20
    max_depth: int = 64
    max_operator_run: int = 16
    max_statements: int = 200_000
    max_literal: int = 4096
    max_integer: int = (1 << 31) - 1


DEFAULT_LIMITS = TextLimits()

_MANY_STATEMENTS = 20_000
"""The parser's time grows with the square of the number of statements."""

# No alternative can match in two ways at one place, so the scan is linear.
_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n\r]*)
      | (?P<string>'[^'\n\r]*'|"[^"\n\r]*")
      | (?P<number>[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<open>[(\[{])
      | (?P<close>[)\]}])
      | (?P<operator>[-+*/^!&|<>=?:,.]+)
      | (?P<end>;)
    """,
    re.VERBOSE,
)
_PAIRS = {")": "(", "]": "[", "}": "{"}


def check_text(text: str, *, what: str = "graph.nnef", limits: TextLimits = DEFAULT_LIMITS) -> None:
    """Refuses a text that is dangerous to parse.

    Raises:
        GraphTextError: not ASCII, unbalanced, nested too deep, an illegal character or literal.
        LimitExceededError: longer or with more statements than `limits` allow.
    """
    if len(text) > limits.max_bytes:
        raise LimitExceededError(f"{what} has {len(text)} characters, above {limits.max_bytes}")
    if not text.isascii() or "\0" in text:
        raise GraphTextError(f"{what} is not ASCII text")
    stack: list[str] = []
    position = statements = operators = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise GraphTextError(f"{what}: unexpected character {text[position]!r} in {_line(text, position)}")
        kind, token = match.lastgroup, match.group()
        position = match.end()
        # Unary operators recurse even with blanks between them.
        operators = operators + len(token) if kind == "operator" else operators if kind == "space" else 0
        if operators > limits.max_operator_run:
            raise GraphTextError(f"{what}: more than {limits.max_operator_run} operators in {_line(text, position)}")
        if kind == "open":
            stack.append(token)
            if len(stack) > limits.max_depth:
                raise GraphTextError(f"{what}: nested deeper than {limits.max_depth} in {_line(text, position)}")
        elif kind == "close":
            if not stack or stack.pop() != _PAIRS[token]:
                raise GraphTextError(f"{what}: unbalanced {token!r} in {_line(text, position)}")
        elif kind == "end":
            statements += 1
        elif kind in ("string", "number", "name"):
            _check_literal(kind, token, f"{what}, {_line(text, position)}", limits)
    if stack:
        raise GraphTextError(f"{what}: {stack[-1]!r} is never closed")
    if statements > limits.max_statements:
        raise LimitExceededError(f"{what} has {statements} statements, above {limits.max_statements}")


def _check_literal(kind: str, token: str, where: str, limits: TextLimits) -> None:
    if len(token) > limits.max_literal:
        raise GraphTextError(f"{where}: {kind} of {len(token)} characters")
    # int() on thousands of digits is slow; ten digits already exceed the range.
    if kind == "number" and token.isdigit() and (len(token.lstrip("0")) > 10 or int(token) > limits.max_integer):
        raise GraphTextError(f"{where}: integer {token[:20]} is above {limits.max_integer}")


def _line(text: str, position: int) -> str:
    return f"line {text.count(chr(10), 0, position) + 1}"


def needs_trial(text: str) -> bool:
    """Whether parsing may take long: it evaluates expressions, expands fragments, or has very many statements."""
    if text.count(";") > _MANY_STATEMENTS:
        return True
    without_comments = re.sub(r"#[^\n\r]*", "", text)
    return re.search(r"\b(extension|fragment)\b", without_comments) is not None
