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
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="PAGE.html", help="Write a page with charts that needs nothing else."),
    ] = None,
    jobs: shared.Jobs = 0,
    force: shared.Force = False,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Measure what every weight of an ONNX model costs and does to the outputs, and what ways of packing give."""
    from nnc_codec.files import require_writable
    from nnc_codec.formats import PackOptions
    from nnc_codec.report import to_json
    from nnc_onnx.rd import analyze, write_page

    from .progress import progress_bar

    if html is not None:
        require_writable(html, force=force)
    with progress_bar(f"measuring {model.name}", enabled=not (json or quiet)) as progress:
        analysis = analyze(model, PackOptions(jobs=jobs), calibration=calibration, progress=progress)
    if html is not None:
        write_page(analysis, html, force=force)
    if json:
        typer.echo(to_json(analysis))
    elif not quiet:
        _show(analysis)
        if html is not None:
            typer.echo(f"wrote {html}")


def _show(analysis: Analysis) -> None:
    from .analysis_tables import compressor_table, curve_table, rung_table, weight_table
    from .tables import console

    out = console()
    out.print(weight_table(analysis))
    if analysis.curve:
        out.print(curve_table(analysis))
    out.print(rung_table(analysis))
    out.print(compressor_table(analysis))
    if analysis.basis != "statistics":
        out.print(f"measured on {analysis.basis} inputs; changes are mean squares relative to the outputs' own")
    for note in analysis.notes:
        out.print(f"note: {note}", markup=False)
