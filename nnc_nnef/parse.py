"""Parsing ``graph.nnef`` with the Khronos parser, after the guard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import guard
from .child import DEFAULT_LIMITS as CHILD_LIMITS
from .child import ChildLimits, trial_parse
from .errors import GraphTextError


def parse_graph(
    text: str,
    quant: str | None = None,
    *,
    lowered: Sequence[str] = (),
    limits: ChildLimits = CHILD_LIMITS,
) -> Any:
    """Parses a graph and its quantization file into ``nnef.Graph`` without loading variables.

    Args:
        text: ``graph.nnef``.
        quant: ``graph.quant``, if there is one.
        lowered: operations to replace by the body of their fragment.
        limits: of the child process in which texts with fragments or expressions are parsed first.

    Raises:
        GraphTextError: refused by the guard or by the parser.
        LimitExceededError: above the limits of the guard.
    """
    guard.check_text(text)
    if quant is not None:
        guard.check_text(quant, what="graph.quant")
    if guard.needs_trial(text) or lowered:
        trial_parse(text, quant, lowered, limits)
    import nnef

    try:
        return nnef.parse_string(text, quant, lowered=list(lowered))
    except (nnef.Error, ValueError, TypeError) as error:
        raise GraphTextError(f"graph.nnef cannot be parsed: {error}") from error
