"""Which lines of a Markdown text are fenced code, also where a fence was lost.

Where the fences of a text pair up, they are read as in CommonMark. Where they do not, one lost or damaged fence must
not turn the rest of the page inside out and change all of its chunks: the sections that pair up on their own are still
read as they stand, and in the others a fence that is never closed is a line of text, and so is one that stands as a
closing fence does.
"""

from __future__ import annotations

import bisect
import re
from functools import cached_property

_FENCE = re.compile(r"[ \t]*(?:>[ \t]*)*(?:[-*+][ \t]+|\d+[.)][ \t]+)?(`{3,}|~{3,})([^`]*)$")
_HEADING = re.compile(r"#{1,6}[ \t]+\S")


class Fences:
    """The fences of a text's lines; the list is looked at when asked, not copied."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._paired: dict[int, bool] = {}

    def end(self, at: int) -> int:
        """Return the line after a fenced block that starts at line ``at``; 0 if none starts here."""
        opening = _FENCE.match(self._lines[at])
        if not opening:
            return 0
        bound = len(self._lines)
        mend = not (self._pair_up or self._section_pairs_up(at))
        if mend:
            bound = self._section_of(at)[1]
            if self._stands_as_closing(at, opening):
                return 0
        end = self._closing(at, opening, bound)
        return 0 if end and mend and self._opens_a_block(end) else end and end + 1

    @cached_property
    def _pair_up(self) -> bool:
        return self._pairs_up(0, len(self._lines))

    @cached_property
    def _sections(self) -> list[int]:
        """Lines of the headings that stand alone: where sections begin, if they are not code."""
        return [
            at
            for at, line in enumerate(self._lines)
            if _HEADING.match(line) and not self._has_text(at - 1) and not self._has_text(at + 1)
        ]

    def _section_of(self, at: int) -> tuple[int, int]:
        number = bisect.bisect_right(self._sections, at)
        start = self._sections[number - 1] if number else 0
        return start, self._sections[number] if number < len(self._sections) else len(self._lines)

    def _section_pairs_up(self, at: int) -> bool:
        start, stop = self._section_of(at)
        if start not in self._paired:
            self._paired[start] = self._pairs_up(start, stop)
        return self._paired[start]

    def _pairs_up(self, at: int, stop: int) -> bool:
        """Tell whether every fence that opens a block is followed by the one that closes it."""
        while at < stop:
            opening = _FENCE.match(self._lines[at])
            if opening:
                at = self._closing(at, opening, stop)
                if not at:
                    return False
            at += 1
        return True

    def _closing(self, at: int, opening: re.Match[str], stop: int) -> int:
        """Return the next line with a fence that could close this one; 0 if there is none or it opens a block."""
        for end in range(at + 1, stop):
            fence = _FENCE.match(self._lines[end])
            if fence and fence[1][0] == opening[1][0] and len(fence[1]) >= len(opening[1]):
                return 0 if fence[2].strip() else end
        return 0

    def _opens_a_block(self, at: int) -> bool:
        """Tell whether a bare fence begins a run of lines: text right below it, and none above."""
        return self._has_text(at + 1) and not self._has_text(at - 1)

    def _stands_as_closing(self, at: int, fence: re.Match[str]) -> bool:
        """Tell whether a bare fence ends a run of lines: text right above it, and none below."""
        return not fence[2].strip() and self._has_text(at - 1) and not self._has_text(at + 1)

    def _has_text(self, at: int) -> bool:
        return 0 <= at < len(self._lines) and bool(self._lines[at].strip())
