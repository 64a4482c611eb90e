"""The metrics of a corpus's releases as an SVG line chart in the colour of the text around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

from tidegate.core.evaluation_records import Figure
from tidegate.ui.markup import percent, tag
from tidegate.ui.page_data import METRICS, Served, Version

_WIDTH, _HEIGHT = 1100, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 180, 14, 42
_LABEL_HEIGHT = 15
_LABELS = 15
"""Columns that are named under the axis, at most."""
_LINES = {"correct": ("circle", None), "refusal_recall": ("square", "6 4"), "recall@10": ("triangle", "2 4")}
"""Marker and dashes of each metric."""


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    told: str
    day: str
    figures: dict[str, Figure]


@dataclass(frozen=True, slots=True)
class _Plot:
    columns: tuple[_Column, ...]

    def x(self, column: int) -> float:
        room = _WIDTH - _LEFT - _RIGHT
        last = len(self.columns) - 1
        return round(_LEFT + (room * (column + 0.5) / (last + 1)), 1)

    def y(self, value: float) -> float:
        return round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - min(1.0, max(0.0, value))), 1)

    def points(self, metric: str) -> list[tuple[float, float, Figure]]:
        """Return (x, y, figure) of the columns that have a metric."""
        found = ((number, column.figures.get(metric)) for number, column in enumerate(self.columns))
        return [(self.x(number), self.y(figure.value), figure) for number, figure in found if figure]


def draw_releases(versions: Sequence[Version], candidate: Served | None) -> Markup | None:
    """Return the chart, oldest release first, the candidate last; None if no release has a metric."""
    columns = [_version_column(version) for version in reversed(versions)]
    if candidate:
        columns.append(_Column("candidate", "candidate", "", candidate.figures()))
    if not any(column.figures for column in columns):
        return None
    plot = _Plot(tuple(columns))
    return tag(
        "svg",
        *(_grid_line(plot, share) for share in (0, 0.25, 0.5, 0.75, 1)),
        *_axis(plot),
        *(_line(plot, metric) for metric in METRICS),
        *_labels(plot),
        *_tooltips(plot),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label="Metrics by release",
        fill="none",
        stroke="currentColor",
    )


def _version_column(version: Version) -> _Column:
    figures = version.served.figures() if version.served else {}
    at = datetime.fromtimestamp(version.written, UTC) if version.written is not None else None
    when = f", {at:%Y-%m-%d %H:%M} UTC" if at else ""
    op = "promoted by" if version.op == "promote" else "rolled back:"
    name = f"v{version.seq}" + (" ↩" if version.op == "rollback" else "")
    return _Column(name, f"v{version.seq} {op} {version.by}{when}", f"{at:%Y-%m-%d}" if at else "", figures)


def _grid_line(plot: _Plot, share: float) -> Markup:
    y = plot.y(share)
    line = tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, opacity=0.35 if share == 0 else 0.12)
    if share not in (0, 0.5, 1):
        return line
    return line + _text(f"{share * 100:.0f} %", _LEFT - 8, y + 4, "end")


def _axis(plot: _Plot) -> list[Markup]:
    """Return the names of the columns, and the days of the first and the last release."""
    last = len(plot.columns) - 1
    every = -(-len(plot.columns) // _LABELS)
    named = [number for number in range(last + 1) if (last - number) % every == 0]
    marks = [_text(plot.columns[number].name, plot.x(number), _HEIGHT - 24, "middle") for number in named]
    dated = [number for number, column in enumerate(plot.columns) if column.day]
    days = sorted({dated[0], dated[-1]}) if dated else []
    return marks + [_text(plot.columns[number].day, plot.x(number), _HEIGHT - 8, "middle", 0.65) for number in days]


def _line(plot: _Plot, metric: str) -> Markup:
    """Return a metric's points, joined; the interval of each as a bar."""
    marker, dashes = _LINES[metric]
    points = plot.points(metric)
    joined = tag(
        "polyline",
        points=" ".join(f"{x},{y}" for x, y, _ in points),
        stroke_width=1.75,
        stroke_dasharray=dashes,
        opacity=0.85,
    )
    bars = [
        tag("line", x1=x, x2=x, y1=plot.y(figure.low), y2=plot.y(figure.high), opacity=0.4)
        for x, _, figure in points
        if figure.low is not None and figure.high is not None and metric == "correct"
    ]
    return tag("g", joined, *bars, *(_marker(marker, x, y) for x, y, _ in points), data_metric=metric)


def _marker(kind: str, x: float, y: float) -> Markup:
    if kind == "circle":
        return tag("circle", cx=x, cy=y, r=3.5, fill="currentColor")
    if kind == "square":
        return tag("rect", x=x - 3, y=y - 3, width=6, height=6, fill="currentColor")
    return tag("path", d=f"M{x} {y - 4}l4 7h-8z", fill="currentColor")


def _labels(plot: _Plot) -> list[Markup]:
    """Return each metric's name and newest value at the right, apart from one another."""
    ends = sorted((points[-1][1], metric, points[-1][2]) for metric in METRICS if (points := plot.points(metric)))
    x, at = _WIDTH - _RIGHT + 12, float("-inf")
    shown: list[Markup] = []
    room = _HEIGHT - _BOTTOM
    for number, (y, metric, figure) in enumerate(ends):
        at = min(max(at + _LABEL_HEIGHT, y), room - _LABEL_HEIGHT * (len(ends) - 1 - number))
        marker = _marker(_LINES[metric][0], x, at)
        shown += [marker, _text(f"{percent(figure.value)} {METRICS[metric]}", x + 10, at + 4, "start")]
    return shown


def _tooltips(plot: _Plot) -> list[Markup]:
    """Return a strip over each column that tells it in words when it is pointed at."""
    width = plot.x(1) - plot.x(0) if len(plot.columns) > 1 else _WIDTH - _LEFT - _RIGHT
    strips = []
    for number, column in enumerate(plot.columns):
        lines = [column.told, *(_told(metric, figure) for metric, figure in column.figures.items())]
        title = tag("title", "\n".join(lines if column.figures else [*lines, "not evaluated"]))
        left = plot.x(number) - width / 2
        strip = tag(
            "rect", title, x=round(left, 1), y=0, width=round(width, 1), height=_HEIGHT, stroke="none", class_="strip"
        )
        strips.append(strip)
    return strips


def _told(metric: str, figure: Figure) -> str:
    between = "" if figure.low is None or figure.high is None else f" ({percent(figure.low)} to {percent(figure.high)})"
    rows = f", {figure.n} rows" if figure.n else ""
    return f"{METRICS[metric]}: {percent(figure.value)}{between}{rows}"


def _text(words: str, x: float, y: float, anchor: str, opacity: float = 0.9) -> Markup:
    return tag("text", words, x=x, y=y, text_anchor=anchor, fill="currentColor", stroke="none", opacity=opacity)
