"""A mistake in a corpus file: exit code 2 and one line that names file, key, value and what is valid."""

from pathlib import Path

import pytest

from tests.cli.conftest import Call, assert_mistake, write

TOP_KEYS = (
    "valid: access, alerts, base_model, chunking, corpus, costs, description, embedder, evaluation, gate, metadata, "
    "promotion, prompt, qa, quarantine, refresh, retrieval, serving, source, training"
)
SOURCE = "source: {{path: {folder}}}\n"

SETTINGS = {
    "an unknown key": (SOURCE + "chunkin: {{}}", ["unknown key 'chunkin'; did you mean 'chunking'?", TOP_KEYS]),
    "an unknown key of a section": (
        "source: {{path: x, includ: []}}",
        [
            "unknown key 'source.includ'; did you mean 'include'?",
            "valid: allow_empty, exclude, include, kind, max_document_bytes, path",
        ],
    ),
    "an unknown key of a list's item": (
        SOURCE + "metadata: [{{match: '*.md', sett: {{}}}}]",
        ["unknown key 'metadata.0.sett'; did you mean 'set'?", "valid: match, set"],
    ),
    "a key that is a number": (SOURCE + "1: 2", ["1"]),
    "no source": ("description: none", ["key 'source' is missing"]),
    "no path": ("source: {{}}", ["key 'source.path' is missing"]),
    "text for a section": ("source: docs", ["source", "'docs'"]),
    "nothing for a section": (SOURCE + "chunking:", ["chunking"]),
    "a section for a list": (SOURCE + "metadata: {{match: '*.md'}}", ["metadata", "list"]),
    "text for a list": ("source: {{path: x, include: '*.md'}}", ["source.include", "list", "'*.md'"]),
    "a number for a path": ("source: {{path: 7}}", ["source.path", "string", "7"]),
    "an empty path": ("source: {{path: ''}}", ["source.path"]),
    "a number for text": (
        SOURCE + "metadata: [{{match: '*', set: {{version: 2}}}}]",
        ["metadata.0.set.version", "string", "2"],
    ),
    "a word for a number": (SOURCE + "chunking: {{max_tokens: many}}", ["chunking.max_tokens", "integer", "'many'"]),
    "a word for yes or no": ("source: {{path: x, allow_empty: maybe}}", ["source.allow_empty", "boolean", "'maybe'"]),
    "too few tokens": (SOURCE + "chunking: {{max_tokens: 3}}", ["chunking.max_tokens", "16", "got 3"]),
    "more tokens than the model takes": (
        SOURCE + "chunking: {{max_tokens: 5000}}",
        ["chunking.max_tokens", "5000", "254"],
    ),
    "too great a weight": (SOURCE + "retrieval: {{dense_weight: 1.5}}", ["retrieval.dense_weight", "1", "got 1.5"]),
    "too great a share": (SOURCE + "quarantine: {{max_share: 20}}", ["quarantine.max_share", "1", "got 20"]),
    "no passage": (SOURCE + "retrieval: {{top_k: 0}}", ["retrieval.top_k", "1", "got 0"]),
    "no byte": ("source: {{path: x, max_document_bytes: 0}}", ["source.max_document_bytes", "greater than 0", "got 0"]),
    "an unknown unit": (
        "source: {{path: x, max_document_bytes: 9 parsecs}}",
        ["'parsecs'", "valid: B, GB, GiB, KB, KiB, MB, MiB"],
    ),
    "an unknown source": ("source: {{path: x, kind: git}}", ["source.kind", "'folder'", "'git'"]),
    "an unknown mode": (
        SOURCE + "retrieval: {{mode: fuzzy}}",
        ["retrieval.mode", "'hybrid', 'dense' or 'sparse'", "'fuzzy'"],
    ),
    "an unknown policy": (
        SOURCE + "promotion: {{policy: maybe}}",
        ["promotion.policy", "'auto', 'approve' or 'never'", "'maybe'"],
    ),
    "an unknown backend": (SOURCE + "embedder: {{backend: cuda}}", ["embedder.backend", "'onnx'", "'cuda'"]),
    "an unknown kind of model": (
        SOURCE + "embedder: {{model: 'hub:a/b'}}",
        ["'hub:a/b'", "package:<distribution>, path:<folder>"],
    ),
    "a model that is not installed": (
        SOURCE + "embedder: {{model: 'package:no-such'}}",
        ["'no-such'", "embedder.model", "not installed"],
    ),
    "a package that is no model": (SOURCE + "embedder: {{model: 'package:json'}}", ["json", "embedder.model"]),
    "a package inside nothing": (SOURCE + "embedder: {{model: 'package:no.such'}}", ["'no.such'", "embedder.model"]),
    "a model folder that is not there": (
        SOURCE + "embedder: {{model: 'path:/no/where'}}",
        ["/no/where", "embedder.model"],
    ),
    "a pattern without a name": ("source: {{path: {folder}, exclude: ['!']}}", ["source.exclude", "'!'"]),
    "a metadata pattern without a name": (
        SOURCE + "metadata: [{{match: '!', set: {{a: b}}}}]",
        ["metadata.0.match", "'!'"],
    ),
    "a schedule in words": (
        SOURCE + "refresh: {{schedule: every monday}}",
        ["refresh.schedule", "'every monday'", "cron"],
    ),
    "a time zone of another planet": (
        SOURCE + "refresh: {{timezone: Mars/Olympus}}",
        ["refresh.timezone", "'Mars/Olympus'"],
    ),
    "another name": (SOURCE + "corpus: other", ["'other'", "'broken'"]),
    "no YAML": ("a: [1", ["not valid YAML", "line 1"]),
    "a key that stands twice": (SOURCE + "source: {{path: other}}", ["the key 'source' stands twice", "line 2"]),
    "a list": ("- a", ["expected keys and values", "list"]),
    "nothing": ("", ["expected keys and values", "nothing"]),
    "text": ("just text", ["expected keys and values"]),
    "a Python object": ("source: !!python/object/apply:os.system [x]", ["not valid YAML", "line 1"]),
}


