"""``onnx-nnc convert``."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options as shared
from .options import PayloadChoice


def command(
    model: shared.Model,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="Format to write: onnx, nnef or nnr.")],
    output: shared.Output = None,
    payloads: Annotated[
        PayloadChoice,
        typer.Option("--payloads", help="What to do with payloads that cannot be carried over untouched."),
    ] = PayloadChoice.refuse,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Compare the outputs of both models.")] = True,
    dim: shared.Dims = None,
    shape: Annotated[
        list[str] | None,
        typer.Option("--shape", metavar="INPUT=1x3x224x224", help="Shape of an input (repeatable)."),
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option("--fix", metavar="INPUT=NUMBER", help="Make an input a constant, e.g. one that selects a branch."),
    ] = None,
    force: shared.Force = False,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Turn a model into another format; coded weights are carried over without decoding."""
    from rich.markup import escape

    from nnc_codec.formats import ConvertOptions, by_name, converter
    from nnc_codec.report import to_json

    from .progress import progress_bar
    from .registry import recognise
    from .tables import comparison_table, console, new_table

    settings = ConvertOptions(
        payloads=payloads.value,
        check=check,
        dims=shared.parse_dims(dim),
        input_shapes=shared.parse_shapes(shape),
        fixed_inputs=shared.parse_numbers(fix),
        force=force,
    )
    source_format, kind = recognise(model)
    worker = converter(source_format.name, to)
    stem = source_format.default_output(model, "pack").with_suffix("").with_suffix("")
    target = output or by_name(to).default_output(stem, "pack" if kind == "packed" else "unpack")
    with progress_bar(f"converting {model.name}", enabled=not (json or quiet)) as progress:
        report = worker.convert(model, target, to, settings, progress=progress)
    if json:
        typer.echo(to_json(report))
        return
    if quiet:
        return
    out = console()
    if verbose:
        table = new_table("tensor", "becomes", "how", "why")
        for tensor in report.tensors:
            table.add_row(escape(tensor.name), escape(tensor.target), tensor.action, escape(tensor.reason or ""))
        out.print(table)
    if report.comparison:
        out.print(comparison_table(report.comparison))
    for note in report.notes:
        out.print(f"note: {note}", markup=False)
    out.print(f"wrote {report.output}", markup=False)
