"""Which segments to rewrite into one, so that many small refreshes leave few segments and little garbage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

FAN_IN = 8
"""Segments of one size class that are merged together."""
MAX_GARBAGE = 0.4
"""A segment with a larger share of dead rows is rewritten."""


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """Live and stored rows of one segment: chunks and documents together."""

    live: int
    stored: int

    @property
    def size_class(self) -> int:
        """Logarithm of the live rows to base :data:`FAN_IN`, at least 2: the tiers of size-tiered compaction."""
        return max(2, int(math.log(max(self.live, 1), FAN_IN)))


def segments_to_merge(sizes: Sequence[SegmentSize]) -> list[int]:
    """Return the positions to rewrite into the segment that is being written anyway.

    A segment is taken for its garbage, or because :data:`FAN_IN` segments of its class have gathered. A class is merged
    from the smallest up, so a change of 1 % rewrites about its own size many times over a corpus's life, and the whole
    corpus seldom.
    """
    chosen = {at for at, size in enumerate(sizes) if size.stored and size.live < (1 - MAX_GARBAGE) * size.stored}
    classes: dict[int, list[int]] = {}
    for at, size in enumerate(sizes):
        if at not in chosen:
            classes.setdefault(size.size_class, []).append(at)
    for members in classes.values():
        if len(members) >= FAN_IN:
            chosen |= set(members)
    return sorted(chosen)
