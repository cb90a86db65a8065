#!/usr/bin/env python3
"""Size and task metric of real models under every method at hand.

    python benchmarks/accuracy EVAL [--task TASK ...] [--method METHOD ...] [--nncodec PYTHON] [--markdown FILE]

EVAL is a folder with ``evaluate.py`` (a function ``score(task, run)``) and ``models/<task>.onnx``. Sizes are whole
files as onnxruntime loads them, in percent of the original. ``calibrated`` plans on 64 of the inputs that the metric
is computed on, without their labels. ``nncodec`` needs the Python of an environment with NNCodec; its size is that of
its bitstream plus the graph compressed by zlib, and every qp is a row. Methods whose packages are absent are left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import onnxruntime
from methods import METHODS, Absent, Context
from tasks import load_evaluation, recorded_feeds, runner

COLUMNS = ("model", "method", "size %", "metric", "fp32", "encode s", "same")
KEPT = 0.005
"""Share of the original's metric that may be lost for a row to count as the same."""


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("--task", action="append")
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--nncodec", type=Path, metavar="PYTHON")
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    onnxruntime.set_default_logger_severity(4)
    evaluation = load_evaluation(arguments.evaluation)
    rows = [COLUMNS]
    for task in arguments.task or evaluation.TASKS:
        model = arguments.evaluation / "models" / f"{task}.onnx"
        if not model.exists():
            continue

        def score(run, task=task):  # type: ignore[no-untyped-def]
            return float(next(iter(evaluation.score(task, run).values())))

        original = score(runner(model))
        with tempfile.TemporaryDirectory() as folder:
            feeds = partial(recorded_feeds, evaluation, task)
            context = Context(model, Path(folder), score, feeds, arguments.nncodec)
            for name in arguments.method or METHODS:
                rows += measure(task, name, context, original)
    if arguments.markdown:
        arguments.markdown.write_text(markdown(rows), encoding="utf-8")
    return 0


def measure(task: str, name: str, context: Context, original: float) -> list[tuple[str, ...]]:
    """Rows of one method on one model, printed as they come."""
    rows = []
    start = time.perf_counter()
    try:
        for label, nbytes, metric in METHODS[name](context):
            size = 100 * nbytes / context.model.stat().st_size
            score = original if metric is None else metric
            same = "yes" if score >= original - KEPT * abs(original) else "no"
            seconds = time.perf_counter() - start
            rows.append((task, label, f"{size:.2f}", f"{score:.2f}", f"{original:.2f}", f"{seconds:.1f}", same))
            print("  ".join(rows[-1]), flush=True)
            start = time.perf_counter()
    except Absent as error:
        print(f"{task}  {name}: left out, {error}", file=sys.stderr)
    except Exception as error:  # a peer that fails on a model is a result, not the end of the table
        rows.append((task, name, "fails", type(error).__name__, f"{original:.2f}", "", "no"))
        print("  ".join(rows[-1]), flush=True)
    return rows


def markdown(rows: list[tuple[str, ...]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(COLUMNS))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
