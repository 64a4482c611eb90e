"""``tidegate search``: what it answers, one question or a batch, as JSON and for people."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Call, Served
from tidegate.pipelines.search_index import OpenRelease


def documents(answer: dict) -> list[str]:
    return [hit["document"] for hit in answer["passages"]]


def test_an_answer_has_exactly_these_keys_and_values(served: Served, cli: Call) -> None:
    answer = cli("search", "E4711", "--mode", "sparse", "--store", served.store, "--json").json
    assert set(answer) == {"question", "release", "passages"}
    assert (answer["question"], answer["release"]) == ("E4711", served.release)
    (hit,) = answer["passages"]
    score, chunk = hit.pop("score"), hit.pop("chunk")
    assert hit == {
        "document": "api/errors.html",
        "heading": "Errors",
        "text": "Code E4711 means that the tide was out.",
        "also_in": [],
    }
    assert isinstance(score, float)
    assert score > 0
    assert len(bytes.fromhex(chunk)) == 16


def test_a_text_in_two_documents_is_one_passage_that_names_both(served: Served, cli: Call) -> None:
    (hit,) = cli("search", "brass lever", "--mode", "sparse", "--store", served.store, "--json").json["passages"]
    assert (hit["document"], hit["also_in"]) == ("guide/rollback.md", ["old/rollback.md"])
    assert (
        "\n  1. guide/rollback.md and 1 more > Rolling back  ["
        in cli("search", "brass lever", "--mode", "sparse", "--store", served.store).out
    )


@pytest.mark.parametrize(
    ("mode", "found"), [("sparse", []), ("dense", ["guide/rollback.md"]), ("hybrid", ["guide/rollback.md"])]
)
def test_the_mode_decides_whether_words_or_meaning_count(
    mode: str, found: list[str], served: Served, cli: Call
) -> None:
    answer = cli(
        "search", "reverting deployments", "--mode", mode, "--top-k", 1, "--store", served.store, "--json"
    ).json
    assert documents(answer) == found


def test_without_options_the_settings_of_the_release_rank(served: Served, cli: Call) -> None:
    as_released = cli("search", "quokka island", "--store", served.store, "--json")
    assert (
        as_released.out
        == cli("search", "quokka island", "--mode", "hybrid", "--top-k", 10, "--store", served.store, "--json").out
    )
    scores = [hit["score"] for hit in as_released.json["passages"]]
    assert scores == sorted(scores, reverse=True)
    assert documents(as_released.json)[0] == "animals.txt"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["doc_type=runbook"], {"guide/rollback.md", "guide/retries.md"}),
        (["doc_type=archive"], {"old/rollback.md"}),
        (["doc_type=runbook", "doc_type=archive"], {"guide/rollback.md", "guide/retries.md"}),
        (["doc_type=runbook", "product=cards"], {"guide/retries.md"}),
        (["doc_type=archive", "product=cards"], set()),
        (["kind=html"], {"api/errors.html"}),
        (["document=*.txt"], {"animals.txt"}),
        (["document=a=b"], set()),
    ],
)
def test_filters_of_one_key_widen_and_of_several_keys_narrow(
    filters: list[str], found: set[str], served: Served, cli: Call
) -> None:
    options = [part for item in filters for part in ("--filter", item)]
    assert set(documents(cli("search", "quokka lever tide", *options, "--store", served.store, "--json").json)) == found


def test_a_batch_answers_as_the_single_questions_do_and_embeds_once(
    served: Served, cli: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = ["where do quokkas live", "brass lever", "E4711", "brass lever"]
    rows = [{"question": question, "id": number, "answer": "ignored"} for number, question in enumerate(questions)]
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    batches = []
    embed = OpenRelease.vectors
    monkeypatch.setattr(OpenRelease, "vectors", lambda self, texts: batches.append(list(texts)) or embed(self, texts))
    found = cli(
        "search", "--queries", tmp_path / "q.jsonl", "--mode", "dense", "--top-k", 2, "--store", served.store, "--json"
    )
    assert batches == [questions]
    assert [row["id"] for row in found.rows] == [0, 1, 2, 3]
    assert {tuple(row) for row in found.rows} == {("id", "question", "release", "passages")}
    for row in found.rows[:3]:
        alone = cli("search", row["question"], "--mode", "dense", "--top-k", 2, "--store", served.store, "--json").json
        assert [hit["chunk"] for hit in row["passages"]] == [hit["chunk"] for hit in alone["passages"]]
        assert [hit["score"] for hit in row["passages"]] == pytest.approx(
            [hit["score"] for hit in alone["passages"]], abs=1e-5
        )


@pytest.mark.parametrize(
    "text",
    [
        '\ufeff{"question": "brass"}\r\n\r\n{"question": "E4711"}',
        '{"question": "brass"}\n   \n{"question": "E4711"}\n\n',
        '{"question": "brass\u2028"}\n{"question": "E4711\u0085"}\n',
    ],
    ids=["byte order mark and CRLF", "blank lines", "Unicode line separators inside a string"],
)
def test_a_line_ends_at_a_line_feed_and_nowhere_else(text: str, served: Served, cli: Call, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_bytes(text.encode())
    found = cli("search", "--queries", tmp_path / "q.jsonl", "--mode", "sparse", "--store", served.store, "--json")
    assert found.err == ""
    assert [documents(row) for row in found.rows] == [["guide/rollback.md"], ["api/errors.html"]]


def test_questions_may_come_from_stdin(served: Served, process: Call) -> None:
    found = process(
        "search",
        "--queries",
        "-",
        "--mode",
        "sparse",
        "--store",
        served.store,
        "--json",
        stdin='{"question": "naïve brass"}\n',
    )
    assert (found.code, found.err) == (0, "")
    assert found.json["question"] == "naïve brass"
    assert documents(found.json) == ["guide/rollback.md"]


def test_a_person_reads_rank_place_score_and_text(served: Served, cli: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    options = ("--mode", "sparse", "--store", served.store)
    first, second = (hit["score"] for hit in cli("search", "quokka island", *options, "--json").json["passages"])
    assert cli("search", "quokka island", *options).out == (
        "? quokka island\n"
        f"  1. animals.txt  [{first:.3f}]\n"
        "     The quokka lives on an island off the coast, like many\n"
        "     other small and shy animals.\n"
        f"  2. guide/retries.md > Retries  [{second:.3f}]\n"
        "     A quokka retries: quokka, quokka.\n"
        "\n"
    )
    assert cli("search", "zyzzyva", *options).out == "? zyzzyva\n  no passage matches\n\n"


def test_a_document_cannot_send_escape_codes_to_a_terminal(folder: Path, cli: Call) -> None:
    (folder / "trap.md").write_text("# Trap \x1b[31m\n\nA trap \x1b]0;title\x07 with \x9b31m and \u202e in it.\n")
    cli("refresh", folder)
    shown = cli("search", "trap", "--mode", "sparse").out
    assert "A trap" in shown
    assert [character for character in shown if not character.isprintable() and character != "\n"] == []
