"""Import: every format and shape ends in the same rows, no row is lost, and ids do not depend on the order of rows."""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.errors import ConfigInvalidError, QuestionsInvalidError
from tidegate.core.examples import Evidence, Example
from tidegate.qa.importing import QaSource

FULL = {
    "id": "a-1",
    "question": "How long is the notice?",
    "answer": "30 days",
    "evidence": [{"document": "hr/notice.md", "quote": "30 days.", "section": "length"}],
    "answerable": True,
    "tags": ["hr", "terms"],
    "author": "ana",
    "reviewed_at": "2026-03-01",
}
FULL_EXAMPLE = Example.from_json(FULL)
HALF = "half \ud83d"
A, B = Evidence("a"), Evidence("b")


def read(tmp_path: Path, name: str, data: str | bytes, columns: str = "", rows: str = "") -> list[Example]:
    """Import one file; ``columns`` is ``key=value key=value``."""
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return QaSource(path, dict(item.split("=", 1) for item in columns.split()), rows).read()


def one(tmp_path: Path, row: Any, columns: str = "") -> Example:
    (example,) = read(tmp_path, "qa.jsonl", json.dumps(row), columns)
    return example


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    sink = pa.BufferOutputStream()
    write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


FLAT = {**{key: FULL[key] for key in FULL if key != "evidence"}, **FULL["evidence"][0]}
CELLS = {**FLAT, "answerable": "YES", "tags": "hr; terms"}
HEADER, CELL_ROW = ",".join(CELLS), ",".join(CELLS.values())


@pytest.mark.parametrize(
    ("name", "data", "place"),
    [
        ("qa.jsonl", json.dumps(FULL), "line 1"),
        ("qa.NDJSON", "\ufeff\r\n\r\n" + json.dumps({**FULL, "more": [None]}) + "\r\n\r\n", "line 3"),
        ("qa.json", json.dumps([FULL], indent=1), "row 1"),
        ("qa.json", json.dumps({"version": 2, "set": {"n": 1}, "rows": [FULL]}), "row 1"),
        ("qa.csv", f"{HEADER}\n{CELL_ROW}", "line 2"),
        ("qa.csv", f"\ufeff\r\n{HEADER}\r\n\r\n{CELL_ROW.replace('YES', '1')}\r\n", "line 4"),
        ("qa.tsv", f"{HEADER}\n{CELL_ROW}".replace(",", "\t").replace("hr; terms", "hr,terms"), "line 2"),
        ("qa.parquet", parquet([FULL]), "row 1"),
        ("qa.parquet", parquet([{**FLAT, "answerable": 1, "reviewed_at": date(2026, 3, 1)}]), "row 1"),
    ],
)
def test_every_format_gives_the_same_row(tmp_path: Path, name: str, data: str | bytes, place: str) -> None:
    assert read(tmp_path, name, data) == [replace(FULL_EXAMPLE, where=f"{name} {place}")]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"answer": "A"}, {"answer": "A", "answerable": True}),
        ({"answer": "  "}, {"answer": "", "answerable": False}),
        ({"answer": None, "evidence": "a"}, {"evidence": (A,), "answerable": False}),
        ({"answer": "A", "answerable": False}, {"answer": "A", "answerable": False}),
        ({"answer": 4.5}, {"answer": "4.5", "answerable": True}),
        ({"answer": False}, {"answer": "false", "answerable": True}),
        ({"id": 7, "answerable": True}, {"id": "7", "answerable": True}),
        ({"answer": "\u00a0Cafe\u0301  au\nlait\n"}, {"answer": "Café  au\nlait", "answerable": True}),
        ({"evidence": {"document": "a", "section": None}}, {"evidence": (A,)}),
        ({"evidence": ["a", None, "", "b", "a"]}, {"evidence": (A, B)}),
        ({"tags": "hr; terms,hr,, "}, {"tags": ("hr", "terms")}),
        ({"tags": ["a,b", 3, None, " a,b "]}, {"tags": ("a,b", "3")}),
        (dict.fromkeys(FULL), {"id": "q-e3b0c44298fc", "question": ""}),
    ],
)
def test_what_a_native_row_may_leave_out_or_write_in_another_way(tmp_path: Path, row: dict, expected: dict) -> None:
    wanted = Example(**{"id": "x", "question": "Why?", "answer": "", "answerable": False, **expected})
    found = one(tmp_path, {"id": "x", "question": "Why?", **row})
    assert found == replace(wanted, where="qa.jsonl line 1")


