"""The embedder's own tokenizer, for limits and batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Encoding
from tokenizers import Tokenizer as _Tokenizer

_MAX_CHARACTERS = 16
"""Characters that one token may stand for: WordPiece makes a single token of any word over 100 characters."""


class ModelTokenizer:
    """Counts and cuts by a ``tokenizer.json``; special tokens are left out. Never truncates or pads."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = _Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the size of each text: its tokens, or more where a few tokens stand for very many characters."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [
            max(len(encoding), -(-len(text) // _MAX_CHARACTERS))
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def cut(self, text: str, limit: int) -> list[str]:
        """Cut a text into consecutive pieces of at most ``limit`` tokens each; joined they are the text."""
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        ends = [*sorted({offsets[at][0] for at in range(limit, len(offsets), limit)} - {0}), len(text)]
        pieces = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        fitting = []
        for piece, size in zip(pieces, self.count(pieces), strict=True):
            # A cut inside a word can add a token, and a word may be endless; halving always ends, at one character.
            middle = len(piece) // 2
            halves = (
                [piece]
                if size <= limit or middle == 0
                else [*self.cut(piece[:middle], limit), *self.cut(piece[middle:], limit)]
            )
            fitting += halves
        return fitting

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Return full encodings, special tokens included."""
        return self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=True)
