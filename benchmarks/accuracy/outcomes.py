"""Rows of the table: kept in a CSV file, shown as Markdown."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from context import Outcome, keeps

BEGIN, END = "<!-- table -->", "<!-- end of table -->"
"""Marks in a Markdown file between which tables are put."""

_COLUMNS = ("model", "method", "size %", "metric", "fp32", "kept", "encode s (cpu)", "decode s (cpu)")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One way of making one model smaller.

    Attributes:
        model: task.
        method: by the name that ``--method`` takes; several rows may come from one.
        data: ``"all"``: calibrated on some of the samples judged; ``"held-out"``: on others.
        label: the method and its setting.
        original_bytes: size of the model.
        nbytes: what came out; 0 if nothing did.
        metric: of what came out.
        original: metric of the original.
        encode, encode_cpu, decode, decode_cpu: seconds, of a clock and of the processors.
        failure: why nothing came out.
    """

    model: str
    method: str
    data: str
    label: str
    original_bytes: int
    nbytes: int
    metric: float
    original: float
    encode: float = 0.0
    encode_cpu: float = 0.0
    decode: float = 0.0
    decode_cpu: float = 0.0
    failure: str = ""

    @property
    def percent(self) -> float:
        """Size relative to the original."""
        return 100 * self.nbytes / self.original_bytes

    @property
    def kept(self) -> bool:
        """Whether the metric is as good as the original's."""
        return not self.failure and keeps(self.metric, self.original)


def row_of(model: str, method: str, data: str, original_bytes: int, original: float, outcome: Outcome) -> Row:
    """The row of an outcome."""
    return Row(
        model=model,
        method=method,
        data=data,
        label=outcome.label,
        original_bytes=original_bytes,
        nbytes=outcome.nbytes,
        metric=original if outcome.metric is None else outcome.metric,
        original=original,
        encode=outcome.encode.wall,
        encode_cpu=outcome.encode.cpu,
        decode=outcome.decode.wall,
        decode_cpu=outcome.decode.cpu,
    )


class Store:
    """Rows in a CSV file, written after every method, so that a run can be resumed.

    Attributes:
        rows: all of them.
    """

    def __init__(self, path: Path | None, *, resume: bool) -> None:
        self.rows: list[Row] = []
        self._path = path
        if path is not None and resume and path.exists():
            with path.open(newline="", encoding="utf-8") as stream:
                self.rows = [msgspec.convert(row, Row, strict=False) for row in csv.DictReader(stream)]

    def has(self, model: str, method: str, data: str) -> bool:
        """Whether a method is done with a model."""
        return any((row.model, row.method, row.data) == (model, method, data) for row in self.rows)

    def put(self, rows: Sequence[Row], model: str, method: str, data: str) -> None:
        """Keep the rows of one method on one model instead of those there were."""
        kept = [row for row in self.rows if (row.model, row.method, row.data) != (model, method, data)]
        self.rows = [*kept, *rows]
        if self._path is None:
            return
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, [field.name for field in msgspec.structs.fields(Row)])
            writer.writeheader()
            writer.writerows(msgspec.to_builtins(row) for row in self.rows)
        os.replace(name, self._path)


def shown(rows: Sequence[Row], *, held_out: bool) -> list[Row]:
    """The rows of one way of judging; models that are only judged on held-out samples belong to both."""
    everywhere = {row.model for row in rows if row.data == "all"}
    return [row for row in rows if (row.data == "held-out") == (held_out or row.model not in everywhere)]


def line(row: Row) -> tuple[str, ...]:
    """A row as it is shown."""
    if row.failure:
        return row.model, row.label, "fails", row.failure, f"{row.original:.2f}", "no", "", ""
    return (
        row.model,
        row.label,
        f"{row.percent:.2f}",
        f"{row.metric:.2f}",
        f"{row.original:.2f}",
        "yes" if row.kept else "no",
        f"{row.encode:.1f} ({row.encode_cpu:.1f})",
        f"{row.decode:.2f} ({row.decode_cpu:.2f})" if row.decode else "",
    )


def markdown(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    shown = [columns, ["---"] * len(columns), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in shown) + "\n"


def table(rows: Sequence[Row]) -> str:
    """All rows, the points of curves left out."""
    return markdown(_COLUMNS, [line(row) for row in rows if not row.method.startswith("curve")])


def write_markdown(path: Path, text: str) -> None:
    """Put tables between the marks of a file that has them, else into a new file."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if BEGIN in before and END in before:
        head, tail = before[: before.index(BEGIN)], before[before.index(END) :]
        text = f"{head}{BEGIN}\n\n{text}\n{tail}"
    path.write_text(text, encoding="utf-8")