@pytest.mark.parametrize(
    ("row", "problem", "read_anyway"),
    [
        (["Why?"], 'row: expected an object, got ["Why?"]', {"question": "", "answerable": False}),
        (None, "row: expected an object, got nothing", {"question": "", "answerable": False}),
        ({"question": 5}, "question: expected text, got 5", {"question": ""}),
        ({"question": HALF}, 'question: expected whole characters, got "half \\ud83d"', {"question": "half ?"}),
        ({"question": "w" * 90 + "\ud83d"}, f'question: expected whole characters, got "{"w" * 79}…', {}),
        ({"id": True}, "id: expected text or an integer, got true", {}),
        ({"id": 1.5}, "id: expected text or an integer, got 1.5", {}),
        ({"answer": ["x"]}, 'answer: expected text, a number, true or false, got ["x"]', {"answer": ""}),
        ({"answer": float("inf")}, "answer: expected text, a number, true or false, got Infinity", {"answer": ""}),
        ({"answerable": "yes"}, 'answerable: expected true or false, got "yes"', {"answer": "A", "answerable": True}),
        ({"answerable": 0}, "answerable: expected true or false, got 0", {"answerable": True}),
        ({"tags": {"a": 1}}, 'tags: expected text or a list of texts, got {"a": 1}', {"tags": ()}),
        ({"tags": ["a", ["b"], "c"]}, 'tags: expected text or a list of texts, got ["b"]', {"tags": ("a", "c")}),
        ({"author": 3}, "author: expected text, got 3", {"author": ""}),
        ({"reviewed_at": 2026}, "reviewed_at: expected text, got 2026", {"reviewed_at": ""}),
        ({"evidence": 3}, 'evidence: expected a list of {"document": path}, got 3', {"evidence": ()}),
        ({"evidence": [{"quote": "q"}]}, "evidence.document: expected text, got nothing", {"evidence": ()}),
        ({"evidence": [{"document": 4}, "b"]}, "evidence.document: expected text, got 4", {"evidence": (B,)}),
        ({"evidence": {"document": "a", "quote": 0}}, "evidence.quote: expected text, got 0", {"evidence": (A,)}),
    ],
)
def test_a_wrong_row_stays_with_what_can_be_read(tmp_path: Path, row: Any, problem: str, read_anyway: dict) -> None:
    text = json.dumps({"question": "Why?", "answer": "A", **row} if isinstance(row, dict) else row)
    text = text.replace("Infinity", "1e999")  # JSON, although no float can hold it
    before, found, after = read(tmp_path, "qa.jsonl", f'{{"question": "B"}}\n{text}\n{{"question": "A"}}')
    assert (before.question, after.question, after.where) == ("B", "A", "qa.jsonl line 3")
    assert found.problems == (problem,)
    assert {name: getattr(found, name) for name in read_anyway} == read_anyway


def test_several_problems_of_a_row_are_all_told(tmp_path: Path) -> None:
    found = one(tmp_path, {"question": [], "answer": {}, "evidence": [1, 1, {}]})
    fields = [problem.split(":")[0] for problem in found.problems]
    assert fields == ["answer", "question", "evidence", "evidence.document"]
    assert found.digest == one(tmp_path, {}).digest


