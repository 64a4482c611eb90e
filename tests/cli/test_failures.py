"""What is nobody's typing mistake: exit code 1, the failure block on stderr, nothing on stdout."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Answer, Call, Served, assert_mistake, write
from tests.conftest import settle

RULE = "─" * 78


def block(answer: Answer) -> dict[str, str]:
    """Return the failure block, which must be all of stderr."""
    assert (answer.code, answer.out) == (1, "")
    first, failed, *rows, last = answer.err.splitlines()
    assert first == last == RULE
    return {row[:14].strip(): row[15:] for row in rows} | {"code": failed.removeprefix("FAILED  ")}


@pytest.fixture
def closed() -> Iterator[list[Path]]:
    """Append paths that a test has closed; they are opened again at its end."""
    paths: list[Path] = []
    yield paths
    for path in paths:
        path.chmod(0o755)


@pytest.mark.parametrize("command", ["verify", "refresh {folder}"])
def test_a_store_that_may_not_be_read_is_denied(
    command: str, served: Served, process: Call, tmp_path: Path, closed: list[Path]
) -> None:
    store = shutil.copytree(served.store, tmp_path / "closed")
    closed.append(store)
    store.chmod(0)
    failure = block(process(*command.format(folder=served.folder).split(), "--store", store))
    assert failure["code"] == "store_denied"
    assert f"in file://{store}: Permission denied" in failure["what"]
    assert "for  in" not in failure["what"]


@pytest.mark.parametrize("command", ["status", "refresh {folder}"])
def test_a_store_below_a_folder_that_may_not_be_entered_is_denied(
    command: str, served: Served, process: Call, tmp_path: Path, closed: list[Path]
) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    closed.append(tmp_path / "closed")
    failure = block(process(*command.format(folder=served.folder).split(), "--store", tmp_path / "closed" / "store"))
    assert failure["code"] == "store_denied"
    assert f"{tmp_path}/closed/store" in failure["what"]


def test_a_failed_record_of_a_failure_does_not_hide_the_failure(
    folder: Path, cli: Call, process: Call, tmp_path: Path, closed: list[Path]
) -> None:
    write(folder, {"one.md": "# one\n\ntext\n", "sub/two.md": "# two\n\ntext\n"})
    settle()
    cli("refresh", folder)
    runs = tmp_path / "home" / ".tidegate" / "store" / "documents" / "runs"
    for path in (runs, folder / "sub"):
        closed.append(path)
        path.chmod(0)
    assert block(process("refresh", folder))["code"] == "source_incomplete"


def test_what_may_not_be_read_in_a_folder_is_named_and_the_rest_indexed(
    folder: Path, cli: Call, process: Call, closed: list[Path]
) -> None:
    write(folder, {"one.md": "# one\n\ntext\n", "secret.md": "# secret\n", "sub/two.md": "# two\n"})
    cli("refresh", folder)
    for path in (folder / "secret.md", folder / "sub"):
        closed.append(path)
        path.chmod(0)
    failure = block(process("refresh", folder, "--json"))
    assert (failure["code"], failure["document"]) == ("source_incomplete", "sub/")
    assert "could not be listed: sub/" in failure["what"]
    (folder / "sub").chmod(0o755)
    mended = process("refresh", folder, "--json").json
    assert mended["quarantine"] == [{"document": "secret.md", "reason": "unreadable"}]
    assert (mended["documents"]["total"], mended["documents"]["deleted"]) == (3, 0)


def test_input_that_may_not_be_read_is_a_mistake(
    home: Path, served: Served, process: Call, tmp_path: Path, closed: list[Path]
) -> None:
    closed += [tmp_path / "closed", home / "include" / "corpora" / "mine.yaml", tmp_path / "q.jsonl"]
    (tmp_path / "closed").mkdir()
    (home / "include" / "corpora" / "mine.yaml").write_text("source: {path: x}\n")
    (tmp_path / "q.jsonl").write_text('{"question": "q"}\n')
    for path in closed:
        path.chmod(0)
    assert_mistake(process("refresh", tmp_path / "closed"), f"{tmp_path}/closed", "permission denied")
    assert_mistake(process("refresh", tmp_path / "closed" / "x"), f"{tmp_path}/closed/x")
    assert_mistake(process("refresh", "mine"), "mine.yaml")
    assert_mistake(process("search", "--queries", tmp_path / "q.jsonl", "--store", served.store), f"{tmp_path}/q.jsonl")
    assert_mistake(process("search", "--queries", tmp_path / "closed" / "q", "--store", served.store), "closed/q")


@pytest.mark.parametrize(
    ("environment", "uri", "code", "named"),
    [
        ({"AWS_PROFILE": "no-such-profile"}, "s3://bucket/x", "store_denied", "no-such-profile"),
        ({"AWS_ENDPOINT_URL_S3": "nonsense"}, "s3://bucket/x", "store_unavailable", "nonsense"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "s3://bucket/x", "store_unavailable", "http://127.0.0.1:1"),
    ],
)
def test_a_bucket_that_does_not_answer_ends_in_the_failure_block(
    environment: dict[str, str],
    uri: str,
    code: str,
    named: str,
    s3_environment: dict[str, str],
    cli: Call,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    failure = block(cli("status", "--store", uri))
    assert failure["code"] == code
    assert named in failure["what"]


def test_a_name_that_no_bucket_can_have_is_a_mistake(s3_environment: dict[str, str], cli: Call) -> None:
    assert_mistake(cli("status", "--store", "s3://Bad_Bucket!/x"), "'s3://Bad_Bucket!/x'", "s3://bucket/prefix")
    assert_mistake(
        cli("status", "--store", "s3://no-such-bucket/x"), "'no-such-bucket' does not exist", "create the bucket"
    )


def test_a_secret_in_the_address_of_a_bucket_is_refused_and_not_repeated(cli: Call) -> None:
    found = cli("status", "--store", "s3://key:secret@bucket/x")
    assert_mistake(found, "AWS")
    assert "secret" not in found.err
