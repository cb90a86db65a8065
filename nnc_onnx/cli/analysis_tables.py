"""The report of ``onnx-nnc analyze`` as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tables import new_table, percent, size

if TYPE_CHECKING:
    from rich.table import Table

    from nnc_onnx.rd import Analysis


def weight_table(analysis: Analysis) -> Table:
    """One row per coded tensor."""
    from rich.markup import escape

    table = new_table(
        "tensor", "shape", "before", "after", "bits/w", "error", "zeros", "sensitivity", right=range(2, 8)
    )
    for entry in analysis.tensors:
        table.add_row(
            escape(entry.name),
            "x".join(map(str, entry.shape)),
            size(entry.original_bytes),
            "shared" if entry.same_as else size(entry.predicted_bytes),
            f"{entry.bits_per_weight:.2f}",
            f"{entry.error:.1e}" if entry.error else "exact",
            "-" if entry.sparsity is None else percent(entry.sparsity, 1),
            _change(entry.sensitivity),
        )
    return table


def curve_table(analysis: Analysis) -> Table:
    """The rate-distortion curve."""
    table = new_table("packed size", "after/before", "output change", right=range(3))
    for point in analysis.curve:
        share = percent(point.packed_bytes, analysis.original_bytes)
        table.add_row(size(point.packed_bytes), share, _change(point.deviation))
    return table


def rung_table(analysis: Analysis) -> Table:
    """What ways of packing give."""
    table = new_table("pack with", "packed size", "after/before", "bits/w", "output change", right=range(1, 5))
    for rung in analysis.rungs:
        table.add_row(
            f"{rung.options} (default)" if rung.is_default else rung.options,
            size(rung.packed_bytes),
            percent(rung.packed_bytes, analysis.original_bytes),
            f"{rung.bits_per_weight:.2f}",
            _change(rung.deviation),
        )
    return table


def compressor_table(analysis: Analysis) -> Table:
    """What general-purpose compressors give."""
    table = new_table("compressor", "weights", "size", "after/before", right=(2, 3))
    for entry in analysis.lossless:
        about = "~" if entry.estimated else ""
        share = percent(entry.packed_bytes, analysis.original_bytes)
        table.add_row(entry.compressor, entry.content, about + size(entry.packed_bytes), share)
    return table


def _change(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