def test_a_value_nested_to_the_limit_is_told_with_its_row_or_its_line(tmp_path: Path) -> None:
    def problem(depth: int) -> str:
        try:
            (row,) = read(tmp_path, "qa.jsonl", '{"question": ' + "[" * depth + "]" * depth + "}")
        except QuestionsInvalidError as error:
            return error.what
        return row.problems[0]

    starts = ("question: expected text, got [[[", "question: expected text, got a value nested too deep")
    starts += ("qa.jsonl line 1: expected JSON, got maximum recursion depth exceeded",)
    met = {next(start for start in starts if problem(depth).startswith(start)) for depth in range(700, 1001)}
    assert met >= {starts[0], starts[2]}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("qa.jsonl", b'{}\n{"question": "caf\xe9"}', "qa.jsonl line 2: expected UTF-8, got the byte 0xe9"),
        ("qa.jsonl", '{}\n\n{"a": }', 'qa.jsonl line 3: expected JSON, got {"a": } (Expecting value at column 7)'),
        ("qa.jsonl", '[\n{"a": 1}\n]', "qa.jsonl line 1: expected JSON, got [ (Expecting value at column 2)"),
        ("qa.jsonl", '{"answer": NaN}', "qa.jsonl line 1: expected JSON, got NaN, which is no value"),
        ("a line b.json", '[{},\n{"a": 1]', 'a line b.json line 2: expected JSON, got [{},\\n{"a": 1] (Expecting'),
        ("qa.json", '[{"answer": -Infinity}]', "qa.json: expected JSON, got -Infinity, which is no value"),
        ("qa.json", "", "qa.json line 1: expected JSON, got  (Expecting value at column 1)"),
        ("qa.json", '{"a": 1}', 'qa.json: expected a list of rows, or an object with one list, got {"a": 1}'),
        ("qa.json", '{"a": [], "b": []}', "qa.json: expected a list of rows, or an object with one list, got {"),
        ("qa.csv", "", "qa.csv line 1: expected a header with 'question', got []"),
        ("qa.csv", "\nWhy?,Because\n", 'qa.csv line 2: expected a header with \'question\', got ["Why?", "Because"]'),
        ("qa.csv", 'question,answer\nA?,a\n"B?,b\nC?,c', "qa.csv line 3: expected cells, got unexpected end of data"),
        ("qa.tsv", 'question\n"A" or B?', "qa.tsv line 2: expected cells, got '\\t' expected after '\"'"),
        ("qa.parquet", b"PAR1", "qa.parquet: expected a Parquet file, got "),
        ("qa.parquet", parquet([{"query": "Why?"}]), "qa.parquet: expected a header with 'question', got [\"query\"]"),
        ("qa.txt", "{}", "qa.txt: expected a file (.jsonl, .ndjson, .json, .csv, .tsv, .parquet) or a folder, got N"),
    ],
)
def test_a_file_not_of_its_format_is_refused(tmp_path: Path, name: str, data: str | bytes, message: str) -> None:
    with pytest.raises(QuestionsInvalidError) as caught:
        read(tmp_path, name, data)
    assert message in caught.value.what
    assert "\n" not in caught.value.what
    assert caught.value.next_action != QuestionsInvalidError.advice


def test_a_missing_path_and_a_folder_without_a_set_are_refused_by_digest_and_read(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "notes.md").write_text("none")
    (tmp_path / "set" / ".qa.jsonl").write_text("{}")
    for name, got in (("set", "in it, got none"), ("sett", "got No such file or directory")):
        source = QaSource(tmp_path / name, {}, "")
        for use in (source.read, source.digest):
            with pytest.raises(QuestionsInvalidError, match=got) as caught:
                use()
            assert f"/{name}: expected" in caught.value.what


def test_a_file_that_cannot_be_opened_is_refused_by_its_name_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(QuestionsInvalidError, match=r"^in/gone\.jsonl: expected .*, got No such file or directory$"):
        QaSource(tmp_path, {}, "").read()


