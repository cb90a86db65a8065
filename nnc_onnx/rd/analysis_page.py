"""The report of ``onnx-nnc analyze`` as one self-contained page: no scripts, no network, light and dark."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from nnc_codec.files import write_atomic

from .analysis_report import Analysis, AnalysisRung, AnalysisTensor
from .charts import STYLE, Axis, Point, Series, chart, safe

_MOST_NAMED = 8
"""Tensors whose names are written into the chart: those that change the outputs most as they are packed."""

_UNITS = ("B", "kB", "MB", "GB", "TB")

_PAGE_STYLE = """
:root{color-scheme:light dark;--page:#ffffff;--card:#f6f8fa;--ink:#1f2328;--soft:#59636e;--line:#d8dee4;--mark:#ddf4ff}
@media(prefers-color-scheme:dark){:root{--page:#0d1117;--card:#151b23;--ink:#e6edf3;--soft:#9198a1;--line:#30363d;
--mark:#12233a}}
*{box-sizing:border-box}
body{margin:0 auto;padding:24px;max-width:1080px;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:24px;margin:0;overflow-wrap:anywhere}h2{font-size:18px;margin:40px 0 8px}
p{color:var(--soft);margin:4px 0 12px}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin-top:20px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 16px;flex:1 1 150px}
.tile b{display:block;font-size:22px}.tile span{color:var(--soft);font-size:13px}
.chart{display:block;width:100%;background:var(--card);border:1px solid var(--line);border-radius:8px}
.wide{overflow-x:auto}
table{border-collapse:collapse;min-width:60%;margin-top:12px;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:4px 12px 4px 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{color:var(--soft);font-weight:600}.n{text-align:right;white-space:nowrap}
td.t:first-child{overflow-wrap:anywhere;min-width:14em}tr.default{background:var(--mark)}
"""


class _Cell(NamedTuple):
    """A number as it is in the report and as it is read; ``None`` where it was not measured."""

    value: float | int | None
    text: str


def write_page(analysis: Analysis, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write :func:`analysis_page` to `path`.

    Raises:
        OutputExistsError: `path` exists and `force` is false.
        FileAccessError: it cannot be written.
    """
    write_atomic(path, analysis_page(analysis).encode("utf-8"), force=force)
    return Path(path)


def analysis_page(analysis: Analysis) -> str:
    """An HTML page, well-formed as XML too. Numbers are those of the report, in full in ``data-value``.

    Names come from the model and are escaped; control and direction characters are written as ``\\x..``.
    """
    name = safe(os.path.basename(analysis.source) or analysis.source)
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"/><title>{name}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        f"<style>{_PAGE_STYLE}{STYLE}</style></head><body>",
        f"<h1>{name}</h1>",
        f"<p>{safe(_BASES[analysis.basis])}</p>",
        *(f"<p>Note: {safe(note)}</p>" for note in analysis.notes),
        *_tiles(analysis),
    ]
    if analysis.curve:
        parts += ["<h2>Size and change of the outputs</h2>", f"<p>{_CURVE_TEXT}</p>", _curve_chart(analysis)]
        parts += _curve_table(analysis)
    parts += ["<h2>Ways of packing</h2>", *_rung_table(analysis)]
    parts += ["<h2>General-purpose compressors</h2>", f"<p>{_LOSSLESS_TEXT}</p>", *_lossless_table(analysis)]
    parts.append("<h2>Tensors</h2>")
    if any(tensor.sensitivity for tensor in analysis.tensors):
        parts += [f"<p>{_TENSOR_TEXT}</p>", _tensor_chart(analysis)]
    parts += _tensor_table(analysis)
    parts.append("</body></html>\n")
    return "\n".join(parts)


_BASES = {
    "synthetic": "Measured on made-up inputs.",
    "calibration": "Measured on the calibration inputs given.",
    "statistics": "The model could not be run; sizes only.",
}
_CURVE_TEXT = (
    "Mean square change of the outputs relative to their power, with all weights quantized, over the size of the "
    "packed model. The line is what <code>onnx-nnc pack --target-ratio</code> gives; the points are what other options "
    "give."
)
_LOSSLESS_TEXT = (
    "The model as stored, and with its float32 tensors rounded to float16. Sizes marked with ≈ follow from a sample."
)
_TENSOR_TEXT = (
    "Sensitivity is the relative change of the outputs per relative mean square error of that tensor alone. Tensors "
    "at the upper left are cheap and matter, those at the lower right cost much and matter little."
)


def size_text(nbytes: float) -> str:
    """``1234567`` -> ``"1.23 MB"`` (powers of 1000)."""
    value = float(nbytes)
    unit = 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    return f"{value:.0f} B" if unit == 0 else f"{value:.3g} {_UNITS[unit]}"


def _power(value: float) -> str:
    """``0.001`` -> ``"1e-3"``."""
    digits, _, exponent = f"{value:.0e}".partition("e")
    return f"{digits}e{int(exponent)}"


def _share(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"


def _number(value: float | None, form: str) -> _Cell:
    return _Cell(value, "–" if value is None else format(value, form))


def _tiles(analysis: Analysis) -> Iterable[str]:
    usual = next((rung for rung in analysis.rungs if rung.is_default), None)
    yield '<div class="tiles">'
    yield _tile(size_text(analysis.original_bytes), "original")
    if usual is not None:
        yield _tile(size_text(usual.packed_bytes), "packed without options")
        yield _tile(_share(usual.ratio), "of the original")
        yield _tile(f"{usual.bits_per_weight:.2f}", "bits per weight")
    yield _tile(str(len(analysis.tensors)), "tensors coded")
    yield "</div>"


def _tile(value: str, what: str) -> str:
    return f'<div class="tile"><b>{safe(value)}</b><span>{safe(what)}</span></div>'


def _curve_chart(analysis: Analysis) -> str:
    line = [
        Point(100 * point.ratio, point.deviation, f"{size_text(point.packed_bytes)}, change {point.deviation:.1e}")
        for point in analysis.curve
    ]
    series = [Series("target sizes", line, line=True)]
    for title, wanted in (("without data", False), ("calibrated", True)):
        points = [_rung_point(rung) for rung in analysis.rungs if ("--calibration" in rung.options) == wanted]
        series.append(Series(title, [point for point in points if point is not None]))
    return chart(
        "Size of the packed model and change of its outputs",
        series,
        Axis("packed size in % of the original", "{:g}".format),
        Axis("change of the outputs", _power, log=True),
    )


def _rung_point(rung: AnalysisRung) -> Point | None:
    if rung.deviation is None:
        return None
    label = rung.options.rpartition("--")[2].removeprefix("preset ")
    return Point(100 * rung.ratio, rung.deviation, f"{rung.options}: {size_text(rung.packed_bytes)}", label)


def _tensor_chart(analysis: Analysis) -> str:
    shown = [tensor for tensor in analysis.tensors if tensor.sensitivity and tensor.same_as is None]
    ranked = sorted(shown, key=lambda tensor: -(tensor.sensitivity or 0) * tensor.error**2)
    named = {tensor.name for tensor in ranked[:_MOST_NAMED]}
    points = [
        Point(
            tensor.predicted_bytes,
            tensor.sensitivity or 0.0,
            f"{tensor.name}: {size_text(tensor.predicted_bytes)}, {tensor.bits_per_weight:.2f} bits per weight",
            tensor.name if tensor.name in named else "",
        )
        for tensor in shown
    ]
    return chart(
        "Size and sensitivity of every tensor",
        [Series("tensor", points, faint=True)],
        Axis("packed size", size_text, log=True),
        Axis("sensitivity", _power, log=True),
    )


def _curve_table(analysis: Analysis) -> Iterable[str]:
    rows = [
        (
            _Cell(point.packed_bytes, size_text(point.packed_bytes)),
            _Cell(point.ratio, _share(point.ratio)),
            _number(point.deviation, ".1e"),
        )
        for point in analysis.curve
    ]
    return _table("curve", ("packed size", "of original", "change of the outputs"), rows)


def _rung_table(analysis: Analysis) -> Iterable[str]:
    rows = [
        (
            f"{rung.options} (default)" if rung.is_default else rung.options,
            _Cell(rung.packed_bytes, size_text(rung.packed_bytes)),
            _Cell(rung.ratio, _share(rung.ratio)),
            _number(rung.bits_per_weight, ".2f"),
            _number(rung.deviation, ".1e"),
        )
        for rung in analysis.rungs
    ]
    marked = [number for number, rung in enumerate(analysis.rungs) if rung.is_default]
    columns = ("options", "packed size", "of original", "bits per weight", "change of the outputs")
    return _table("rungs", columns, rows, marked)


def _lossless_table(analysis: Analysis) -> Iterable[str]:
    contents = {"stored": "as stored", "float16": "float16"}
    rows = [
        (
            "–" if entry.compressor == "none" else entry.compressor,
            contents[entry.content],
            _Cell(entry.packed_bytes, ("≈ " if entry.estimated else "") + size_text(entry.packed_bytes)),
            _Cell(entry.ratio, _share(entry.ratio)),
        )
        for entry in analysis.lossless
    ]
    return _table("lossless", ("compressor", "weights", "size", "of original"), rows)


def _tensor_table(analysis: Analysis) -> Iterable[str]:
    columns = ("tensor", "shape", "type", "before", "after", "bits per weight", "qp", "relative error", "sensitivity")
    return _table("tensors", columns, [_tensor_row(tensor) for tensor in analysis.tensors])


def _tensor_row(tensor: AnalysisTensor) -> tuple[str | _Cell, ...]:
    name = tensor.name if tensor.same_as is None else f"{tensor.name} (same as {tensor.same_as})"
    return (
        name,
        "×".join(map(str, tensor.shape)),
        tensor.dtype,
        _Cell(tensor.original_bytes, size_text(tensor.original_bytes)),
        _Cell(tensor.predicted_bytes, size_text(tensor.predicted_bytes)),
        _number(tensor.bits_per_weight, ".2f"),
        _number(tensor.qp, "d"),
        _number(tensor.error, ".1e"),
        _number(tensor.sensitivity, ".1e"),
    )


def _table(
    name: str, columns: Sequence[str], rows: Sequence[Sequence[str | _Cell]], marked: Sequence[int] = ()
) -> Iterable[str]:
    """A table; texts are escaped, numbers carry their full value."""
    yield f'<div class="wide"><table id="{name}"><thead><tr>'
    first = rows[0] if rows else ()
    for number, column in enumerate(columns):
        numeric = number < len(first) and isinstance(first[number], _Cell)
        yield (f'<th class="n">{safe(column)}</th>' if numeric else f"<th>{safe(column)}</th>")
    yield "</tr></thead><tbody>"
    for number, row in enumerate(rows):
        yield '<tr class="default">' if number in marked else "<tr>"
        for cell in row:
            if isinstance(cell, _Cell):
                full = "" if cell.value is None else f' data-value="{cell.value!r}"'
                yield f'<td class="n"{full}>{safe(cell.text)}</td>'
            else:
                yield f'<td class="t">{safe(cell)}</td>'
        yield "</tr>"
    yield "</tbody></table></div>"
