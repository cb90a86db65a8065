"""Recurrent states that a model takes as inputs and gives back as outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from .network import Feed
    from .signature import Input

STEPS = 16
"""Steps that a model with recurrent states is run for, so that errors can build up as they do in use."""

RUNS = 4
"""Runs of so many steps that plans for such a model are judged by; one says little, as models of this kind often give
one number per step."""

MOMENT_RUNS = 10
"""Runs that moments are taken from."""


class StatePair(NamedTuple):
    """A recurrent state: what the model returns as `output` it wants back as `input` in the next step."""

    input: str
    output: str


def continued(
    run: Callable[[Feed], list[NDArray[Any]]],
    outputs: Sequence[str],
    feeds: Sequence[Feed],
    states: Sequence[StatePair],
) -> Iterator[tuple[Feed, list[NDArray[Any]]]]:
    """Run a model on feeds, its states going round for :data:`STEPS` steps at a time.

    Args:
        run: runs it.
        outputs: their names.
        feeds: what it is run on.
        states: empty for a model without.

    Yields:
        What it was fed, and its outputs.
    """
    state: Mapping[str, NDArray[Any]] = {}
    for step, feed in enumerate(feeds):
        whole = {**feed, **state}
        found = run(whole)
        yield whole, found
        if states:
            named = dict(zip(outputs, found, strict=True))
            going_on = (step + 1) % STEPS != 0
            state = {pair.input: named[pair.output] for pair in states} if going_on else {}


def state_pairs(inputs: Sequence[Input], graph: onnx.GraphProto) -> list[StatePair]:
    """Float inputs that an output with a kindred name and the same shape continues."""
    outputs = {}
    for value in graph.output:
        outputs[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
    pairs: list[StatePair] = []
    for value in inputs:
        stem = _stem(value.name)
        for name, dims in outputs.items():
            alike = len(dims) == len(value.dims) and all(
                a == b or not isinstance(b, int) or a == 0 for a, b in zip(dims, value.dims, strict=True)
            )
            free = name not in {pair.output for pair in pairs}
            if value.dtype.kind == "f" and len(dims) > 1 and alike and free and stem and _stem(name) == stem:
                pairs.append(StatePair(value.name, name))
                break
    return pairs if len(pairs) < len(outputs) else []


def _stem(name: str) -> str:
    """A state's name without what tells its old value from its new one."""
    text = name.lower().replace("present", "past").replace("past_key_values", "past")
    for affix in ("_in", "_out", "input", "output", "new", "next", "prev", "old", "updated"):
        text = text.replace(affix, "")
    return text.rstrip("n0123456789_.") if text.startswith(("h", "c", "state")) else text.strip("_.")
