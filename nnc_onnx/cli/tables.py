"""Reports as people read them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from nnc_codec.report import ErrorMeasure, OutputComparison, TensorReport

_PIPED_WIDTH = 200
_UNITS = ("B", "kB", "MB", "GB", "TB")


def console() -> Console:
    """stdout; wide enough for a table row per line when it goes into a file or a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH, highlight=False, soft_wrap=False)


def size(nbytes: float) -> str:
    """``1234567`` -> ``"1.23 MB"`` (powers of 1000)."""
    value = float(nbytes)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return ""


def percent(part: float, whole: float) -> str:
    """Share in per cent."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def milliseconds(seconds: float | None) -> str:
    """Latency for a table cell."""
    return "-" if seconds is None else f"{1000 * seconds:.2f} ms"


def error_text(error: ErrorMeasure | None) -> str:
    """Relative rms error, or a dash."""
    if error is None:
        return "-"
    return "exact" if error.max_abs == 0 else f"{error.rel_rms:.2e}"


def new_table(*columns: str, right: Iterable[int] = ()) -> Table:
    """A plain table; the columns numbered in `right` hold numbers."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numbers = set(right)
    for position, column in enumerate(columns):
        if position in numbers:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table


def tensor_table(tensors: Sequence[TensorReport]) -> Table:
    """One row per tensor."""
    from rich.markup import escape

    sparse = any(tensor.sparsity for tensor in tensors)
    zeros = ("zeros",) if sparse else ()
    table = new_table(
        "tensor", "shape", "type", "coded as", "qp", "step", "bits/w", "bytes", "error", *zeros, right=range(4, 10)
    )
    for tensor in tensors:
        if tensor.treatment == "coded":
            how = f"{tensor.payload_type} {tensor.method or ''}".strip()
            if tensor.same_as:
                how += f", shares the payload of {tensor.same_as}"
        else:
            how = f"plain: {tensor.reason}" if tensor.reason else "plain"
        table.add_row(
            escape(tensor.name),
            "x".join(map(str, tensor.shape)) or "scalar",
            tensor.dtype,
            escape(how),
            "-" if tensor.qp is None else str(tensor.qp),
            "-" if tensor.step is None else f"{tensor.step:.4g}",
            f"{tensor.bits_per_weight:.2f}",
            str(tensor.stored_bytes),
            error_text(tensor.error),
            *(("-" if tensor.sparsity is None else percent(tensor.sparsity, 1),) if sparse else ()),
        )
    return table


def comparison_table(outputs: Sequence[OutputComparison]) -> Table:
    """One row per compared output."""
    from rich.markup import escape

    table = new_table("output", "shape", "type", "max abs diff", "rel rms", right=(3, 4))
    for output in outputs:
        error = output.error
        table.add_row(
            escape(output.name),
            "x".join(map(str, output.shape)) or "scalar",
            output.dtype,
            "0" if output.identical else "-" if error is None else f"{error.max_abs:.3g}",
            "identical" if output.identical else error_text(error),
        )
    return table
