"""A mistake on the command line: exit code 2 and one line that names what was received and what to do instead."""

import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Call, Served, assert_mistake

STORE_FORMS = "s3://bucket/prefix"
ONE_OR_THE_OTHER = ("QUESTION", "--queries FILE.jsonl")
ROW = '{"question": "..."}'

ARGUMENTS = {
    "no command": ("", ["COMMAND", "tidegate --help"]),
    "an unknown command": (
        "refesh",
        [
            "'refesh'",
            "'refresh', 'search', 'evaluate', 'status', 'releases', 'events', 'promote', 'rollback', 'verify'",
        ],
    ),
    "a refresh of nothing": ("refresh", ["FOLDER|CORPUS", "tidegate refresh --help"]),
    "a refresh of an empty name": ("refresh ''", ["empty"]),
    "a refresh of two folders": ("refresh {folder} {tmp}", ["{tmp}", "--help"]),
    "a missing folder": ("refresh {tmp}/nowhere", ["{tmp}/nowhere does not exist"]),
    "a file for a folder": ("refresh {file}", ["{file} is not a folder"]),
    "a folder name with a line feed": ("refresh '/no/a\nb'", ["/no/a\\nb does not exist"]),
    "an unknown corpus": ("refresh guid", ["'guid' is neither a folder nor a corpus", "did you mean 'guide'"]),
    "a corpus under another name": ("refresh guide --corpus other", ["'other'", "'guide'"]),
    "a corpus name with a blank": (
        "refresh {folder} --corpus 'My Docs'",
        ["'My Docs' is not usable as a name", "a-z, 0-9"],
    ),
    "a corpus name with a path": ("refresh {folder} --corpus ../up", ["'../up' is not usable as a name", "a-z, 0-9"]),
    "a corpus name with a line feed": ("refresh {folder} --corpus 'a\nb'", ["'a\\nb' is not usable as a name"]),
    "an empty corpus name": ("refresh {folder} --corpus ''", ["--corpus"]),
    "a scheme that no store has": ("status --store ftp://host/x", ["'ftp://host/x'", "'ftp'", STORE_FORMS]),
    "a scheme without slashes": ("refresh {folder} --store ftp:z", ["'ftp:z'", "'ftp'", STORE_FORMS]),
    "a bucket without a name": ("status --store s3://", ["'s3://' names no bucket", STORE_FORMS]),
    "a prefix without a bucket": (
        "refresh {folder} --store s3:///prefix",
        ["'s3:///prefix' names no bucket", STORE_FORMS],
    ),
    "an unfinished address": ("status --store s3://[x", ["s3://[x", STORE_FORMS]),
    "a file URI with a host": ("status --store file://host/x", ["'file://host/x'", STORE_FORMS]),
    "an empty store": ("status --store ''", ["empty", STORE_FORMS]),
    "a store that is a file": ("search x --store {file}", ["{file}", "is a file, not a folder", STORE_FORMS]),
    "a store below a file": ("status --store {file}/store", ["{file}/store"]),
    "a new store below a file": ("refresh {folder} --store {file}/store", ["{file}/store"]),
    "a store that is a link to itself": ("status --store {loop}", ["{loop}"]),
    "a new store that is a link to itself": ("refresh {folder} --store {loop}", ["{loop}"]),
    "a store with a name that is too long": ("status --store {long}", ["too long"]),
    "a folder with a name that is too long": ("refresh {long}", ["{long}"]),
    "a status of something": ("status something", ["something", "--help"]),
    "no release at all": ("releases --limit 0 --store {store}", ["--limit", "0", "between 1 and 1000"]),
    "no event at all": ("events --limit 0 --store {store}", ["--limit", "0", "between 1 and 1000"]),
    "a limit in words": ("releases --limit many --store {store}", ["--limit", "'many'", "between 1 and 1000"]),
    "no question": ("search --store {store}", [*ONE_OR_THE_OTHER]),
    "a question and a file of them": ("search q --queries {qa} --store {store}", [*ONE_OR_THE_OTHER]),
    "an empty question": ("search '' --store {store}", ["QUESTION is empty"]),
    "a blank question": ("search '  ' --store {store}", ["QUESTION is empty"]),
    "a question without quotes": ("search how do I --store {store}", ["do I", "quotes"]),
    "no passage": ("search q --top-k 0 --store {store}", ["--top-k", "0", "between 1 and 1000"]),
    "fewer than no passage": ("search q --top-k -1 --store {store}", ["--top-k", "-1", "between 1 and 1000"]),
    "too many passages": ("search q --top-k 1001 --store {store}", ["--top-k", "1001", "between 1 and 1000"]),
    "passages in words": ("search q --top-k abc --store {store}", ["--top-k", "'abc'", "between 1 and 1000"]),
    "an unknown mode": ("search q --mode fuzzy --store {store}", ["--mode", "'fuzzy'", "'hybrid', 'dense', 'sparse'"]),
    "a filter without a value": (
        "search q --filter doc_type --store {store}",
        ["'doc_type' is not KEY=VALUE", "doc_type=runbook"],
    ),
    "a filter without a key": ("search q --filter =x --store {store}", ["'=x' is not KEY=VALUE"]),
    "an unknown filter key": (
        "search q --filter doctype=runbook --store {store}",
        ["'doctype'", "did you mean 'doc_type'", "valid: doc_type, document, kind, product, title"],
    ),
    "an evaluation of nothing": ("evaluate", ["WHAT", "tidegate evaluate --help"]),
    "an unknown evaluation": ("evaluate retrival", ["'retrival'", "'retrieval'"]),
    "an evaluation without questions": (
        "evaluate retrieval --store {store}",
        ["--qa", "tidegate evaluate retrieval --help"],
    ),
    "an option that does not exist": ("refresh {folder} --jsn", ["--jsn"]),
}


