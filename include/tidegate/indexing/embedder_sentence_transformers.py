"""The same weights through sentence-transformers: for GPU workers, and the oracle of the ONNX export's test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sentence_transformers import SentenceTransformer

from tidegate.indexing.models import ModelFiles, read_identity
from tidegate.indexing.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tidegate.core.protocols import Progress, Tokenizer


class SentenceTransformersEmbedder:
    """Embeds on the best device that torch finds; vectors are in the same space as the ONNX export's."""

    def __init__(self, files: ModelFiles, *, batch_tokens: int = 4096) -> None:
        self.identity = read_identity(files, "sentence-transformers")
        self.tokenizer: Tokenizer = ModelTokenizer(files.tokenizer)
        self._model = SentenceTransformer(str(files.model), local_files_only=True)
        self._batch_size = max(1, batch_tokens // self.identity.max_tokens)

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return unit vectors, shape (len(texts), dimension), in the order given."""
        if not texts:
            return np.zeros((0, self.identity.dimension), dtype=np.float32)
        vectors = self._model.encode(
            list(texts),
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        if progress:
            progress(len(texts), len(texts))
        return np.asarray(vectors, dtype=np.float32)
