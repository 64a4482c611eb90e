"""Charts as inline SVG: intervals on a linear axis, and costs on two logarithmic ones.

They bear classes and no colours: the page that shows them draws in its own text colour, light or dark. Labels are
escaped; nothing is fetched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tidegate.core.errors import one_line

_WIDTH = 940
_ROW = 24
_MARGIN = 12
_LETTER, _STRONG = 7.0, 8.6
"""Width of a letter of a label in user units, generously."""
_LABEL = 34
"""Letters of a label; a longer one is cut, its tooltip is whole."""
_SAMPLES = 48
_COST_HEIGHT = 330
_DASHES = ("none", "7 3", "2 3", "8 3 2 3", "12 4", "1 4")
"""Lines differ by dash as well as by colour."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A value with its interval; ``kind`` is the class that it is drawn with, ``text`` its tooltip."""

    value: float
    low: float | None
    high: float | None
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class MarkRow:
    """A labelled row of an interval plot, with the figure that stands at its right."""

    label: str
    note: str
    marks: tuple[Mark, ...]
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """The monthly cost of an arm: ``fixed + each * queries``, and the points of its table."""

    label: str
    fixed: float
    each: float
    points: tuple[tuple[int, float], ...]

    def cost(self, queries: float) -> float:
        """Return the cost of a month of so many queries."""
        return self.fixed + self.each * queries


def interval_plot(
    rows: Sequence[MarkRow],
    *,
    title: str,
    unit: str,
    bounds: tuple[float, float] | None = None,
    around: float | None = None,
) -> Markup:
    """Return a dot-and-interval plot, one row per label; values in per cent or points.

    ``bounds`` are what the values can be: no tick is outside. ``around`` is a value that the axis must show. Raises
    ``ValueError`` for no row.
    """
    if not rows:
        raise ValueError("a plot needs at least one row")
    marks = [mark for row in rows for mark in row.marks]
    ends = [end for mark in marks for end in (mark.value, mark.low, mark.high, around) if end is not None]
    ticks = linear_ticks(min(ends), max(ends), bounds)
    left = _STRONG * min(_LABEL, max(len(row.label) for row in rows)) + 16
    right = _WIDTH - _LETTER * max(len(row.note) for row in rows) - 16
    scale = (right - left) / (ticks[-1] - ticks[0])
    bottom = _MARGIN + _ROW * len(rows)
    parts = [_text((left + right) / 2, bottom + 33, unit, "middle", "tick")]
    for tick in ticks:
        at = left + (tick - ticks[0]) * scale
        parts.append(_line(at, _MARGIN, at, bottom, "zero" if tick == around else "grid"))
        parts.append(_text(at, bottom + 16, _tick(tick), "middle", "tick"))
    for number, row in enumerate(rows):
        middle = _MARGIN + _ROW * (number + 0.5)
        parts += [_label(middle + 4, row), _text(_WIDTH, middle + 4, row.note, "end", "note")]
        parts += _marks(row.marks, middle, left, scale, ticks[0])
    return _svg(parts, bottom + 40, title)


def cost_plot(lines: Sequence[Line], crossings: Sequence[tuple[float, float]], *, title: str, unit: str) -> Markup:
    """Return monthly costs by queries a month on logarithmic axes; crossings are (queries, cost).

    Lines that cost nothing have no place on such axes and are left out; empty if none is left.
    """
    lines = [line for line in lines if line.each > 0 or line.fixed > 0]
    volumes = sorted({volume for line in lines for volume, _ in line.points})
    if len(volumes) < 2:
        return Markup()
    axes = _cost_axes(lines, volumes)
    parts = [_text(axes.left, axes.top - 12, unit, "start", "tick")]
    parts += [axes.across(cost) for cost in decades(axes.low, axes.high)]
    parts += [axes.up(volume) for volume in decades(axes.first, axes.last)]
    parts.append(_text((axes.left + axes.right) / 2, axes.bottom + 36, "queries a month", "middle", "tick"))
    steps = [axes.first * (axes.last / axes.first) ** (step / _SAMPLES) for step in range(_SAMPLES + 1)]
    heights = _apart([axes.y(line.cost(axes.last)) for line in lines])
    for at, (line, height) in enumerate(zip(lines, heights, strict=True)):
        path = " ".join(f"{axes.x(step):.1f},{axes.y(line.cost(step)):.1f}" for step in steps)
        parts.append(_polyline(path, at))
        parts += [_point(axes.x(volume), axes.y(cost), at) for volume, cost in line.points if cost > 0]
        parts.append(_text(axes.right + 10, height + 4, _cut(line.label), "start", f"{_series(at)} name"))
    parts += [
        _ring(axes.x(volume), axes.y(cost), f"the same cost at {volume:,.0f} queries a month")
        for volume, cost in crossings
        if axes.first <= volume <= axes.last and axes.low <= cost <= axes.high
    ]
    return _svg(parts, _COST_HEIGHT, title)


