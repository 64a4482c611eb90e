"""The exported embedder against sentence-transformers, its oracle (the one place that waits for that import)."""

from pathlib import Path

import numpy as np
import pytest

from tidegate.core.config import EmbedderConfig
from tidegate.core.errors import ConfigInvalidError, EmbedderMissingError
from tidegate.indexing.embedder_onnx import OnnxEmbedder
from tidegate.indexing.models import find_model, model_identity, read_identity
from tidegate.indexing.onnx_export import is_exported
from tidegate.indexing.tokenizer import ModelTokenizer

FILES = find_model(EmbedderConfig().model)

TEXTS = [
    "Refund",
    "How do I put a service into drydock?",
    "GWY-4012 | too many requests | wait `retry_after` seconds",
    "x " * 120,
    "Größe, naïve, 東京, \U0001f600",
    " ".join(f"word{number}" for number in range(300)),
    "```python\nfor row in rows:\n    print(row)\n```",
    "",
]


@pytest.fixture(scope="module")
def onnx() -> OnnxEmbedder:
    return OnnxEmbedder(FILES, batch_tokens=512)


@pytest.mark.timeout(180)
def test_the_export_agrees_with_sentence_transformers(onnx: OnnxEmbedder) -> None:
    from tidegate.indexing.embedder_sentence_transformers import SentenceTransformersEmbedder

    oracle = SentenceTransformersEmbedder(FILES)
    cosine = (onnx.embed(TEXTS) * oracle.embed(TEXTS)).sum(axis=1)
    assert cosine.min() >= 0.9999
    assert oracle.identity.space == onnx.identity.space
    assert oracle.identity.backend == "sentence-transformers"
    assert oracle.embed([]).shape == (0, 384)


def test_vectors_are_unit_rows_in_the_order_given(onnx: OnnxEmbedder) -> None:
    vectors = onnx.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    alone = np.concatenate([onnx.embed([text]) for text in TEXTS])
    assert (vectors * alone).sum(axis=1).min() >= 0.99999
    assert onnx.embed([]).shape == (0, 384)


def test_batches_are_sorted_by_length_and_bounded_in_tokens(onnx: OnnxEmbedder) -> None:
    encodings = onnx._model_tokenizer.encode([f"{'word ' * length}" for length in (3, 200, 5, 150, 4, 400, 2)] * 4)
    batches = list(onnx._batches(encodings))
    assert sorted(row for batch in batches for row in batch) == list(range(28))
    for batch in batches:
        width = min(max(len(encodings[row]) for row in batch), 256)
        assert len(batch) == 1 or len(batch) * width <= 512
    longest = [max(len(encodings[row]) for row in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_progress_ends_at_the_total(onnx: OnnxEmbedder) -> None:
    seen = []
    onnx.embed(TEXTS, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(TEXTS), len(TEXTS))


def test_counting_and_cutting_are_in_the_models_tokens() -> None:
    tokenizer = ModelTokenizer(FILES.tokenizer)
    assert tokenizer.count(["Refund", "GWY-4012", ""]) == [len(["ref", "##und"]), 5, 0]
    for text in (" ".join(TEXTS), "unbelievably" * 80, "a" * 5000, "\u6771\u4eac" * 300):
        for limit in (1, 7, 50):
            pieces = tokenizer.cut(text, limit)
            assert "".join(pieces) == text
            assert all(
                size <= limit for size, piece in zip(tokenizer.count(pieces), pieces, strict=True) if len(piece) > 1
            )


def test_a_large_text_is_cut_in_linear_time() -> None:
    tokenizer = ModelTokenizer(FILES.tokenizer)
    text = "some ordinary words, and numbers 1234, in one endless line " * 12_000
    pieces = tokenizer.cut(text, 200)
    assert "".join(pieces) == text
    assert max(tokenizer.count(pieces)) <= 200


def test_a_model_is_found_by_package_or_path(tmp_path: Path) -> None:
    assert find_model(f"path:{FILES.model}").weights == FILES.weights
    for spec, failure, expected in (
        ("package:no-such-model", EmbedderMissingError, "the package 'no-such-model'"),
        ("package:numpy", EmbedderMissingError, "holds no model.safetensors"),
        (f"path:{tmp_path}", EmbedderMissingError, "holds no model.safetensors"),
        ("all-MiniLM-L6-v2", ConfigInvalidError, "valid: package:<distribution>, path:<folder>"),
        ("hub:x", ConfigInvalidError, "is not understood"),
    ):
        with pytest.raises(failure, match=r"embedder\.model|package") as caught:
            find_model(spec)
        assert expected in caught.value.what


def test_a_missing_or_damaged_export_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_MODELS", str(tmp_path))
    files = find_model(EmbedderConfig().model)
    for attempt in (lambda: OnnxEmbedder(files), lambda: read_identity(files, "onnx")):
        with pytest.raises(EmbedderMissingError) as caught:
            attempt()
        assert "tidegate setup" in caught.value.next_action
    files.exported.mkdir()
    files.identity.write_bytes(FILES.identity.read_bytes())
    files.onnx.write_bytes(b"damaged")
    with pytest.raises(EmbedderMissingError, match="is damaged"):
        OnnxEmbedder(files)
    assert not is_exported(files)
    files.onnx.write_bytes(FILES.onnx.read_bytes())
    assert is_exported(files)


def test_the_identity_is_that_of_the_weights() -> None:
    assert read_identity(FILES, "onnx") == model_identity(FILES, "onnx")
    assert read_identity(FILES, "onnx").max_tokens == 256
