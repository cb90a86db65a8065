"""``onnx-nnc analyze``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as shared

if TYPE_CHECKING:
    from nnc_onnx.rd import Analysis


def command(
    model: shared.Model,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", metavar="INPUTS.npz", help="Real inputs; without them inputs are made up."),
    ] = None,
    jobs: shared.Jobs = 0,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Measure what every weight of an ONNX model costs and does to the outputs; nothing is written."""
    from nnc_codec.formats import PackOptions
    from nnc_codec.report import to_json
    from nnc_onnx.rd import analyze

    from .progress import progress_bar

    with progress_bar(f"measuring {model.name}", enabled=not (json or quiet)) as progress:
        analysis = analyze(model, PackOptions(jobs=jobs), calibration=calibration, progress=progress)
    if json:
        typer.echo(to_json(analysis))
    elif not quiet:
        _show(analysis)


def _show(analysis: Analysis) -> None:
    from .tables import console, new_table, percent, size

    out = console()
    weights = new_table("tensor", "shape", "before", "after", "output change", right=(2, 3, 4))
    for entry in analysis.tensors:
        shape = "x".join(map(str, entry.shape))
        before, after = size(entry.original_bytes), size(entry.predicted_bytes)
        weights.add_row(entry.name, shape, before, after, f"{entry.deviation:.1e}")
    out.print(weights)
    curve = new_table("packed size", "after/before", "output change", right=(0, 1, 2))
    for point in analysis.curve:
        share = percent(point.packed_bytes, analysis.original_bytes)
        curve.add_row(size(point.packed_bytes), share, f"{point.deviation:.1e}")
    out.print(curve)
    out.print(f"measured on {analysis.basis} inputs; changes are mean squares relative to the outputs' own")
    for note in analysis.notes:
        out.print(f"note: {note}", markup=False)
