"""``onnx-nnc inspect``."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options as shared


def command(
    model: shared.Model,
    syntax: Annotated[
        bool, typer.Option("--syntax", help="Print every syntax element of every bitstream in the file.")
    ] = False,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Describe a packed or plain model: every coded tensor, with -v every plain one too."""
    from nnc_codec.report import to_json

    from .registry import recognise
    from .syntax import print_syntax
    from .tables import console, size, tensor_table

    model_format, _ = recognise(model)
    if syntax:
        print_syntax(model_format, model, json=json)
        return
    report = model_format.inspect(model)
    if json:
        typer.echo(to_json(report))
        return
    if quiet:
        return
    out = console()
    coded = [tensor for tensor in report.tensors if tensor.treatment == "coded"]
    plain = len(report.tensors) - len(coded)
    shown = report.tensors if verbose or not report.packed else coded
    if shown:
        out.print(tensor_table(shown))
    kind = f"packed, carriage {report.carriage}" if report.packed else "plain"
    out.print(f"{report.source}: {report.format}, {kind}, {size(report.file_bytes)}", markup=False)
    if report.producer:
        out.print(f"written by {report.producer}", markup=False)
    out.print(f"{len(coded)} coded tensors, {plain} plain ones")
    for note in report.notes:
        out.print(f"note: {note}", markup=False)
