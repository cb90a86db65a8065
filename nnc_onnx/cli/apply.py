"""``onnx-nnc apply``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options as shared


def command(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The model that the first update was made for.")],
    updates: Annotated[list[Path], typer.Argument(metavar="UPDATE...", help="Updates, oldest first.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Model to write; default beside BASE.")
    ] = None,
    external_data: Annotated[
        bool | None,
        typer.Option("--external-data/--embed", help="Weights in a file beside the model; default above 1 GiB."),
    ] = None,
    jobs: shared.Jobs = 0,
    force: shared.Force = False,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Add updates to BASE and write the plain model; updates that BASE holds already may be given too."""
    from nnc_codec.abilities import ApplyOptions, updater
    from nnc_codec.report import to_json

    from .progress import progress_bar
    from .registry import recognise
    from .tables import console, size

    settings = ApplyOptions(external_data=external_data, jobs=jobs, force=force)
    model_format, _ = recognise(base)
    worker = updater(model_format, base, "apply")
    target = output or worker.default_updated(base)
    with progress_bar(f"updating {base.name}", enabled=not (json or quiet)) as progress:
        report = worker.apply(base, updates, target, settings, progress=progress)
    if json:
        typer.echo(to_json(report))
    elif not quiet:
        out = console()
        for update in report.updates:
            done = f"changed {update.changed} tensors" if update.applied else "is in the base already"
            out.print(f"{update.path} ({size(update.nbytes)}) {done}", markup=False)
        out.print(f"now {report.model_id}", markup=False)
        out.print(f"wrote {report.output}, {size(report.output_bytes)}", markup=False)
