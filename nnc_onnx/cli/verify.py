"""``onnx-nnc verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options as shared


def command(
    model: shared.Model,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="MODEL", help="The original, to compare values with.")
    ] = None,
    max_rel_error: Annotated[
        float | None,
        typer.Option("--max-rel-error", min=0, metavar="X", help="Largest relative rms error that passes."),
    ] = None,
    run: Annotated[
        bool,
        typer.Option("--run", help="Compare outputs of the packed and the unpacked model in the runtime."),
    ] = False,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", metavar="NPZ", help="Inputs for --run; default random ones.")
    ] = None,
    dim: shared.Dims = None,
    seed: shared.Seed = 0,
    jobs: shared.Jobs = 0,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Check a packed model: checksums, hashes, headers, full decode; on request values and outputs."""
    from nnc_codec.formats import VerifyOptions
    from nnc_codec.report import to_json

    from .progress import progress_bar
    from .registry import recognise
    from .tables import comparison_table, console, tensor_table

    settings = VerifyOptions(
        against=against,
        max_rel_error=max_rel_error,
        run=run,
        inputs=inputs,
        dims=shared.parse_dims(dim),
        seed=seed,
        jobs=jobs,
    )
    model_format, _ = recognise(model)
    with progress_bar(f"verifying {model.name}", enabled=not (json or quiet)) as progress:
        report = model_format.verify(model, settings, progress=progress)
    if json:
        typer.echo(to_json(report))
    elif not quiet:
        out = console()
        if verbose:
            out.print(tensor_table(report.tensors))
        if report.outputs:
            out.print(comparison_table(report.outputs))
        if report.ok:
            for note in report.notes:
                out.print(f"note: {note}", markup=False)
            out.print(
                f"{report.source}: {len(report.tensors)} tensors ok ({', '.join(report.checks)})",
                markup=False,
            )
    if not json:
        for finding in report.findings:
            typer.echo(f"error {finding.code}: {finding.message}", err=True)
    raise typer.Exit(report.exit_code)