def test_a_folder_is_read_in_the_order_of_names_without_dot_files_and_other_suffixes(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/z.jsonl", "a.jsonl", ".hidden/c.jsonl", "a/.d.jsonl", "a/notes.md", "a/e.jsonl~"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"question": name}))
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "b.jsonl")
    found = QaSource(tmp_path, {}, "").read()
    read_in_order = ["a.jsonl", "a/z.jsonl", "b.jsonl", "link.jsonl"]
    assert [example.where for example in found] == [f"{name} line 1" for name in read_in_order]
    assert [example.question for example in found] == [*read_in_order[:3], "b.jsonl"]


def test_csv_cells_may_hold_lines_and_rows_are_named_by_their_first_line(tmp_path: Path) -> None:
    text = 'question,answer,answerable\n"Why,\n""now""?",a\n   \n,\nWhen?\nWho?,"b, c", ,d\n'
    for data in (text, text.replace("\n", "\r\n")):
        found = read(tmp_path, "qa.csv", data)
        assert [(row.where, row.question, row.answer) for row in found] == [
            ("qa.csv line 2", 'Why,\n"now"?', "a"),
            ("qa.csv line 5", "", ""),
            ("qa.csv line 6", "When?", ""),
            ("qa.csv line 7", "Who?", "b, c"),
        ]
        assert [row.problems for row in found] == [(), (), (), ("row: expected 3 cells, got 4",)]


def told(row: Example) -> str:
    """Return question, answer and evidence, as document "quote" #section, in one line."""
    evidence = (f'{item.document} "{item.quote}" #{item.section}' for item in row.evidence)
    return " | ".join([row.question, row.answer if row.answerable else f"({row.answer})", *evidence])