@pytest.fixture
def places(served: Served, tmp_path: Path, home: Path) -> dict[str, str]:
    """What the commands of the tables name."""
    shutil.copytree(served.store, tmp_path / "two")
    shutil.copytree(served.store / "handbook", tmp_path / "two" / "manual")
    shutil.copytree(served.store, tmp_path / "unreleased")
    shutil.rmtree(tmp_path / "unreleased" / "handbook" / "channels")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("text")
    (tmp_path / "qa.jsonl").write_text('{"question": "E4711", "evidence": [{"document": "errors.html"}]}\n')
    (home / "include" / "corpora" / "guide.yaml").write_text("source: {path: guide}\n")
    names = {name: str(tmp_path / name) for name in ("two", "unreleased", "loop", "file", "none")}
    own = {
        "store": str(served.store),
        "folder": str(served.folder),
        "long": "x" * 300,
        "qa": str(tmp_path / "qa.jsonl"),
    }
    return {**names, **own, "tmp": str(tmp_path)}


@pytest.mark.parametrize(("command", "named"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_a_mistake_in_the_arguments_is_one_line(
    command: str, named: list[str], places: dict[str, str], cli: Call
) -> None:
    assert_mistake(cli(*shlex.split(command.format(**places))), *(part.format(**places) for part in named))


READERS = ["search q", "evaluate retrieval --qa {qa}"]
OF_ONE_CORPUS = [*READERS, "events"]


@pytest.mark.parametrize("command", [*OF_ONE_CORPUS, "releases", "verify", "status"])
def test_an_unknown_corpus_is_answered_with_those_that_the_store_holds(
    command: str, places: dict[str, str], cli: Call
) -> None:
    found = cli(*command.format(**places).split(), "--store", places["two"], "--corpus", "handbok")
    assert_mistake(found, "'handbok'", "did you mean 'handbook'? valid: handbook, manual")


@pytest.mark.parametrize("command", OF_ONE_CORPUS)
def test_of_several_corpora_one_must_be_named(command: str, places: dict[str, str], cli: Call) -> None:
    assert_mistake(cli(*command.format(**places).split(), "--store", places["two"]), "handbook, manual", "--corpus")


@pytest.mark.parametrize("command", [*OF_ONE_CORPUS, "releases", "verify"])
def test_an_empty_store_is_answered_with_how_to_fill_it(command: str, places: dict[str, str], cli: Call) -> None:
    found = cli(*command.format(**places).split(), "--store", places["none"])
    assert_mistake(found, f"{places['none']} holds no corpus yet", "tidegate refresh")


@pytest.mark.parametrize("command", READERS)
def test_a_corpus_without_a_release_is_answered_with_how_to_make_one(
    command: str, places: dict[str, str], cli: Call
) -> None:
    found = cli(*command.format(**places).split(), "--store", places["unreleased"])
    assert_mistake(found, "handbook", f"{places['unreleased']} has no release yet", "tidegate refresh")


QUESTIONS = {
    "empty": (b"", ["holds no question", ROW]),
    "blank": (b"\n  \n", ["holds no question", ROW]),
    "not JSON": (b'{"question": "ok"}\n{"question": \n', ["line 2 is not JSON", ROW]),
    "binary": (bytes(range(128, 256)), ["not UTF-8", ROW]),
    "a JSON array over lines": (b'[{"question": "a"},\n{"question": "b"}]\n', ["line 1 is not JSON", ROW]),
    "a list": (b'["a", "b"]\n', ["line 1", 'got ["a", "b"]', ROW]),
    "no question": (b'{"query": "a"}\n', ['line 1 has no "question"', 'got {"query": "a"}', ROW]),
    "a number for a question": (b'{"question": 7}\n', ['got {"question": 7}', ROW]),
    "null for a question": (b'{"question": null}\n', ['got {"question": null}', ROW]),
    "a blank question": (b'{"question": "ok"}\n\n{"question": " "}\n', ["line 3", 'got {"question": " "}', ROW]),
    "half a character": (b'{"question": "\\ud83d"}\n', ["line 1", ROW]),
    "nested without end": (b"[" * 100_000, ["line 1", ROW]),
    "not a number": (b'{"question": "a", "id": NaN}\n', ["line 1", ROW]),
}


@pytest.mark.parametrize(("content", "named"), QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize("command", ["search --mode sparse --queries", "evaluate retrieval --qa"])
def test_a_mistake_in_a_file_of_questions_is_one_line(
    command: str, content: bytes, named: list[str], served: Served, cli: Call, tmp_path: Path
) -> None:
    path = tmp_path / "q.jsonl"
    path.write_bytes(content)
    assert_mistake(cli(*command.split(), path, "--store", served.store), str(path), *named)


@pytest.mark.parametrize("command", ["search --queries", "evaluate retrieval --qa"])
def test_a_file_of_questions_that_cannot_be_read_is_named(
    command: str, served: Served, cli: Call, tmp_path: Path
) -> None:
    assert_mistake(cli(*command.split(), tmp_path / "none", "--store", served.store), f"{tmp_path}/none does not exist")
    assert_mistake(cli(*command.split(), served.folder, "--store", served.store), f"{served.folder} is a folder")
    assert_mistake(cli(*command.split(), "a\nb", "--store", served.store), "a\\nb does not exist")


EVIDENCE = {
    "text": ('"errors.html"', ['"errors.html"']),
    "a list of texts": ('["errors.html"]', ['["errors.html"]']),
    "another key": ('[{"doc": "errors.html"}]', ['[{"doc": "errors.html"}]']),
    "a number for a document": ('[{"document": 7}]', ['[{"document": 7}]']),
    "no list": ('{"document": "errors.html"}', ['{"document": "errors.html"}']),
    "null": ("null", ["null"]),
}


@pytest.mark.parametrize(("evidence", "named"), EVIDENCE.values(), ids=EVIDENCE)
def test_evidence_of_another_shape_is_one_line(
    evidence: str, named: list[str], served: Served, cli: Call, tmp_path: Path
) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text(f'{{"question": "ok", "evidence": []}}\n{{"question": "a", "evidence": {evidence}}}\n')
    found = cli("evaluate", "retrieval", "--qa", path, "--store", served.store)
    assert_mistake(found, f"{path} line 2", '"evidence" must be a list of {"document": path}', *named)


@pytest.mark.parametrize("row", ['"evidence": [{"document": "gone.md"}]', '"evidence": []', '"id": 1'])
def test_questions_without_any_evidence_in_the_release_are_one_line(
    row: str, served: Served, cli: Call, tmp_path: Path
) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text(f'{{"question": "a", {row}}}\n')
    found = cli("evaluate", "retrieval", "--qa", path, "--store", served.store)
    assert_mistake(found, str(path), served.release[:12], "evidence", *(["gone.md"] if "gone" in row else []))


def test_answerable_is_true_or_false(served: Served, cli: Call, tmp_path: Path) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text('{"question": "a", "evidence": [{"document": "errors.html"}], "answerable": "no"}\n')
    assert_mistake(
        cli("evaluate", "retrieval", "--qa", path, "--store", served.store), f"{path} line 1", "answerable", '"no"'
    )
