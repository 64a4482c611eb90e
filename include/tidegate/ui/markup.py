"""HTML from Python values: every text is escaped, because documents, questions and answers are not ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from markupsafe import Markup

_HOUR, _DAY = 3600, 86400
_HOURS_SHOWN = 48
_EMPTY = {"line", "path", "circle", "rect", "polyline"}


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; children and attributes that are None are left out, ``_`` in a name stands for ``-``."""
    words = join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY and not children:
        return Markup("<{}{}/>").format(name, words)
    return Markup("<{0}{1}>{2}</{0}>").format(name, words, join(children))


def join(children: Iterable[object]) -> Markup:
    """Return children one after the other; all but markup are escaped."""
    return Markup("").join(
        child if isinstance(child, Markup) else str(child) for child in children if child is not None
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], **attributes: object) -> Markup:
    """Return a table."""
    head = tag("tr", *(tag("th", heading, scope="col") for heading in headings))
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("table", tag("thead", head), tag("tbody", *body), **attributes)


def facts(*pairs: tuple[str, object]) -> Markup:
    """Return names with their values; a pair whose value is None is left out."""
    return tag("dl", *(tag("dt", name) + tag("dd", value) for name, value in pairs if value is not None))


def digest(value: str | None) -> Markup | None:
    """Return the first twelve digits of a digest, the whole of it as a tooltip."""
    return tag("code", value[:12], title=value) if value else None


def moment(seconds: float | None) -> Markup | None:
    """Return a time in UTC, to the minute."""
    if seconds is None:
        return None
    at = datetime.fromtimestamp(seconds, UTC)
    return tag("time", f"{at:%Y-%m-%d %H:%M} UTC", datetime=at.isoformat(timespec="seconds"))


def age(seconds: float) -> str:
    """Return a duration in whole hours, or days; coarse, so that a page stays the same while it is read."""
    if seconds < _HOUR:
        return "less than 1 h"
    return f"{int(seconds // _HOUR)} h" if seconds < _HOURS_SHOWN * _HOUR else f"{int(seconds // _DAY)} d"


def percent(value: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{value * 100:.1f} %"


def count(number: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
