"""Rate-distortion curves of models as SVG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from further import SOURCES
from methods import OURS
from outcomes import Row
from peer_nncodec import LABEL

from nnc_onnx.rd.charts import Axis, Level, Point, Series, chart, standalone

UNITS = {
    "efficientnet_lite0": "top-1 %",
    "ppocr4_rec": "characters %",
    "ppocr_cls": "accuracy %",
    "magika": "accuracy %",
    "silero_vad": "ROC AUC %",
    "minilm_l6": "Spearman x 100",
    "nsnet2": "SI-SDR dB",
} | {name: source.unit for name, source in SOURCES.items()}
"""What the metrics of known models are."""

WIDEST = 30.0
"""Points above this per cent of the original are left out, where all metrics are kept."""

LOWEST = 0.75
"""Points that keep less than this share of the metric are left out; nobody would use them."""


def plot(rows: Sequence[Row], model: str, target: Path) -> None:
    """Write the curves of ours and NNCodec's for one model, and the points of other peers."""
    unit = UNITS.get(model, "metric")
    mine = [row for row in rows if row.model == model and _is_shown(row)]
    if not mine:
        raise SystemExit(f"no rows for {model}")
    ours = [row for row in mine if row.label.startswith(OURS)]
    calibrated = [row for row in ours if "--calibration" in row.label]
    plain = [row for row in ours if row not in calibrated and row.method in ("planned", "curve")]
    peer = [row for row in mine if row.label.startswith(LABEL)]
    others = [row for row in mine if not row.label.startswith((OURS, LABEL))]
    series = [
        Series("onnx-nnc, no data", _points(plain), line=True),
        Series("onnx-nnc, calibrated", _points(calibrated), line=True),
        Series("NNCodec", _points(peer), line=True),
        Series("other", [Point(row.percent, row.metric, label=row.label) for row in others]),
    ]
    drawn = [entry for entry in series if entry.points]
    svg = chart(
        f"{model}: size and {unit}",
        drawn,
        Axis("size of the whole file in % of float32"),
        Axis(unit),
        levels=[Level(mine[0].original, "float32")],
    )
    target.write_text(standalone(svg), encoding="utf-8")


def _is_shown(row: Row) -> bool:
    return not row.failure and row.percent <= WIDEST and row.metric >= LOWEST * row.original


def _points(rows: Sequence[Row]) -> list[Point]:
    ordered = sorted(rows, key=lambda row: row.nbytes)
    return [Point(row.percent, row.metric, f"{row.label}: {row.percent:.1f} %, {row.metric:.2f}") for row in ordered]
