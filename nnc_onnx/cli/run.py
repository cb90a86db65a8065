"""``onnx-nnc run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as shared
from .options import ModeChoice

if TYPE_CHECKING:
    from nnc_codec.report import RunReport


def command(
    model: shared.Model,
    inputs: Annotated[
        Path | None,
        typer.Option("--inputs", metavar="NPZ", help="One array per model input; default random ones."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="NPZ", help="Write the outputs here.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="MODEL", help="Compare with this model on the same inputs."),
    ] = None,
    mode: Annotated[ModeChoice, typer.Option("--mode", help="How weights are held.")] = ModeChoice.auto,
    cache_bytes: Annotated[
        str | None,
        typer.Option("--cache-bytes", metavar="N|N%|all", help="Budget for decoded weights in modes auto and cache."),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, metavar="N", help="How often to run.")] = 5,
    dim: shared.Dims = None,
    seed: shared.Seed = 0,
    force: shared.Force = False,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Execute a packed or plain model and print latency, outputs and differences."""
    from nnc_codec.formats import RunOptions
    from nnc_codec.report import to_json

    from .registry import recognise

    settings = RunOptions(
        inputs=inputs,
        outputs=output,
        against=against,
        seed=seed,
        dims=shared.parse_dims(dim),
        runs=runs,
        mode=mode.value,
        cache_bytes=shared.parse_budget(cache_bytes),
        force=force,
    )
    model_format, _ = recognise(model)
    report = model_format.run(model, settings)
    if json:
        typer.echo(to_json(report))
    elif not quiet:
        _show(report)


def _show(report: RunReport) -> None:
    from rich.markup import escape

    from .tables import comparison_table, console, milliseconds, new_table

    out = console()
    table = new_table("output", "shape", "type", "min", "max", right=(3, 4))
    for output in report.outputs:
        table.add_row(
            escape(output.name),
            "x".join(map(str, output.shape)) or "scalar",
            output.dtype,
            "-" if output.minimum is None else f"{output.minimum:.4g}",
            "-" if output.maximum is None else f"{output.maximum:.4g}",
        )
    out.print(table)
    if report.comparison:
        out.print(f"against {report.against}:", markup=False)
        out.print(comparison_table(report.comparison))
    out.print(
        f"{report.runtime}, mode {report.mode}: load {milliseconds(report.load_seconds)}, "
        f"first run {milliseconds(report.first_seconds)}, "
        f"median of {report.runs - 1} more {milliseconds(report.median_seconds)}"
    )
    if report.against is not None:
        out.print(f"{report.against}: median {milliseconds(report.against_median_seconds)}", markup=False)
    for note in report.notes:
        out.print(f"note: {note}", markup=False)
