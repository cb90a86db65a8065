"""``onnx-nnc bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options as shared

if TYPE_CHECKING:
    from nnc_onnx.benchmark.report import BenchReport, BenchRow


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Packed ONNX model.")],
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="MODEL", help="The plain model; default MODEL, unpacked."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Measure this configuration, as the table calls it (repeatable)."),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option("--inputs", metavar="NPZ", help="One array per model input; default random ones."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Size of a free first dimension.")] = 1,
    threads: Annotated[
        int, typer.Option("--threads", min=0, metavar="N", help="Threads that compute; 0: onnxruntime's default.")
    ] = 0,
    runs: Annotated[int, typer.Option("--runs", min=2, metavar="N", help="How often to run.")] = 10,
    dim: shared.Dims = None,
    seed: shared.Seed = 0,
    json: shared.Json = False,
    quiet: shared.Quiet = False,
) -> None:
    """Measure time and memory of every mode against the plain model, each in its own process."""
    from nnc_codec.report import to_json
    from nnc_onnx.benchmark.bench import bench
    from nnc_onnx.benchmark.report import BenchOptions

    report = bench(
        model,
        BenchOptions(
            against=against,
            configurations=tuple(only or ()),
            inputs=inputs,
            batch=batch,
            dims=shared.parse_dims(dim),
            seed=seed,
            runs=runs,
            threads=threads,
        ),
    )
    if json:
        typer.echo(to_json(report))
    elif not quiet:
        _show(report)


def _show(report: BenchReport) -> None:
    from .tables import console, new_table

    out = console()
    columns = ("", "create", "first", "median", "x plain", "peak", "x plain", "own", "mapped", "constants")
    table = new_table(*columns, "hits", "decode", "change", right=range(1, 13))
    for row in report.rows:
        if row.failure is not None:
            table.add_row(row.name, *["-"] * 12)
        else:
            table.add_row(*_cells(row))
    out.print(table)
    threads = f"{report.threads} threads" if report.threads else "onnxruntime's default threads"
    out.print(
        f"{report.runtime}, batch {report.batch}, {threads}, {report.runs} runs, "
        f"against {report.against or 'the unpacked model'}",
        markup=False,
    )
    for row in report.rows:
        if row.failure is not None:
            out.print(f"{row.name}: {row.failure}", markup=False)


def _cells(row: BenchRow) -> list[str]:
    from .tables import milliseconds, size

    def nbytes(value: int | None) -> str:
        return "-" if value is None else size(value)

    def factor(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    change = "-" if row.output_change is None else "none" if row.identical else f"{row.output_change:.1e}"
    return [
        row.name,
        milliseconds(row.create_seconds),
        milliseconds(row.first_seconds),
        milliseconds(row.median_seconds),
        factor(row.relative),
        nbytes(row.peak_bytes),
        factor(row.relative_peak),
        nbytes(row.anonymous_bytes),
        nbytes(row.file_bytes),
        nbytes(row.constant_bytes),
        "-" if row.hit_rate is None else f"{100 * row.hit_rate:.0f} %",
        milliseconds(row.decode_seconds),
        change,
    ]
