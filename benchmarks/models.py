#!/usr/bin/env python3
"""Pack real models without a flag and compare size and task metric before and after.

    python benchmarks/models.py EVAL [--model MODEL.onnx ...] [--mode eager] [--json FILE]

EVAL is a folder with ``evaluate.py`` (a function ``score(task, run)``) and ``models/<task>.onnx``; tasks without a
model are left out. Models given with ``--model`` have no task: their outputs on random inputs are compared instead.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime

from nnc_codec.errors import NNRError
from nnc_codec.formats import PackOptions
from nnc_codec.report import PackReport
from nnc_onnx import InferenceSession, pack
from nnc_onnx.runtime.running import compare_outputs, random_inputs, run_once, session_options

COLUMNS = ("model", "MB", "packed MB", "size %", "bits/w", "metric", "before", "after", "pack s", "decode s")
Run = Callable[[dict[str, Any]], list[Any]]


def load_evaluation(folder: Path) -> ModuleType:
    """The module ``evaluate.py`` of `folder`."""
    spec = importlib.util.spec_from_file_location("evaluate", folder / "evaluate.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{folder} has no evaluate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def runner(session: onnxruntime.InferenceSession) -> Run:
    """The session as a function from feed to outputs."""
    return lambda feed: list(session.run(None, feed))


def pack_and_check(source: Path, target: Path, jobs: int) -> PackReport:
    """Pack with defaults; the result must satisfy onnx's checker and strict shape inference."""
    report = pack(source, target, PackOptions(jobs=jobs, force=True))
    onnx.checker.check_model(str(target), full_check=True)
    onnx.shape_inference.infer_shapes(onnx.load(target), strict_mode=True)
    return report


def row(name: str, report: PackReport, metric: str, before: str, after: str) -> dict[str, str]:
    """One line of the table."""
    values = (
        name,
        f"{report.original_bytes / 1e6:.2f}",
        f"{report.packed_bytes / 1e6:.2f}",
        f"{100 * report.ratio:.1f}",
        f"{report.bits_per_weight:.2f}",
        metric,
        before,
        after,
        f"{report.seconds:.1f}",
        f"{report.decode_seconds:.2f}",
    )
    return dict(zip(COLUMNS, values, strict=True))


def tasks(evaluation: ModuleType, options: argparse.Namespace, folder: Path) -> Iterator[dict[str, str]]:
    """Rows of the models that have a task."""
    for task in evaluation.TASKS:
        source = options.eval / "models" / f"{task}.onnx"
        if not source.is_file():
            continue
        target = folder / f"{task}.nnc.onnx"
        report = pack_and_check(source, target, options.jobs)
        sessions = (
            onnxruntime.InferenceSession(str(source), session_options(), providers=["CPUExecutionProvider"]),
            InferenceSession(str(target), session_options(), mode=options.mode),
        )
        before, after = (evaluation.score(task, runner(session)) for session in sessions)
        metric = next(iter(before))
        yield row(task, report, metric, f"{before[metric]:.2f}", f"{after[metric]:.2f}")


def without_task(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, str]]:
    """Rows of other models: relative rms difference of the worst output on random inputs."""
    for source in options.model:
        target = folder / f"{source.stem}.nnc.onnx"
        report = pack_and_check(source, target, options.jobs)
        dims = dict(entry.split("=") for entry in options.dim)
        try:
            original = InferenceSession(str(source), session_options())
            feed = random_inputs(original.get_inputs(), 0, {name: int(size) for name, size in dims.items()})
            names = [output.name for output in original.get_outputs()]
            session = InferenceSession(str(target), session_options(), mode=options.mode)
            compared = compare_outputs(names, run_once(session, feed), run_once(original, feed))
            worst = max((item.error.rel_rms for item in compared if item.error), default=float(np.nan))
            yield row(source.name, report, "rel rms of outputs", "0", f"{worst:.4f}")
        except NNRError as error:
            yield row(source.name, report, f"not run: {str(error)[:60]}", "-", "-")


def show(rows: list[dict[str, str]]) -> None:
    """Print `rows` as a Markdown table."""
    widths = {name: max(len(name), *(len(item[name]) for item in rows)) for name in COLUMNS}
    print("| " + " | ".join(name.ljust(widths[name]) for name in COLUMNS) + " |")
    print("|" + "|".join("-" * (widths[name] + 2) for name in COLUMNS) + "|")
    for item in rows:
        print("| " + " | ".join(item[name].ljust(widths[name]) for name in COLUMNS) + " |")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("eval", type=Path, help="folder with evaluate.py, models and data")
    parser.add_argument("--model", type=Path, nargs="*", default=[], help="further models, without a task")
    parser.add_argument("--dim", nargs="*", default=[], metavar="NAME=SIZE", help="symbolic dimensions of those")
    parser.add_argument("--mode", default="eager", help="how weights are decoded while the metric is taken")
    parser.add_argument("--jobs", type=int, default=0, help="worker threads of the packer")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for produce in (
            tasks(load_evaluation(options.eval), options, Path(folder)),
            without_task(options, Path(folder)),
        ):
            for item in produce:
                rows.append(item)
                print(f"{item['model']}: {item['size %']} %, {item['before']} -> {item['after']}", file=sys.stderr)
    if not rows:
        print("no models found", file=sys.stderr)
        return 1
    show(rows)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
