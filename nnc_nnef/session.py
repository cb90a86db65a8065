"""Running NNEF models in the reference interpreter of the Khronos group, ``nnef.Session``.

The interpreter is C++ that trusts its input, so it runs in a child process (:mod:`nnc_nnef.child`). It knows
float32, int32 and bool; 16- and 64-bit variables are widened or narrowed for it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import dat
from .archive_writer import Member, from_bytes, write_archive
from .child import DEFAULT_LIMITS, ChildLimits, limits_for, run_folder
from .container import GRAPH
from .convert.fragments import INTERPRETED
from .errors import SessionError
from .labels import member_of

Array = NDArray[Any]

_CALL = re.compile(r"=\s*([a-z_][a-z0-9_]*)\s*(?:<[a-z]+>)?\s*\(")
_FRAGMENT = re.compile(r"\bfragment\s+([A-Za-z_][A-Za-z0-9_]*)")
_NOT_IMPLEMENTED = re.compile(r"operation not implemented: ([a-z_0-9]+)")


def used_operations(text: str) -> set[str]:
    """Names of the operations that a graph applies, and of the fragments it defines."""
    plain = re.sub(r"#[^\n\r]*", "", text)
    body = plain[plain.find("graph ") :]
    return set(_CALL.findall(body)) | set(_FRAGMENT.findall(plain))


def run_session(
    text: str,
    variables: Iterable[tuple[str, Callable[[], Array]]],
    inputs: Sequence[Array],
    *,
    limits: ChildLimits = DEFAULT_LIMITS,
) -> list[Array]:
    """Runs a graph on the reference interpreter.

    Args:
        text: ``graph.nnef``.
        variables: labels, each with a function that gives the values.
        inputs: in the order of the graph's inputs.
        limits: of the child process.

    Returns:
        One array per graph output.

    Raises:
        SessionError: the interpreter refuses the model, crashes, or exceeds `limits`.
    """

    def members() -> Iterable[Member]:
        yield from_bytes(GRAPH, text.encode("ascii"))
        for label, values in variables:
            yield from_bytes(member_of(label), dat.build(interpretable(values()), name=label))

    with tempfile.TemporaryDirectory(prefix="onnx-nnc-") as private:
        folder = Path(private, "model")
        write_archive(folder, members(), kind="directory")
        feed = [interpretable(array) for array in inputs]
        return with_lowering(used_operations(text), lambda lowered: run_folder(folder, feed, lowered, limits))


def checking_session(
    text: str, variables: Sequence[tuple[str, Callable[[], Array]]], inputs: Sequence[Array], values_bytes: int
) -> list[Array]:
    """:func:`run_session` for the check after a conversion; its errors say how to do without."""
    try:
        return run_session(text, variables, inputs, limits=limits_for(values_bytes))
    except SessionError as error:
        error.hint = error.hint or "--no-check converts without comparing outputs"
        raise


def with_lowering(used: set[str], run: Callable[[list[str]], list[Array]]) -> list[Array]:
    """Calls `run` with the operations that have to be expanded.

    The interpreter has only special cases of some operations; those are expanded once it says so.
    """
    lowered = used - INTERPRETED
    while True:
        try:
            return run(sorted(lowered))
        except (SessionError, ValueError) as error:
            missing = _NOT_IMPLEMENTED.search(str(error))
            if missing is None or missing.group(1) in lowered or missing.group(1) not in used:
                raise
            lowered = lowered | {missing.group(1)}


def interpretable(array: Array) -> Array:
    """The array in one of the three types the interpreter knows.

    Raises:
        SessionError: an integer does not fit 32 bits.
    """
    if array.dtype.kind == "f":
        return np.asarray(array, np.float32)
    if array.dtype.kind == "b":
        return array
    if array.size and (int(array.min()) < -(1 << 31) or int(array.max()) >= 1 << 31):
        raise SessionError("an integer does not fit the interpreter's 32 bits")
    return np.asarray(array, np.int32)


def by_label(variables: Mapping[str, Array]) -> list[tuple[str, Callable[[], Array]]]:
    """`variables` in the form :func:`run_session` takes."""
    return [(label, lambda value=value: value) for label, value in variables.items()]  # type: ignore[misc]
