"""What a packed model costs at run time: memory and latency of every mode, against the plain float32 model.

    python benchmarks/runtime.py [--folder FOLDER] [--only NAME] [--threads 2] [--write docs/runtime.md] [--json FILE]
    python benchmarks/runtime.py --model PLAIN.onnx [--batch 1] [--dim NAME=SIZE]

Without ``--model``: a chain of 24 matrix products, a ResNet-50 and a table of embeddings, with random weights, and,
where ``../shared/eval/models`` has them, an EfficientNet-Lite0 and a MiniLM with their real weights. Models are made
and packed in FOLDER once. Every row is a process of its own (``onnx-nnc bench``).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import graphs
import msgspec
import numpy as np

import nnc_onnx
from nnc_codec.formats import PackOptions
from nnc_onnx.benchmark.report import BenchReport, BenchRow

EVALUATION = Path(__file__).resolve().parents[2] / "shared" / "eval" / "models"
CONFIGURATIONS = ("plain", "lazy", "cache 50 %", "cache 100 %", "int8")
BEGIN, END = "<!-- begin: benchmarks/runtime.py -->", "<!-- end: benchmarks/runtime.py -->"
HEADER = (
    "| model, batch | | create | first | median | x plain | processor, x plain | peak | x plain | constants | change |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


class Case(msgspec.Struct, frozen=True):
    """A model, on what it runs, and how often.

    Attributes:
        name: in the table.
        make: writes the plain model to a path, or says where it is; ``None`` if it is not there.
        batches: sizes of the first dimension, and runs for each.
        dims: sizes of other free dimensions.
        inputs: makes the inputs for a batch size; without it they are random.
    """

    name: str
    make: Callable[[Path], Path | None]
    batches: tuple[tuple[int, int], ...]
    dims: dict[str, int] = {}
    inputs: Callable[[int], dict[str, np.ndarray]] | None = None


def _sentences(batch: int) -> dict[str, np.ndarray]:
    """32 tokens from all over the vocabulary."""
    shape = (batch, 32)
    ids = np.random.default_rng(0).integers(0, 30000, shape)
    return {"ids": ids.astype(np.int64), "mask": np.ones(shape, np.int64)}


def _ids(count: int) -> dict[str, np.ndarray]:
    """The same rows of the table in every run."""
    return {"ids": np.random.default_rng(0).integers(0, graphs.TABLE_ROWS, count)}


def _evaluation(name: str) -> Callable[[Path], Path | None]:
    path = EVALUATION / name
    return lambda _: path if path.is_file() else None


CASES = (
    Case("MatMul chain", graphs.save_chain, ((1, 10), (128, 6))),
    Case("ResNet-50", graphs.save_resnet50, ((1, 15), (16, 4))),
    Case("table of embeddings", graphs.save_table, ((128, 200),), inputs=_ids),
    Case("EfficientNet-Lite0", _evaluation("efficientnet_lite0.onnx"), ((1, 30), (64, 4))),
    Case("MiniLM-L6", _evaluation("minilm_l6.onnx"), ((1, 30), (128, 4)), inputs=_sentences),
)


def measure(case: Case, plain: Path, folder: Path, threads: int, configurations: tuple[str, ...]) -> list[BenchReport]:
    """One report per batch size."""
    packed = folder / f"{plain.stem}.nnc.onnx"
    if not packed.exists():
        nnc_onnx.pack(plain, packed, PackOptions())
    reports = []
    for batch, runs in case.batches:
        inputs = None
        if case.inputs is not None:
            inputs = folder / f"{plain.stem}.{batch}.npz"
            np.savez(inputs, **case.inputs(batch))
        options = nnc_onnx.BenchOptions(
            against=plain,
            configurations=configurations,
            inputs=inputs,
            batch=batch,
            dims=case.dims,
            runs=runs,
            threads=threads,
        )
        reports.append(nnc_onnx.bench(packed, options))
    return reports


def cells(row: BenchRow) -> list[str]:
    """The cells of a row from the configuration on."""
    if row.failure is not None:
        return [row.name, row.failure, *[""] * 8]
    change = "" if row.mode == "plain" or row.output_change is None else f"{row.output_change:.1e}"
    return [
        row.name,
        f"{1e3 * row.create_seconds:.0f} ms",
        f"{1e3 * row.first_seconds:.1f} ms",
        f"{1e3 * row.median_seconds:.1f} ms",
        f"{row.relative or 0:.2f}",
        f"{row.relative_processor or 0:.2f}",
        f"{(row.peak_bytes or 0) / 1e6:.0f} MB",
        f"{row.relative_peak or 0:.2f}",
        f"{row.constant_bytes / 1e6:.0f} MB",
        change,
    ]


def table(reports: list[tuple[str, BenchReport]]) -> str:
    """All reports as one Markdown table."""
    lines = list(HEADER)
    for name, report in reports:
        for row in report.rows:
            label = f"{name}, {report.batch}" if row is report.rows[0] else ""
            lines.append("| " + " | ".join([label, *cells(row)]) + " |")
    first = reports[0][1]
    lines += ["", f"{first.runtime}, {first.threads or 'default'} threads; medians of the runs after the first one."]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Put `text` between the marks in a Markdown file."""
    old = path.read_text(encoding="utf-8")
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where models are kept; default a temporary folder")
    parser.add_argument("--only", action="append", help="name of a model in the table")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--configuration", action="append", help="as onnx-nnc bench --only")
    parser.add_argument("--model", type=Path, help="measure this plain model instead")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--dim", action="append", default=[], help="NAME=SIZE of a free dimension")
    parser.add_argument("--write", type=Path, help="Markdown file to put the table into")
    parser.add_argument("--json", type=Path, help="file for all reports")
    arguments = parser.parse_args()
    cases = [case for case in CASES if not arguments.only or case.name in arguments.only]
    if arguments.model:
        dims = {name: int(size) for name, _, size in (entry.partition("=") for entry in arguments.dim)}
        model = arguments.model
        cases = [Case(model.stem, lambda _: model, ((arguments.batch, arguments.runs),), dims)]
    reports: list[tuple[str, BenchReport]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for case in cases:
            made = folder / f"{case.name.lower().replace(' ', '-')}.onnx"
            plain = made if made.exists() else case.make(made)
            if plain is None:
                print(f"{case.name}: not found in {EVALUATION}", file=sys.stderr)
                continue
            configurations = tuple(arguments.configuration or CONFIGURATIONS)
            for report in measure(case, plain, folder, arguments.threads, configurations):
                reports.append((case.name, report))
                print(table([(case.name, report)]), file=sys.stderr)
    if not reports:
        return 1
    text = table(reports)
    print(text)
    if arguments.write:
        write(arguments.write, text)
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.encode([report for _, report in reports]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
