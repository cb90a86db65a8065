#!/usr/bin/env python3
"""Size and task metric of real models under every method at hand.

    python benchmarks/accuracy EVAL [--further FOLDER] [--task TASK ...] [--method METHOD ...] [--nncodec PYTHON]
        [--csv FILE [--resume [--redo]]] [--markdown FILE] [--held-out] [--plot FOLDER TASK ...]

EVAL is a folder with ``evaluate.py`` (``TASKS``, ``score(task, run)``), ``data`` and ``models/<task>.onnx``. FOLDER
holds further models from wheels; ``python benchmarks/accuracy/further.py FOLDER`` gets them. Sizes are whole files as
onnxruntime loads them, in percent of the original. Calibrated methods get 64 of the inputs that the metric is computed
on, without their labels; with ``--held-out`` samples that are not judged. NNCodec needs the Python of an environment
with it; its size is that of its bitstream plus the graph compressed by zlib, and every qp is a row. Methods whose
packages are absent are left out. Rows are kept in the CSV file, by model and method; with ``--resume`` those that are
there are not measured again. The Markdown goes between the marks of a file that has some, as docs/accuracy.md does.
Without a method or task named, all are run but the curves, which plots need.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import onnxruntime
from context import Absent, Context
from further import further_tasks
from held_out import split_data
from outcomes import Row, Store, line, row_of, shown, table, write_markdown
from plots import plot
from registry import CURVES, METHODS
from summary import summary
from tasks import Task, evaluation_tasks, runner


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("--further", type=Path, metavar="FOLDER")
    parser.add_argument("--task", action="append")
    parser.add_argument("--method", action="append", choices=[*METHODS, *CURVES])
    parser.add_argument("--nncodec", type=Path, metavar="PYTHON")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--redo", action="store_true", help="measure the methods named with --method again")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument(
        "--plot", nargs="+", metavar=("FOLDER", "TASK"), help="draw rd_TASK.svg from the rows there are"
    )
    arguments = parser.parse_args()
    onnxruntime.set_default_logger_severity(4)
    logging.disable(logging.WARNING)
    store = Store(arguments.csv, resume=arguments.resume or arguments.plot is not None)
    if arguments.plot is None:
        with tempfile.TemporaryDirectory() as folder:
            split = split_data(arguments.evaluation / "data", Path(folder)) if arguments.held_out else None
            tasks = evaluation_tasks(arguments.evaluation, split)
            if arguments.further is not None:
                tasks |= further_tasks(arguments.further, arguments.evaluation / "data")
            for name in arguments.task or tasks:
                if name not in tasks:
                    parser.error(f"there is no task {name!r}; known: {', '.join(tasks)}")
                data = "held-out" if arguments.held_out or tasks[name].always_held_out else "all"
                wanted = [
                    method
                    for method in arguments.method or METHODS
                    if (arguments.redo and arguments.method) or not store.has(name, method, data)
                ]
                run_task(tasks[name], wanted, data, arguments.nncodec, store)
    else:
        target, *names = arguments.plot
        for name in names:
            plot(store.rows, name, Path(target) / f"rd_{name}.svg")
        return 0
    rows = shown(store.rows, held_out=arguments.held_out)
    text = summary(rows)
    print(text)
    if arguments.markdown:
        write_markdown(arguments.markdown, text + "\nAll rows:\n\n" + table(rows))
    return 0


def run_task(task: Task, methods: list[str], data: str, nncodec: Path | None, store: Store) -> None:
    """Run methods on one model and keep their rows."""
    if not methods:
        return
    original = task.score(runner(task.model))
    with tempfile.TemporaryDirectory() as folder:
        context = Context(task.model, Path(folder), task.score, task.feeds, nncodec, original)
        for name in methods:
            start = time.perf_counter()
            rows = measure(task.name, name, data, context)
            store.put(rows, task.name, name, data)
            print(f"{task.name}  {name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


def measure(model: str, name: str, data: str, context: Context) -> list[Row]:
    """Rows of one method on one model, printed as they come."""
    rows: list[Row] = []
    size = context.model.stat().st_size

    def add(row: Row) -> None:
        rows.append(row)
        print("  ".join(line(row)), flush=True)

    try:
        for outcome in (METHODS | CURVES)[name](context):
            add(row_of(model, name, data, size, context.original, outcome))
    except Absent as error:
        print(f"{model}  {name}: left out, {error}", file=sys.stderr)
    except Exception as error:  # a peer that fails on a model is a result, not the end of the table
        failed = Row(
            model=model,
            method=name,
            data=data,
            label=name,
            original_bytes=size,
            nbytes=0,
            metric=0.0,
            original=context.original,
            failure=type(error).__name__,
        )
        print(f"{model}  {name}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
        add(failed)
    return rows


if __name__ == "__main__":
    sys.exit(main())
