"""The default embedder: the exported fp32 graph in ONNX Runtime, no torch; batches by length, sized in tokens."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from tidegate.core.canonical import sha256_hex
from tidegate.core.errors import EmbedderMissingError
from tidegate.core.records import EmbedderIdentity
from tidegate.indexing.models import ModelFiles
from tidegate.indexing.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Encoding

    from tidegate.core.protocols import Progress, Tokenizer


class OnnxEmbedder:
    """Embeds on the CPU; texts longer than the model's limit are cut at it (the splitter never makes one)."""

    def __init__(self, files: ModelFiles, *, threads: int = 0, batch_tokens: int = 4096) -> None:
        if not files.identity.is_file():
            raise EmbedderMissingError(f"the ONNX export of {files.name} is not at {files.exported}")
        record = json.loads(files.identity.read_bytes())
        graph = files.onnx.read_bytes()
        if sha256_hex(graph) != record["onnx"]["sha256"]:
            raise EmbedderMissingError(f"{files.onnx} is damaged: its digest is not the recorded one")
        self.identity = EmbedderIdentity.model_validate(record["embedder"])
        self._model_tokenizer = ModelTokenizer(files.tokenizer)
        self.tokenizer: Tokenizer = self._model_tokenizer
        self._batch_tokens = batch_tokens
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return unit vectors, shape (len(texts), dimension), in the order given."""
        vectors = np.zeros((len(texts), self.identity.dimension), dtype=np.float32)
        encodings = self._model_tokenizer.encode(texts)
        done = 0
        for rows in self._batches(encodings):
            ids, mask = self._padded([encodings[row] for row in rows])
            (vectors[rows],) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
            done += len(rows)
            if progress:
                progress(done, len(texts))
        return vectors

    def _batches(self, encodings: Sequence[Encoding]) -> Iterator[list[int]]:
        """Yield row numbers, longest first, so that padding is small and memory peaks at the start."""
        batch: list[int] = []
        for row in sorted(range(len(encodings)), key=lambda row: -len(encodings[row])):
            width = min(len(encodings[batch[0] if batch else row]), self.identity.max_tokens)
            if batch and (len(batch) + 1) * width > self._batch_tokens:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _padded(self, encodings: Sequence[Encoding]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        width = min(max(len(encoding) for encoding in encodings), self.identity.max_tokens)
        ids = np.zeros((len(encodings), width), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            kept = self._within_limit(encoding.ids, width)
            ids[row, : len(kept)] = kept
            mask[row, : len(kept)] = 1
        return ids, mask

    @staticmethod
    def _within_limit(ids: list[int], width: int) -> list[int]:
        """Cut a long input but keep its closing special token, as sentence-transformers does."""
        return ids if len(ids) <= width else [*ids[: width - 1], ids[-1]]
