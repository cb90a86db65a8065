"""``onnx-nnc diff``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as shared
from .options import MethodChoice

if TYPE_CHECKING:
    from nnc_codec.update_report import DiffReport


def command(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The model that the receiver has.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The model to get to; same network, other weights.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Update to write; default beside NEW.")
    ] = None,
    after: Annotated[
        list[Path] | None,
        typer.Option("--after", metavar="UPDATE", help="Update between BASE and NEW, oldest first (repeatable)."),
    ] = None,
    qp: Annotated[
        int | None,
        typer.Option("--qp", help="Quantization parameter of all differences; default: chosen per tensor."),
    ] = None,
    method: shared.Quantizer = MethodChoice.dq,
    context: Annotated[
        bool,
        typer.Option("--context/--no-context", help="Let the coding depend on the updates before where it helps."),
    ] = True,
    jobs: shared.Jobs = 0,
    force: shared.Force = False,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Write what turns BASE into NEW as one small NNR bitstream; see apply."""
    from nnc_codec.abilities import DiffOptions, updater
    from nnc_codec.report import to_json

    from .progress import progress_bar
    from .registry import recognise

    settings = DiffOptions(
        after=tuple(after or ()),
        qp=qp,
        method=method.value,
        temporal_context=context,
        history=context,
        jobs=jobs,
        force=force,
    )
    model_format, _ = recognise(base)
    recognise(new)
    worker = updater(model_format, base, "diff")
    target = output or worker.default_update(new)
    with progress_bar(f"comparing {new.name}", enabled=not (json or quiet)) as progress:
        report = worker.diff(base, new, target, settings, progress=progress)
    if json:
        typer.echo(to_json(report))
    elif not quiet:
        _show(report, verbose=verbose)


def _show(report: DiffReport, *, verbose: bool) -> None:
    from rich.markup import escape

    from .tables import console, error_text, new_table, percent, size

    out = console()
    if verbose:
        table = new_table("tensor", "shape", "type", "change", "step", "bytes", "error", right=range(4, 7))
        for tensor in report.changed:
            how = f"{tensor.change}, {tensor.method}" if tensor.method else tensor.change
            table.add_row(
                escape(tensor.name),
                "x".join(map(str, tensor.shape)) or "scalar",
                tensor.dtype,
                how + (", temporal context" if tensor.temporal_context else ""),
                "-" if tensor.step is None else f"{tensor.step:.4g}",
                str(tensor.coded_bytes),
                error_text(tensor.error),
            )
        out.print(table)
    share = percent(report.update_bytes, report.new_bytes)
    out.print(
        f"{len(report.changed)} of {len(report.tensors)} tensors changed: "
        f"{size(report.update_bytes)}, {share} of the new model's {size(report.new_bytes)}"
    )
    worst = report.worst
    if worst is not None:
        out.print(f"worst relative error of the result {error_text(worst.error)} ({worst.name})", markup=False)
    for note in report.notes:
        out.print(f"note: {note}", markup=False)
    out.print(f"from {report.base_model_id}", markup=False)
    out.print(f"to   {report.result_model_id}", markup=False)
    out.print(f"wrote {report.output}", markup=False)