ANSWERS = [
    {"question": "When?", "answers": [{"text": "at dusk"}, {"text": "dusk"}], "is_impossible": False},
    {"question": "Why?", "is_impossible": True, "title": None},
    {"question": "What?", "answers": [{}], "title": "Own"},
    9,
]
ARTICLE = {"title": "Lights", "paragraphs": [{"qas": ANSWERS, "answers": [{"text": "none"}]}, {"context": "C"}]}
SQUAD = {"version": "v2.0", "data": [ARTICLE]}
FLATTENED = [
    {"title": "A", "question": "When?", "answers": {"text": ["x", "x", "y"], "answer_start": [1, 1, 2]}},
    {"title": "B", "question": "Why?", "answers": {"text": [], "answer_start": []}},
]
WHICH = {"question": "Which?", "answer": "yes"}
PASSAGES = {"query": "how", "answers": ["", "so"], "passages": [{"url": "u", "text": "t"}, {"url": "v"}]}
SOURCES = {
    "squad.json": json.dumps(SQUAD),
    "flattened.parquet": parquet(FLATTENED),
    "distractor.jsonl": json.dumps({**WHICH, "facts": {"title": ["T", "U", "T", ""], "sent_id": [0, 1, 0, None]}}),
    "original.json": json.dumps([{**WHICH, "facts": [["T", 0], ["U", 1]]}]),
    "passages.jsonl": json.dumps(PASSAGES),
    "qaps.csv": 'document_id,question,answer1,answer2,own.tokens\n0a,"Who, then?",Ann,Ben,who then\n',
    "references.csv": 'question,answer,corpus,spans\nWho?,[1],log,"[{""t"": ""A.""}, {""t"": ""B.""}]"\nHow?,,log,[C\n',
    "chunks.csv": 'query,chunks\nHow?,"[""https://h/a#b"",""https://h/c""]"\n',
    "nested.csv": 'question,evidence\nHow?,"[{""document"": ""a"", ""quote"": ""q""}, ""b""]"\n',
}
COLUMNS = {
    "squad.json": "answer=answers.text.0 answerable=!is_impossible evidence.document={title}.md",
    "flattened.parquet": "answer=answers.text evidence.document==all.md evidence.quote=answers.text",
    "distractor.jsonl": "evidence.document={facts.title}.md evidence.section=facts.sent_id",
    "original.json": "evidence.document=facts.*.0 answer==fixed answerable==no",
    "passages.jsonl": "question=query answer=answers evidence.document=passages.url evidence.quote=passages.text",
    "qaps.csv": "answer=answer1 evidence.document={document_id}.txt evidence.section=own.tokens",
    "references.csv": "evidence.document={corpus}.md evidence.quote=spans.t",
    "chunks.csv": "question=query evidence.document=chunks.* answerable==yes answer=",
    "nested.csv": "",
}
TOLD = {
    "squad.json": [
        'When? | at dusk | Lights.md "" #',
        'Why? | () | Lights.md "" #',
        'What? | () | Own.md "" #',
        " | ()",
    ],
    "flattened.parquet": ['When? | x | all.md "x" # | all.md "y" #', 'Why? | () | all.md "" #'],
    "distractor.jsonl": ['Which? | yes | T.md "" #0 | U.md "" #1'],
    "original.json": ['Which? | (fixed) | T "" # | U "" #'],
    "passages.jsonl": ['how | so | u "t" # | v "" #'],
    "qaps.csv": ['Who, then? | Ann | 0a.txt "" #who then'],
    "references.csv": ['Who? | [1] | log.md "A." # | log.md "B." #', 'How? | () | log.md "" #'],
    "chunks.csv": ['How? |  | https://h/a#b "" # | https://h/c "" #'],
    "nested.csv": ['How? | () | a "q" # | b "" #'],
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_column_map_reaches_the_shapes_of_public_sets(tmp_path: Path, name: str) -> None:
    rows = "data.paragraphs.qas" if name == "squad.json" else ""
    assert [told(row) for row in read(tmp_path, name, SOURCES[name], COLUMNS[name], rows)] == TOLD[name]


def test_what_a_column_map_cannot_use_is_a_problem_of_the_row(tmp_path: Path) -> None:
    row = {"n": "maybe", "o": {"a": 1}, "docs": ["a", "b"], "quotes": ["q"], "tags": "left out"}
    columns = "answerable=!n evidence.document=docs evidence.quote=quotes author={o} tags="
    found = one(tmp_path, row, columns)
    assert set(found.problems) == {
        'answerable: expected true or false, got "maybe"',
        "evidence: expected lists of one length, got [2, 1]",
        'author: expected text, got {"a": 1}',
    }
    assert (found.evidence, found.tags) == ((Evidence("a", "q"), Evidence("b")), ())


@pytest.mark.parametrize(
    ("name", "rows", "columns", "message"),
    [
        ("qa.csv", "", "anser=a", "qa.columns: unknown key 'anser'; did you mean 'answer'? valid: answer, "),
        ("qa.csv", "", "tags={a", "qa.columns.tags: expected a path, or paths in braces, got '{a'"),
        ("qa.csv", "", "tags=x{}", "qa.columns.tags: expected a path, or paths in braces, got 'x{}'"),
        ("qa.csv", "", "answerable=!", "qa.columns.answerable: expected a path, or paths in braces, got '!'"),
        ("qa.csv", "", "answer=answr.text", "qa.csv line 1: expected a header with 'answr.text', got [\"question\"]"),
        ("qa.csv", "", "tags=a/{b}/{question}", "qa.csv line 1: expected a header with 'b', got [\"question\"]"),
        ("qa.json", "data.paragraph.qas", "", "qa.json: expected objects with 'paragraph', got {\"title\": "),
        ("qa.json", "version.qas", "", "qa.json: expected objects with 'qas', got \"v2.0\""),
    ],
)
def test_settings_that_reach_nothing_are_told(tmp_path: Path, name: str, rows: str, columns: str, message: str) -> None:
    expected = ConfigInvalidError if message.startswith("qa.columns") else QuestionsInvalidError
    with pytest.raises(expected) as caught:
        read(tmp_path, name, json.dumps(SQUAD) if rows else "question\n", columns, rows)
    assert caught.value.what.startswith(message)


def test_a_derived_id_is_that_of_the_question_until_rows_that_differ_share_it(tmp_path: Path) -> None:
    def ids(*rows: dict) -> list[str]:
        return [row.id for row in read(tmp_path, "qa.jsonl", "\n".join(map(json.dumps, rows)))]

    alone = "q-a8cd7a0af652"  # printf 'how long?' | sha256sum
    written = {"question": "How long?", "answer": "a"}
    edited = {"question": " \uff28OW\n long? ", "answer": "b"}
    assert ids(written) == ids(edited) == [alone]
    assert ids(written, written, {"id": "own", **written}, written) == [alone, f"{alone}-2", "own", f"{alone}-3"]
    first, second = (f"{alone}-{one(tmp_path, row).digest[:4]}" for row in (written, edited))
    assert ids(written, edited, written) == [first, second, f"{first}-2"]
    assert ids({"id": "x", **written}, {"id": "x"}, {"id": " ", **written}) == ["x", "x", alone]


def test_the_digest_changes_with_names_bytes_and_settings_and_with_nothing_else(tmp_path: Path) -> None:
    def source(folder: str, name: str = "qa.jsonl", text: str = "{}", rows: str = "", **columns: str) -> str:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
        (tmp_path / folder / "notes.md").write_text(folder)
        return QaSource(tmp_path / folder, columns, rows).digest()

    assert source("a") == source("b") == QaSource(tmp_path / "a" / "qa.jsonl", {}, "").digest()
    assert source("c", tags="t", id="i") == source("d", id="i", tags="t")
    others = [source("e", name="qa.ndjson"), source("f", text="{} "), source("g", rows="a"), source("h", id="i")]
    assert len({source("i"), source("j", text="not JSON"), *others}) == 6


WORD = st.text(max_size=8).map(lambda text: normalize("NFC", text).strip())
NAMED = WORD.filter(bool)
EVIDENCE = st.lists(st.builds(Evidence, NAMED, WORD, WORD), max_size=3, unique=True).map(tuple)
TAGS = st.lists(NAMED, max_size=3, unique=True).map(tuple)
EXAMPLES = st.builds(Example, WORD, WORD, WORD, EVIDENCE, st.booleans(), TAGS, WORD, WORD)


@settings(deadline=None)
@given(st.lists(EXAMPLES, max_size=8), st.booleans())
def test_rows_survive_being_written_and_read(examples: list[Example], ascii_only: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = [json.dumps(example.as_json(), ensure_ascii=ascii_only) for example in examples]
        found = read(Path(folder), "qa.jsonl", "\n".join(lines))
    as_written = [replace(row, id=row.id if own.id else "", where="") for row, own in zip(found, examples, strict=True)]
    assert as_written == examples


QUESTIONS = st.sampled_from(["A?", "a?", "B?", 1, None])
FEW = st.fixed_dictionaries({"question": QUESTIONS}, optional={"answer": st.sampled_from("xy")})


@settings(deadline=None)
@given(st.lists(FEW | st.integers(0, 2), max_size=10), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_neither_ids_nor_contents(rows: list, chance: random.Random) -> None:
    def imported(lines: list) -> Counter:
        with tempfile.TemporaryDirectory() as folder:
            found = read(Path(folder), "qa.jsonl", "\n".join(map(json.dumps, lines)))
        assert len({row.id for row in found}) == len(lines)
        return Counter(replace(row, where="") for row in found)

    assert imported(rows) == imported(chance.sample(rows, len(rows)))


@pytest.mark.shared
@pytest.mark.parametrize(("name", "count"), [("anthropic_docs", 100), ("tldr/2025-08-22", 1793)])
def test_real_sets_are_read_whole(shared: Path, name: str, count: int) -> None:
    found = QaSource(shared / name / "qa.jsonl", {}, "").read()
    assert (len(found), len({row.id for row in found})) == (count, count)
    assert not [row for row in found if row.problems or not (row.answer and row.answerable and row.evidence)]
    assert all((shared / name / item.document).is_file() for row in found for item in row.evidence)