def linear_ticks(low: float, high: float, bounds: tuple[float, float] | None = None) -> list[float]:
    """Return four to eight round ticks that enclose a range, kept inside bounds."""
    raw = (high - low or 5.0) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        first, last = (first - 1, last) if bounds and step * (first + 1) > bounds[1] else (first, last + 1)
    ticks = [round(step * number, 10) for number in range(first, last + 1)]
    return ticks if bounds is None else [tick for tick in ticks if bounds[0] <= tick <= bounds[1]]


def decades(low: float, high: float) -> list[float]:
    """Return the powers of ten from ``low`` to ``high``."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    return [10.0**power for power in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class _LogAxes:
    """Two logarithmic axes: queries from ``first`` to ``last``, costs from ``low`` to ``high``, and their place."""

    first: float
    last: float
    low: float
    high: float
    left: float
    right: float
    top: float
    bottom: float

    def x(self, queries: float) -> float:
        return self.left + (self.right - self.left) * math.log(queries / self.first) / math.log(self.last / self.first)

    def y(self, cost: float) -> float:
        return self.bottom - (self.bottom - self.top) * math.log(cost / self.low) / math.log(self.high / self.low)

    def across(self, cost: float) -> Markup:
        line = _line(self.left, self.y(cost), self.right, self.y(cost), "grid")
        return line + _text(self.left - 8, self.y(cost) + 4, _tick(cost), "end", "tick")

    def up(self, queries: float) -> Markup:
        line = _line(self.x(queries), self.top, self.x(queries), self.bottom, "grid")
        return line + _text(self.x(queries), self.bottom + 17, _tick(queries), "middle", "tick")


def _cost_axes(lines: Sequence[Line], volumes: Sequence[int]) -> _LogAxes:
    costs = [line.cost(volume) for line in lines for volume in (volumes[0], volumes[-1])]
    low = 10.0 ** math.floor(math.log10(min(costs)))
    high = max(10.0 ** math.ceil(math.log10(max(costs))), 10 * low)
    names = _STRONG * max(len(_cut(line.label)) for line in lines)
    return _LogAxes(
        volumes[0], volumes[-1], low, high,
        left=68.0, right=_WIDTH - names - 12, top=_MARGIN + 18, bottom=_COST_HEIGHT - 44,
    )  # fmt: skip


def _marks(marks: Sequence[Mark], middle: float, left: float, scale: float, first: float) -> list[Markup]:
    """Draw the marks of a row; two of them stand a little above and below its middle."""
    parts = []
    for number, mark in enumerate(marks):
        height = middle + (0 if len(marks) == 1 else (number - 0.5) * 9)
        at = left + (mark.value - first) * scale
        parts.append(Markup('<g class="mark {}"><title>{}</title>').format(mark.kind, _plain(mark.text)))
        if mark.low is not None and mark.high is not None:
            ends = [left + (end - first) * scale for end in (mark.low, mark.high)]
            parts.append(_line(ends[0], height, ends[1], height, "interval"))
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4"/></g>').format(at, height))
    return parts


def _label(height: float, row: MarkRow) -> Markup:
    whole = Markup("<title>{}</title>").format(_plain(row.label)) if len(_plain(row.label)) > _LABEL else Markup()
    kind = "label strong" if row.strong else "label"
    text = Markup('<text x="0" y="{:.1f}" class="{}">{}{}</text>')
    return text.format(height, kind, _cut(row.label), whole)


def _plain(text: str) -> str:
    return one_line(" ".join(text.split()))


def _cut(label: str) -> str:
    line = _plain(label)
    return line if len(line) <= _LABEL else f"{line[: _LABEL - 1]}…"


def _apart(heights: Sequence[float], gap: float = 15) -> list[float]:
    """Return heights moved down where they would be nearer to each other than a gap."""
    placed = dict.fromkeys(range(len(heights)), 0.0)
    last = -math.inf
    for at in sorted(placed, key=lambda number: heights[number]):
        last = placed[at] = max(heights[at], last + gap)
    return list(placed.values())


def _series(at: int) -> str:
    return f"series{at % len(_DASHES)}"


def _tick(value: float) -> str:
    return f"{value:,.10g}".replace("-", "−")


def _line(left: float, top: float, right: float, bottom: float, kind: str) -> Markup:
    text = Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>')
    return text.format(left, top, right, bottom, kind)


def _text(at: float, height: float, text: str, anchor: str, kind: str) -> Markup:
    element = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>')
    return element.format(at, height, anchor, kind, _plain(text))


def _polyline(path: str, at: int) -> Markup:
    element = Markup('<polyline points="{}" stroke-dasharray="{}" class="{} curve"/>')
    return element.format(path, _DASHES[at % len(_DASHES)], _series(at))


def _point(at: float, height: float, number: int) -> Markup:
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3" class="{} dot"/>').format(at, height, _series(number))


def _ring(at: float, height: float, text: str) -> Markup:
    element = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="6" class="ring"><title>{}</title></circle>')
    return element.format(at, height, text)


def _svg(parts: Sequence[Markup], height: float, title: str) -> Markup:
    element = Markup(
        '<svg class="chart" viewBox="0 0 {} {:.0f}" width="{}" height="{:.0f}" role="img" aria-label="{}">{}</svg>'
    )
    return element.format(_WIDTH, height, _WIDTH, height, _plain(title), Markup().join(parts))
