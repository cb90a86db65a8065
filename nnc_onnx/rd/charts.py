"""Charts as SVG: points and lines over linear or logarithmic axes, without scripts, light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple

STYLE = """
svg.chart{--ink:#1f2328;--soft:#59636e;--line:#d8dee4;--s0:#0969da;--s1:#bc4c00;--s2:#1a7f37;--s3:#8250df;--s4:#bf3989;
font:12px system-ui,sans-serif;max-width:100%;height:auto}
@media(prefers-color-scheme:dark){svg.chart{--ink:#e6edf3;--soft:#9198a1;--line:#30363d;--s0:#4493f8;--s1:#f0883e;
--s2:#3fb950;--s3:#ab7df8;--s4:#db61a2}}
.chart text{fill:var(--soft)}.chart .name{fill:var(--ink)}.chart .grid{stroke:var(--line)}
.chart .path{fill:none;stroke-width:2;stroke-linejoin:round}
.chart .s0{stroke:var(--s0);fill:var(--s0)}.chart .s1{stroke:var(--s1);fill:var(--s1)}
.chart .s2{stroke:var(--s2);fill:var(--s2)}.chart .s3{stroke:var(--s3);fill:var(--s3)}
.chart .s4{stroke:var(--s4);fill:var(--s4)}.chart .path{fill:none}
.chart .faint{fill-opacity:.45;stroke-opacity:.9}.chart .level{stroke:var(--soft);stroke-dasharray:4 4}
"""
"""Style sheet of all charts; a page needs it once."""

COLOURS = 5

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 24, 34, 52
_CHARACTER, _LINE = 6.4, 14.0
_LONGEST_LABEL = 36
_TICKS = 6


class Point(NamedTuple):
    """A point.

    Attributes:
        x, y: finite; positive on a logarithmic axis.
        hint: shown when the pointer rests on it.
        label: written beside it where there is room.
    """

    x: float
    y: float
    hint: str = ""
    label: str = ""


class Series(NamedTuple):
    """Points of one kind.

    Attributes:
        name: for the legend; empty: none.
        points: in drawing order.
        line: whether they are joined.
        faint: whether points are drawn translucent, for many of them.
    """

    name: str
    points: Sequence[Point]
    line: bool = False
    faint: bool = False


class Axis(NamedTuple):
    """An axis.

    Attributes:
        title: what it shows, with its unit.
        text: writes the number at a tick.
        log: whether it is logarithmic.
    """

    title: str
    text: Callable[[float], str] = "{:g}".format
    log: bool = False


class Level(NamedTuple):
    """A horizontal line with a name."""

    y: float
    name: str


class _Scale(NamedTuple):
    low: float
    high: float
    start: float
    end: float
    log: bool

    def at(self, value: float) -> float:
        share = (_seen(value, self.log) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def chart(title: str, series: Sequence[Series], x: Axis, y: Axis, *, levels: Sequence[Level] = ()) -> str:
    """An ``<svg>`` element, 720 by 400 units; names and labels are escaped.

    Args:
        title: its accessible name.
        series: points that an axis cannot show are left out. Colours go round after :data:`COLOURS` series.
        x, y: the axes.
        levels: lines to compare with.
    """
    shown = [entry._replace(points=[p for p in entry.points if _fits(p.x, x) and _fits(p.y, y)]) for entry in series]
    points = [point for entry in shown for point in entry.points]
    across = _scale([p.x for p in points], x, _LEFT, _WIDTH - _RIGHT)
    down = _scale([p.y for p in points] + [level.y for level in levels], y, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{safe(title)}">'
    ]
    parts += _grid(across, down, x, y)
    for level in levels:
        at = down.at(level.y)
        parts.append(f'<path class="level" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{at - 5:.1f}" text-anchor="end">{safe(level.name)}</text>')
    parts += _legend(shown)
    labels = _Labels((across.at(point.x), down.at(point.y)) for point in points if len(points) <= 64)
    for number, entry in enumerate(shown):
        colour = f"s{number % COLOURS}"
        places = [(across.at(point.x), down.at(point.y)) for point in entry.points]
        if entry.line and len(places) > 1:
            steps = "L".join(f"{left:.1f} {top:.1f}" for left, top in places)
            parts.append(f'<path class="path {colour}" d="M{steps}"/>')
        for point, (left, top) in zip(entry.points, places, strict=True):
            look = f"{colour} faint" if entry.faint else colour
            hint = f"<title>{safe(point.hint)}</title>" if point.hint else ""
            parts.append(f'<circle class="{look}" cx="{left:.1f}" cy="{top:.1f}" r="4">{hint}</circle>')
            if point.label:
                parts += labels.place(_shortened(point.label), left, top)
    parts.append("</svg>")
    return "\n".join(parts)


def standalone(svg: str) -> str:
    """A chart as a file of its own, with its style sheet."""
    head, _, body = svg.partition(">")
    return f"{head}><style>{STYLE}</style>{body}\n"


def safe(text: str) -> str:
    """Text for HTML and XML: markup escaped, and what cannot be seen (control and direction marks) made visible."""
    visible = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return escape(visible, quote=True)


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


def _fits(value: float, axis: Axis) -> bool:
    return math.isfinite(value) and (value > 0 or not axis.log)


def _seen(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def _scale(values: Sequence[float], axis: Axis, start: float, end: float) -> _Scale:
    seen = [_seen(value, axis.log) for value in values] or [0.0, 1.0]
    low, high = min(seen), max(seen)
    room = 0.06 * (high - low) or 0.05 * max(abs(high), 1.0)
    return _Scale(low - room, high + room, start, end, axis.log)


def _ticks(scale: _Scale) -> list[float]:
    if scale.log and scale.high - scale.low >= 1:
        every = max(1, math.ceil((scale.high - scale.low) / _TICKS))
        decades = range(math.ceil(scale.low), math.floor(scale.high) + 1)
        return [10.0**decade for decade in decades if decade % every == 0]
    low, high = (10**scale.low, 10**scale.high) if scale.log else (scale.low, scale.high)
    rough = (high - low) / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    stride = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [round(stride * n, 12) for n in range(math.ceil(low / stride), math.floor(high / stride) + 1)]


def _grid(across: _Scale, down: _Scale, x: Axis, y: Axis) -> Iterable[str]:
    bottom = _HEIGHT - _BOTTOM
    for tick in _ticks(across):
        at = across.at(tick)
        yield f'<path class="grid" d="M{at:.1f} {_TOP}V{bottom}"/>'
        yield f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{safe(x.text(tick))}</text>'
    for tick in _ticks(down):
        at = down.at(tick)
        yield f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>'
        yield f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{safe(y.text(tick))}</text>'
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield f'<text x="{middle:.1f}" y="{_HEIGHT - 12}" text-anchor="middle">{safe(x.title)}</text>'
    centre = (_TOP + bottom) / 2
    yield (
        f'<text transform="translate(16 {centre:.1f}) rotate(-90)" text-anchor="middle" '
        f'class="axis">{safe(y.title)}</text>'
    )


def _legend(series: Sequence[Series]) -> Iterable[str]:
    left = float(_LEFT)
    for number, entry in enumerate(series):
        if entry.name and entry.points:
            yield f'<circle class="s{number % COLOURS}" cx="{left + 5:.1f}" cy="14" r="4"/>'
            yield f'<text class="name" x="{left + 14:.1f}" y="18">{safe(entry.name)}</text>'
            left += 34 + _CHARACTER * len(entry.name)


class _Labels:
    """Labels that do not cover one another, nor the points where those are few."""

    def __init__(self, points: Iterable[tuple[float, float]]) -> None:
        self._taken = [(left - 4, top - 4, left + 4, top + 4) for left, top in points]

    def place(self, text: str, left: float, top: float) -> list[str]:
        """The label beside its point, or nothing if there is no room."""
        width = _CHARACTER * len(text)
        for x, y in ((8, 4), (8, -8), (8, 16), (-8 - width, 4), (-8 - width, -8), (-8 - width, 16), (-width / 2, -10)):
            box = (left + x, top + y - 11, left + x + width, top + y - 11 + _LINE)
            inside = box[0] >= _LEFT and box[2] <= _WIDTH and box[1] >= _TOP - 8 and box[3] <= _HEIGHT - _BOTTOM
            if inside and not any(_overlap(box, other) for other in self._taken):
                self._taken.append(box)
                return [f'<text class="name" x="{box[0]:.1f}" y="{top + y:.1f}">{safe(text)}</text>']
        return []


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
