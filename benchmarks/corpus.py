"""A generated corpus of any size: Markdown pages of words drawn by rank, equal for equal seeds."""

from __future__ import annotations

import random
from pathlib import Path

WORDS = [f"{stem}{ending}" for stem in ("gate", "tide", "lock", "ebb", "flood", "keel") for ending in range(400)]


def write_pages(folder: Path, pages: int, *, seed: int = 7) -> list[Path]:
    """Write ``pages`` pages of four sections; return their paths."""
    generator = random.Random(seed)
    weights = [1 / rank for rank in range(1, len(WORDS) + 1)]
    paths = []
    for number in range(pages):
        path = folder / f"part{number // 250:02}" / f"page{number:05}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        sections = [f"## Section {at}\n\n{' '.join(generator.choices(WORDS, weights, k=90))}." for at in range(1, 5)]
        path.write_text(f"# Page {number}\n\n" + "\n\n".join(sections) + "\n")
        paths.append(path)
    return paths


def edit_one_line(path: Path, number: int) -> None:
    """Change one word of the second section."""
    lines = path.read_text().splitlines(keepends=True)
    lines[8] = f"edited{number} {lines[8]}"
    path.write_text("".join(lines))
