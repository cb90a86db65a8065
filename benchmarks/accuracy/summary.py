"""What the table says on the whole: ours against NNCodec, and the points of peers that no row of ours equals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from further import SOURCES
from methods import OURS
from outcomes import Row, markdown
from peer_nncodec import LABEL

AIM = 30.0
"""Per cent of the original that MPEG asks for, with the metric kept."""


def nncodec_best(rows: Sequence[Row], model: str) -> Row | None:
    """NNCodec's smallest point that keeps the metric of a model."""
    kept = [row for row in rows if row.model == model and row.label.startswith(LABEL) and row.kept]
    return min(kept, key=lambda row: row.nbytes, default=None)


def summary(rows: Sequence[Row]) -> str:
    """Markdown: sizes by model, geometric means against NNCodec, and points of peers that no row of ours equals."""
    models = list(dict.fromkeys(row.model for row in rows))
    ours = [row for row in rows if row.label.startswith(OURS) and not row.method.startswith("curve")]
    labels = list(dict.fromkeys(row.label for row in ours))
    best = {model: nncodec_best(rows, model) for model in models}
    by_key = {(row.model, row.label): row for row in ours}
    parts = ["Size in per cent of the original: metric, bold where it is kept.\n"]
    header = ["model", "fp32", *labels, "NNCodec, smallest that keeps it"]
    lines = []
    for model in models:
        original = next(row.original for row in rows if row.model == model)
        cells = [_cell(by_key.get((model, label))) for label in labels]
        lines.append([model, f"{original:.2f}", *cells, _cell(best[model])])
    parts.append(markdown(header, lines))
    for title, group in (
        ("the evaluation's models", [model for model in models if model not in SOURCES]),
        ("the further models", [model for model in models if model in SOURCES]),
    ):
        if group:
            parts.append(f"\nAgainst NNCodec's smallest point that keeps the metric, {title}:\n")
            points = {model: best[model] for model in group}
            parts.append(markdown(_AGAINST, [_against(label, by_key, points) for label in labels]))
    lost = [row for row in rows if _is_peer(row) and not _beaten(row, rows)]
    parts.append(
        "\nPoints of peers that no row of ours equals in both size and metric; metrics that are kept count as equal:\n"
    )
    lines = [[row.model, row.label, f"{row.percent:.2f}", f"{row.metric:.2f}"] for row in lost]
    parts.append(markdown(("model", "method", "size %", "metric"), lines) if lost else "None.\n")
    return "\n".join(parts)


_AGAINST = ("method", "models", "size, geometric mean", "smaller on", "metric kept on", f"below {AIM:g} % on")


def _against(label: str, by_key: dict[tuple[str, str], Row], best: dict[str, Row | None]) -> list[str]:
    found = ((model, by_key.get((model, label))) for model in best)
    rows = {model: row for model, row in found if row is not None and not row.failure}
    pairs = [(row, other) for model, row in rows.items() if (other := best[model]) is not None]
    mean = math.exp(sum(math.log(row.nbytes / other.nbytes) for row, other in pairs) / len(pairs)) if pairs else None
    return [
        label,
        str(len(rows)),
        f"{100 * (mean - 1):+.1f} %" if mean is not None else "–",
        f"{sum(row.nbytes < other.nbytes for row, other in pairs)} of {len(pairs)}",
        f"{sum(row.kept for row in rows.values())} of {len(rows)}",
        f"{sum(row.percent < AIM for row in rows.values())} of {len(rows)}",
    ]


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    if row.failure:
        return "fails"
    text = f"{row.percent:.1f}: {row.metric:.2f}"
    return f"**{text}**" if row.kept else text


def _is_peer(row: Row) -> bool:
    return not row.label.startswith(OURS) and not row.failure


def _beaten(peer: Row, rows: Sequence[Row]) -> bool:
    """Whether a row of ours is no larger and no worse; metrics that are kept count as equal."""
    return any(
        row.nbytes <= peer.nbytes and (row.kept or row.metric >= peer.metric)
        for row in rows
        if row.model == peer.model and row.label.startswith(OURS) and not row.failure
    )
