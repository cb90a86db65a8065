#!/usr/bin/env python3
"""Measure everything that docs/benchmarks.md says, side by side with NNCodec, and write it there.

    python benchmarks [--models MODEL.onnx ...] [--only SECTION ...] [--instructions] [--large MB]
                      [--csv FILE] [--document FILE]

Needs an environment with NNCodec 2.1.3 beside this package (``pip install nncodec==2.1.3``, with torch);
zstandard and brotli are used if they are there. Rates are million weights per second of processor time, with one
thread. ``--instructions`` counts instructions too, which takes valgrind and a few minutes.

Every table stands in the document between two comments, ``<!-- section -->`` and ``<!-- /section -->``.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("nsnet2", "magika", "efficientnet_lite0")
SECTIONS = ("native", "model", "extremes", "rate")

HEADERS = {
    "native": ("stage", "data", "ours, Mw/s", "NNCodec, Mw/s", "ratio"),
    "model": ("stage", "model", "ours, Mw/s", "NNCodec, Mw/s", "ratio"),
    "threads": ("stage", "data", "two threads against one", "share of the dispatching thread", "by the wall clock"),
    "yardsticks": ("compressor", "float32 weights of", "bytes", "Mw/s", ""),
    "extremes": ("what", "data", "ours", "NNCodec", "ratio"),
    "memory": ("what", "data", "peak", "bound", "of the bound"),
    "rate": ("price and step", "model", "bits per weight", "SNR, dB", "saved at that SNR"),
}
INSTRUCTIONS = ("loop", "data", "bins per weight", "instructions per weight", "per bin")


def measured(options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """All rows, each with the name of its table first."""
    import codec
    import extremes
    import instructions
    import rate_distortion
    import whole_model

    sources: dict[str, Callable[[], Iterator[tuple[str, ...]]]] = {
        "native": lambda: codec.rows(options.size, options.repeat),
        "model": lambda: whole_model.rows(options.models, 2),
        "extremes": lambda: extremes.rows(options.large),
        "rate": lambda: rate_distortion.rows(options.models),
        "instructions": lambda: (("instructions", *row) for row in instructions.rows()),
    }
    for name in options.only or (*SECTIONS, *["instructions"] * options.instructions):
        start = time.perf_counter()
        yield from sources[name]()
        print(f"-- {name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


def write_tables(document: Path, rows: list[tuple[str, ...]]) -> None:
    """Replace the tables of a document by those measured; the others stay as they are."""
    from measuring import table

    text = document.read_text(encoding="utf-8")
    for name in dict.fromkeys(row[0] for row in rows):
        header = HEADERS.get(name, INSTRUCTIONS)
        body = table(header, [row[1:] for row in rows if row[0] == name])
        text, found = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda match, body=body: f"{match[1]}\n{body}\n{match[2]}",
            text,
            flags=re.DOTALL,
        )
        if not found:
            raise SystemExit(f"{document} has no place for the table {name}")
    document.write_text(text, encoding="utf-8")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = [ROOT.parent / "shared" / "eval" / "models" / f"{name}.onnx" for name in NAMES]
    parser.add_argument("--models", type=Path, nargs="*", default=[path for path in beside if path.exists()])
    parser.add_argument("--only", choices=(*SECTIONS, "instructions"), nargs="+")
    parser.add_argument("--instructions", action="store_true", help="count instructions under valgrind too")
    parser.add_argument("--large", type=int, default=1024, metavar="MB", help="size of the large tensor; 0 for none")
    parser.add_argument("--size", type=int, default=1024, help="side of the matrices of the native table")
    parser.add_argument("--repeat", type=int, default=5, help="runs of which the fastest counts")
    parser.add_argument("--csv", type=Path, help="write all rows here")
    parser.add_argument("--document", type=Path, help="put the tables into this document, e.g. docs/benchmarks.md")
    options = parser.parse_args()
    if importlib.util.find_spec("nncodec") is None:
        print("NNCodec is not installed: pip install nncodec==2.1.3 (it needs torch)", file=sys.stderr)
        return 1
    rows = []
    for row in measured(options):
        print(" | ".join(row), flush=True)
        rows.append(row)
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows((("section", "what", "data", "ours", "theirs", "ratio"), *rows))
    if options.document:
        write_tables(options.document, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