@pytest.fixture
def corpora(home: Path) -> Path:
    return home / "include" / "corpora"


@pytest.mark.parametrize(("text", "named"), SETTINGS.values(), ids=SETTINGS)
def test_a_mistake_in_a_setting_is_one_line(
    text: str, named: list[str], corpora: Path, folder: Path, cli: Call
) -> None:
    write(folder, {"one.md": "# one\n\ntext\n"})
    (corpora / "broken.yaml").write_text(text.format(folder=folder))
    assert_mistake(cli("refresh", "broken"), *named)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\x00"])
def test_a_corpus_file_that_is_no_text_is_named(data: bytes, corpora: Path, cli: Call) -> None:
    (corpora / "broken.yaml").write_bytes(data)
    assert_mistake(cli("refresh", "broken"), f"{corpora}/broken.yaml: not valid ")


@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_a_corpus_file_that_is_no_file_is_named(kind: str, corpora: Path, cli: Call) -> None:
    path = corpora / "broken.yaml"
    path.mkdir() if kind == "folder" else path.symlink_to("/no/where.yaml")
    assert_mistake(cli("refresh", "broken"), f"{path}")


@pytest.mark.parametrize("name", ["Bad Name", "UPPER", "x" * 64])
def test_the_name_of_a_corpus_file_must_be_usable(name: str, corpora: Path, cli: Call) -> None:
    (corpora / f"{name}.yaml").write_text("source: {path: x}\n")
    assert_mistake(cli("refresh", name), f"'{name}' is not usable as a name", "a-z, 0-9")


@pytest.mark.parametrize(
    ("path", "problem"), [("gone", "does not exist"), ("include/corpora/broken.yaml", "is not a folder")]
)
def test_a_source_that_is_no_folder_is_named_in_full(
    path: str, problem: str, corpora: Path, home: Path, cli: Call
) -> None:
    (corpora / "broken.yaml").write_text(f"source: {{path: {path}}}\n")
    assert_mistake(cli("refresh", "broken"), f"{home}/{path} {problem}", "source.path", "nothing was changed")


def test_a_mistake_in_one_corpus_file_does_not_stop_the_others(corpora: Path, folder: Path, cli: Call) -> None:
    write(folder, {"one.md": "# one\n\ntext\n"})
    (corpora / "broken.yaml").write_text("sourc: {}\n")
    (corpora / "sound.yaml").write_text(f"source: {{path: {folder}}}\n")
    assert cli("refresh", "sound").code == 0
    assert cli("search", "text", "--mode", "sparse").code == 0
    assert_mistake(cli("refresh", "broken"), "unknown key 'sourc'")


def test_a_stored_corpus_is_not_searched_with_a_file_that_became_invalid(
    corpora: Path, folder: Path, cli: Call
) -> None:
    write(folder, {"one.md": "# one\n\ntext\n"})
    path = corpora / "sound.yaml"
    path.write_text(f"source: {{path: {folder}}}\n")
    cli("refresh", "sound")
    path.write_text("sourc: {}\n")
    assert_mistake(cli("search", "text"), str(path), "unknown key 'sourc'")
    assert cli("status").code == 0
