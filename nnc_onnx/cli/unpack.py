"""``onnx-nnc unpack``."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options as shared


def command(
    model: shared.Model,
    output: shared.Output = None,
    external_data: Annotated[
        bool | None,
        typer.Option("--external-data/--embed", help="Weights in a file beside the model; default above 1 GiB."),
    ] = None,
    shell: Annotated[
        bool,
        typer.Option("--shell", help="ONNX: the graph alone, for runtimes that get decoded weights in memory."),
    ] = False,
    jobs: shared.Jobs = 0,
    force: shared.Force = False,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Write the plain model with the decoded weights; m.nnc.onnx becomes m.plain.onnx."""
    from nnc_codec.formats import UnpackOptions
    from nnc_codec.report import to_json

    from .progress import progress_bar
    from .registry import recognise
    from .tables import console, size

    settings = UnpackOptions(external_data=external_data, jobs=jobs, force=force)
    model_format, _ = recognise(model)
    target = output or model_format.default_output(model, "unpack")
    if shell:
        if model_format.name != "onnx":
            raise typer.BadParameter(f"{model} is not an ONNX model", param_hint="--shell")
        from nnc_onnx.runtime.shell import unpack_shell

        report = unpack_shell(model, target, settings)
    else:
        with progress_bar(f"unpacking {model.name}", enabled=not (json or quiet)) as progress:
            report = model_format.unpack(model, target, settings, progress=progress)
    if json:
        typer.echo(to_json(report))
    elif not quiet:
        out = console()
        for note in report.notes:
            out.print(f"note: {note}", markup=False)
        out.print(
            f"decoded {report.tensors} tensors in {report.seconds:.1f} s: "
            f"{size(report.packed_bytes)} -> {size(report.unpacked_bytes)}"
        )
        out.print(f"wrote {report.output}", markup=False)
