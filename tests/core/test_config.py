from pathlib import Path

import pytest

from tests.conftest import ROOT
from tidegate.core.config import corpus_files, find_corpus, load_corpus, parse_corpus
from tidegate.core.errors import ConfigInvalidError, CorpusUnknownError

MINIMAL = {"corpus": "docs", "source": {"path": "docs"}}


def message(values: dict) -> str:
    with pytest.raises(ConfigInvalidError) as caught:
        parse_corpus(values, where="docs.yaml")
    return caught.value.what


def test_the_defaults_are_those_that_the_documentation_promises() -> None:
    config = parse_corpus(MINIMAL, where="docs.yaml")
    assert config.source.max_document_bytes == 10_000_000
    assert (config.chunking.max_tokens, config.chunking.min_tokens) == (200, 48)
    assert (config.retrieval.mode, config.retrieval.dense_weight, config.retrieval.top_k) == ("hybrid", 0.5, 10)
    assert (config.refresh.schedule, config.promotion.policy) == ("0 3 * * 1", "auto")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"chunkin": {}}, "unknown key 'chunkin'; did you mean 'chunking'? valid: access, alerts, base_model,"),
        (
            {"source": {"path": "d", "includ": []}},
            "unknown key 'source.includ'; did you mean 'include'? valid: allow_empty,",
        ),
        ({"source": {}}, "key 'source.path' is missing"),
        ({"chunking": {"max_tokens": "many"}}, "chunking.max_tokens: Input should be a valid integer"),
        ({"chunking": {"max_tokens": 3}}, "greater than or equal to 16, got 3"),
        ({"retrieval": {"mode": "fuzzy"}}, "Input should be 'hybrid', 'dense' or 'sparse', got 'fuzzy'"),
        ({"source": {"path": "d", "max_document_bytes": "9 parsecs"}}, "unknown unit 'parsecs'; valid: B, GB, GiB"),
        ({"corpus": "My Docs"}, "corpus 'My Docs' is not usable as a name"),
        ({"refresh": {"schedule": "every monday"}}, "not a cron expression; e.g. '0 3 * * 1' is Mondays at 03:00, got"),
        ({"promotion": {"check": "61 * * * *"}}, "promotion.check: not a cron expression"),
        ({"evaluation": {"latency_concurrency": 4}}, "evaluation: latency_concurrency 4 needs an endpoint: "),
        ({"refresh": {"timezone": "Europe/Berln"}}, "did you mean 'Europe/Berlin'? valid: Africa/Abidjan, "),
        (
            {"metadata": [{"match": "*.md", "sett": {}}]},
            "unknown key 'metadata.0.sett'; did you mean 'set'? valid: match, set",
        ),
    ],
)
def test_a_mistake_names_the_key_the_value_and_what_is_valid(change: dict, expected: str) -> None:
    text = message(MINIMAL | change)
    assert text.startswith("docs.yaml: ")
    assert expected in text
    assert "\n" not in text


def test_schedules_may_be_cron_presets_or_null() -> None:
    for written in ("@weekly", "*/5 * * * 1-5", None):
        refresh = {"schedule": written, "timezone": "America/New_York"}
        assert parse_corpus(MINIMAL | {"refresh": refresh}, where="d").refresh.schedule == written


def test_sizes_may_be_written_with_a_unit() -> None:
    for written, expected in (("10 MB", 10_000_000), ("2MiB", 2_097_152), (77, 77)):
        config = parse_corpus({"corpus": "d", "source": {"path": "d", "max_document_bytes": written}}, where="d")
        assert config.source.max_document_bytes == expected


def test_the_file_name_is_the_corpus_name(tmp_path: Path) -> None:
    path = tmp_path / "docs.yaml"
    path.write_text("source: {path: d}\n")
    assert load_corpus(path).corpus == "docs"
    path.write_text("corpus: other\nsource: {path: d}\n")
    with pytest.raises(ConfigInvalidError, match="corpus is 'other' but the file is named 'docs'"):
        load_corpus(path)


@pytest.mark.parametrize("text", ["a: [1", "- just\n- a list\n", "\x00"])
def test_a_file_that_is_no_mapping_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "docs.yaml"
    path.write_text(text)
    with pytest.raises(ConfigInvalidError) as caught:
        load_corpus(path)
    assert "\n" not in caught.value.what


def test_an_unknown_corpus_names_the_known_ones_and_a_later_folder_wins(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for place, where in ((first, "one"), (second, "two")):
        place.mkdir()
        (place / "docs.yaml").write_text(f"source: {{path: {where}}}\n")
    assert find_corpus("docs", (first, second)).source.path == "two"
    assert list(corpus_files((first, second))) == ["docs"]
    with pytest.raises(CorpusUnknownError, match="no corpus or folder 'dogs'; did you mean 'docs'\\? valid: docs"):
        find_corpus("dogs", (first, second))


def test_the_corpus_files_of_the_project_are_valid() -> None:
    files = corpus_files((ROOT / "include" / "corpora",))
    assert "handbook" in files
    for path in files.values():
        load_corpus(path)
