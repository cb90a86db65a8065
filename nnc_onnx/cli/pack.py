"""``onnx-nnc pack``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as shared
from .options import MethodChoice, PresetChoice, TopologyChoice

if TYPE_CHECKING:
    from nnc_codec.report import PackReport


def command(
    model: shared.Model,
    output: shared.Output = None,
    qp: Annotated[
        int | None,
        typer.Option("--qp", help="Quantization parameter of all weights; default: chosen per tensor."),
    ] = None,
    qp_density: Annotated[int, typer.Option("--qp-density", min=0, max=7, help="mps_qp_density.")] = 2,
    method: shared.Quantizer = MethodChoice.dq,
    sparsity: Annotated[
        str | None,
        typer.Option("--sparsity", metavar="P%", help="Share of weights to become zero before they are quantized."),
    ] = None,
    optimize: Annotated[
        bool,
        typer.Option(
            "--optimize", help="Let onnxruntime simplify the graph first; what is unpacked is simplified too."
        ),
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", metavar="PATTERN", help="Code these tensors too (repeatable)."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", metavar="PATTERN", help="Leave these tensors (repeatable)."),
    ] = None,
    min_elements: Annotated[
        int | None,
        typer.Option("--min-elements", min=0, metavar="N", help="Code smaller tensors finely, like vectors."),
    ] = None,
    group_below: Annotated[
        int | None,
        typer.Option("--group-below", min=0, metavar="N", help="Smaller tensors share bitstreams; 0: they stay plain."),
    ] = None,
    keep_names: Annotated[
        bool, typer.Option("--keep-names", help="Leave the names of nodes and values in the file.")
    ] = False,
    external_data: Annotated[
        bool | None,
        typer.Option("--external-data/--embed", help="Payloads in a file beside the model; default above 1 GiB."),
    ] = None,
    topology: Annotated[
        TopologyChoice,
        typer.Option("--topology", help="How -o FILE.nnr carries the graph; none: tensors only, for any decoder."),
    ] = TopologyChoice.deflate,
    fast: Annotated[
        bool, typer.Option("--fast", help="Go by the weights alone; else the model is run to see which ones matter.")
    ] = False,
    preset: Annotated[
        PresetChoice | None,
        typer.Option("--preset", help="How fine steps are on the whole; default: balanced."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", metavar="INPUTS.npz", help="Measure on these inputs; else they are made up."),
    ] = None,
    target_ratio: Annotated[
        str | None, typer.Option("--target-ratio", metavar="P%", help="Size to reach, of the original's.")
    ] = None,
    target_bytes: Annotated[
        int | None, typer.Option("--target-bytes", metavar="N", help="Size to reach, in bytes.")
    ] = None,
    max_error: Annotated[
        float | None, typer.Option("--max-error", metavar="E", help="Rms change of the outputs, of their own rms.")
    ] = None,
    max_drop: Annotated[float | None, typer.Option("--max-drop", metavar="D", help="What --metric may lose.")] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="MODULE:FUNCTION", help="Judges a model run(feed) -> outputs; high is good."),
    ] = None,
    jobs: shared.Jobs = 0,
    force: shared.Force = False,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
    verbose: shared.Verbose = False,
) -> None:
    """Code a model's weights; m.onnx becomes m.nnc.onnx, or with -o FILE.nnr one NNR bitstream."""
    from nnc_codec.abilities import packer
    from nnc_codec.formats import PackOptions
    from nnc_codec.report import to_json
    from nnc_onnx.rd.hook import pack_to
    from nnc_onnx.rd.wish import Wish

    from .progress import progress_bar
    from .registry import recognise

    settings = PackOptions(
        qp=qp,
        qp_density=qp_density,
        method=method.value,
        optimize=optimize,
        sparsity=shared.parse_share(sparsity, "--sparsity"),
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        min_elements=PackOptions().min_elements if min_elements is None else min_elements,
        group_below=PackOptions().group_below if group_below is None else group_below,
        keep_names=keep_names,
        external_data=external_data,
        topology=topology.value,
        jobs=jobs,
        force=force,
    )
    model_format, _ = recognise(model)
    target = output or model_format.default_output(model, "pack")
    with progress_bar(f"packing {model.name}", enabled=not (json or quiet)) as progress:
        wish = Wish(
            fast=fast,
            preset=preset.value if preset else None,
            calibration=calibration,
            target_ratio=target_ratio,
            target_bytes=target_bytes,
            max_error=max_error,
            max_drop=max_drop,
            metric=metric,
        )
        report = pack_to(wish, packer(model_format, target), model, target, settings, progress=progress)
    if json:
        typer.echo(to_json(report))
    elif not quiet:
        _show(report, verbose=verbose)


def _show(report: PackReport, *, verbose: bool) -> None:
    from .tables import console, error_text, new_table, percent, size, tensor_table

    out = console()
    if verbose:
        out.print(tensor_table(report.tensors))
    coded = report.coded
    rows = (
        ("whole model", report.original_bytes, report.packed_bytes),
        (
            f"coded tensors ({len(coded)})",
            sum(tensor.original_bytes for tensor in coded),
            sum(tensor.stored_bytes for tensor in coded if tensor.same_as is None),
        ),
    )
    table = new_table("", "before", "after", "after/before", right=(1, 2, 3))
    for label, before, after in rows:
        table.add_row(label, size(before), size(after), percent(after, before))
    out.print(table)
    worst = report.worst
    facts = [f"{report.bits_per_weight:.2f} bits per weight"]
    if worst is not None:
        facts.append(f"worst relative error {error_text(worst.error)} ({worst.name})")
    facts.append(f"{report.seconds:.1f} s (coding {report.encode_seconds:.1f} s)")
    out.print("; ".join(facts), markup=False)
    for note in report.notes:
        out.print(f"note: {note}", markup=False)
    out.print(f"wrote {report.output}", markup=False)
