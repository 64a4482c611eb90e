"""Whose text enters the training file: never that of another split, nor of a page that the audience may not read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.training_corpus import (
    FACTS,
    HARBOURS,
    HELD_OUT,
    TRAINED,
    TrainingDesk,
    asked,
    forty_rows,
    open_desk,
    page,
    prepared,
    section,
    unanswerable,
)
from tidegate.core.answer_text import holds
from tidegate.core.errors import ConfigInvalidError, TrainingSpecInvalidError
from tidegate.core.examples import Example
from tidegate.core.prompts import Turn
from tidegate.core.training_config import RowsConfig
from tidegate.pipelines.decide_training import training_of
from tidegate.pipelines.measure_release import general_questions
from tidegate.pipelines.training_plan import require_dataset
from tidegate.pipelines.training_rows import RowSource, TrainingFiles, lengths_of, make_files
from tidegate.prompting.renderer import REFUSAL
from tidegate.registry.file_store import FileStore
from tidegate.training.base_model import find_base_model

MANY = {"training": {"rows": {"repeats": 6, "withheld_share": 0.5}}, "prompt": {"passages": 3}}
"""So many distractors that every page that may be one is shown."""


@pytest.fixture
def desk(folder: Path, store: FileStore, tiny_base_model: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingDesk:
    return open_desk(folder, store, prepared(tiny_base_model, monkeypatch))


def source_of(desk: TrainingDesk) -> RowSource:
    base = find_base_model(desk.workspace.config.base_model.model)
    return RowSource(desk.workspace, training_of(desk.workspace.config), *require_dataset(desk.workspace), base.folder)


@dataclass(frozen=True)
class Made:
    """Training files, read."""

    files: TrainingFiles
    train: list[dict[str, Any]]
    dev: list[dict[str, Any]]


def made(desk: TrainingDesk) -> Made:
    files = make_files(source_of(desk))
    return Made(files, *([json.loads(line) for line in data.splitlines()] for data in (files.train, files.dev)))


def shown(lines: Iterable[dict[str, Any]]) -> set[str]:
    """Documents whose text is shown."""
    return {passage["document"] for line in lines for passage in line["passages"]}


def rows_of(lines: Iterable[dict[str, Any]]) -> set[str]:
    return {branch["row"] for line in lines for branch in line["branches"]} - {""}


def leaked(desk: TrainingDesk, lines: Iterable[dict[str, Any]], held: Iterable[str]) -> list[tuple[str, str]]:
    """Passages that are shown although their text stands in a page of another split."""
    texts = [(desk.folder / f"{name}.md").read_text() for name in held]
    passages = {(item["document"], item["text"]) for line in lines for item in line["passages"]}
    return sorted(item for item in passages if any(item[1] in text for text in texts))


def documents_found(desk: TrainingDesk, without: Iterable[str] = ()) -> set[str]:
    """Documents that retrieval finds for the questions of the training split."""
    source = source_of(desk)
    found = source.finder.find([row.example.question for row in source.rows("train")], 8, without=set(without))
    return {passage.document for passages in found for passage in passages}


def test_a_training_file_shows_pages_of_the_training_split_alone(desk: TrainingDesk) -> None:
    assert documents_found(desk) == {f"{name}.md" for name in HARBOURS}  # without the splits, all would be shown
    found = made(desk)
    assert shown(found.train) == {f"{name}.md" for name in TRAINED}
    assert rows_of(found.train) == {f"{name}-{fact}" for name in TRAINED for fact in (*FACTS, "bank")}
    assert leaked(desk, found.train, ["Farsund", *HELD_OUT]) == []
    assert rows_of(found.dev) == {f"Farsund-{fact}" for fact in (*FACTS, "bank")}
    assert leaked(desk, found.dev, HELD_OUT) == []
    assert {branch["kind"] for line in found.dev for branch in line["branches"]}.isdisjoint({"swapped", "practice"})


def test_passages_that_may_not_be_shown_make_room_for_those_that_may(desk: TrainingDesk) -> None:
    finder = source_of(desk.under(retrieval={"top_k": 1}, prompt={"window_tokens": 16})).finder
    question = FACTS["berths"][0].format("Gresk")
    assert {passage.document for passage in finder.find([question], 4)[0]} == {"Gresk.md"}
    (found,) = finder.find([question], 4, without={"Gresk.md"})
    assert len({passage.document for passage in found}) == 1
    assert "Gresk.md" not in {passage.document for passage in found}
    assert max(finder.count_tokens([passage.text for passage in found])) <= 16


def a_copy_that_no_row_is_about(desk: TrainingDesk) -> list[str]:
    """Its chunks occur in two documents, of which one is held out."""
    desk.write(old=page("Gresk") + "\n\n## More\n\nHere stood a mill once.\n")
    return []


def a_section_that_a_trained_row_quotes(desk: TrainingDesk) -> list[str]:
    """The chunk that holds the evidence of a trained row occurs in a held-out page too."""
    rules = "# Rules\n\n## Dogs\n\nDogs are led on a line of 3 metres.\n\n"
    desk.write(Rules=f"{rules}## Nets\n\nNets dry on 12 poles.\n", Gate=f"{rules}## Fish\n\nFish is sold at 6.\n")
    dogs = {"question": "How long is the line of a dog?", "answer": "3 metres"}
    fish = {"question": "When is fish sold?", "answer": "6"}
    evidence = {"document": "Rules.md", "quote": "Dogs are led on a line of 3 metres."}
    rows = [
        {"id": "Rules-dogs", **dogs, "evidence": [evidence]},
        {"id": "Gate-fish", **fish, "evidence": [{"document": "Gate.md", "quote": "Fish is sold at 6."}]},
    ]
    desk.ask({**forty_rows(), **{row["id"]: row for row in rows}}, {"Farsund": "dev", "Gate": "holdout"})
    return ["Gate"]


def a_section_under_another_title(desk: TrainingDesk) -> list[str]:
    """The same text makes another chunk, since a chunk carries its title."""
    desk.write(Bay=f"# The bay\n\n{section('Gresk', 'berths')}\n")
    assert "Bay.md" in documents_found(desk, set())
    return []


def a_page_that_moved_after_the_validation(desk: TrainingDesk) -> list[str]:
    (desk.folder / "Gresk.md").rename(desk.folder / "Moved.md")
    desk.refresh()
    return ["Moved", "Holmar"]


@pytest.mark.parametrize(
    "change",
    [
        a_copy_that_no_row_is_about,
        a_section_that_a_trained_row_quotes,
        a_section_under_another_title,
        a_page_that_moved_after_the_validation,
    ],
)
def test_no_text_of_a_held_out_page_is_shown_wherever_else_it_stands(
    change: Callable[[TrainingDesk], list[str]], desk: TrainingDesk
) -> None:
    held = change(desk) or list(HELD_OUT)
    found = made(desk.under(**MANY))
    assert leaked(desk, found.train, held) == []
    assert leaked(desk, found.dev, held) == []
    assert len(rows_of(found.train)) >= 25


@pytest.mark.parametrize(
    ("groups", "audience", "access", "readable"),
    [
        ("", ["everyone"], {}, True),
        ("everyone", ["staff"], {}, True),
        ("staff", ["everyone"], {}, False),
        ("staff", ["staff"], {}, True),
        ("board, staff", ["staff"], {}, True),
        ("board", ["staff"], {}, False),
        ("board", ["staff", "board"], {}, False),
        ("", ["everyone"], {"default_groups": ["staff"]}, False),
        ("", ["staff"], {"default_groups": ["staff", "board"]}, True),
        ("staff", ["everyone"], {"key": "readers"}, True),
    ],
)
def test_a_page_is_shown_only_if_the_whole_audience_may_read_it(
    groups: str, audience: list[str], access: dict[str, Any], readable: bool, desk: TrainingDesk
) -> None:
    others = {"groups": "everyone", "readers": "everyone"}
    for name in HARBOURS:
        named = {"groups": groups} if name == "Alby" else others
        front = "".join(f"{key}: {value}\n" for key, value in named.items() if value)
        (desk.folder / f"{name}.md").write_text((f"---\n{front}---\n" if front else "") + page(name))
    desk.refresh()
    desk.ask(forty_rows())
    found = made(desk.under(training={"audience": audience}, access=access))
    assert shown(found.train) == {f"{name}.md" for name in TRAINED if readable or name != "Alby"}
    assert sum(found.files.skipped.values()) == (0 if readable else len(FACTS))
    assert ("Alby.md" in found.files.trained_on.documents) == readable
    assert any("Alby-" in row for row in rows_of(found.train) - {"Alby-bank"}) == readable


def test_two_corpora_in_one_store_share_nothing(desk: TrainingDesk, tmp_path: Path) -> None:
    model = desk.workspace.config.base_model.model
    other = open_desk(tmp_path / "other", desk.store, model, below="north/", corpus="other")
    assert shown(made(desk).train) == {f"{name}.md" for name in TRAINED}
    assert shown(made(other).train) == {f"north/{name}.md" for name in TRAINED}


def test_what_was_trained_on_names_exactly_the_rows_and_documents_of_the_file(desk: TrainingDesk) -> None:
    desk.write(Wharf="# Harbour\n\n## Alby\n\nAlby has berths, a crane in Alby does lift, and a night does cost.\n")
    nowhere = {"id": "Alby-nowhere", "question": "How deep is Alby?", "answer": "9 fathoms", "evidence": ["Alby.md"]}
    rows = {**forty_rows(), "Alby-nowhere": nowhere}
    desk.ask(rows)
    found = made(desk.under(**MANY))
    assert dict(found.files.skipped) == {"no passage holds the whole evidence": 1}
    names = rows_of(found.train)
    assert "Wharf.md" in shown(found.train)  # a distractor that no row is about
    assert found.files.trained_on.rows == {
        name: Example.from_json({"answer": "", **rows[name]}).stated for name in names
    }
    assert found.files.trained_on.documents == {
        name: hashlib.sha256((desk.folder / name).read_bytes()).hexdigest() for name in shown(found.train)
    }
    assert (found.files.trained_on.dataset, found.files.trained_on.snapshot) == require_dataset(desk.workspace)


def test_a_branch_is_answered_where_its_passages_hold_the_answer_and_refuses_where_none_does(
    desk: TrainingDesk,
) -> None:
    rows, kinds = forty_rows(), set()
    for line in made(desk.under(training={"rows": {"withheld_share": 0.5, "repeats": 4}})).train:
        text = "\n".join(passage["text"] for passage in line["passages"])
        for branch in line["branches"]:
            kinds.add(branch["kind"])
            refused = branch["kind"] in ("withheld", "unanswerable")
            assert (branch["answer"] == REFUSAL) == refused
            assert refused or holds(text, branch["answer"])
            assert branch["kind"] != "withheld" or not holds(text, rows[branch["row"]]["answer"])
            assert branch["kind"] != "swapped" or branch["answer"] != rows[branch["row"]]["answer"]
    assert {"answered", "swapped", "withheld", "unanswerable"} <= kinds


def test_equal_inputs_and_seed_make_equal_files_and_counts_tell_what_is_in_them(desk: TrainingDesk) -> None:
    first, again = made(desk), made(desk)
    assert (first.files.train, first.files.dev) == (again.files.train, again.files.dev)
    assert made(desk.under(training={"seed": 1})).files.train != first.files.train
    counts, branches = first.files.counts, [branch for line in first.train for branch in line["branches"]]
    own = [[len(item["prompt"]) + len(item["completion"]) for item in line["branches"]] for line in first.train]
    sizes = [len(line["prefix"]) + sum(each) for line, each in zip(first.train, own, strict=True)]
    assert (counts.contexts, counts.tokens, counts.longest) == (len(first.train), sum(sizes), max(sizes))
    for kind in ("answered", "swapped", "withheld", "unanswerable", "replayed"):
        assert getattr(counts, kind) == sum(branch["kind"] == kind for branch in branches)
    longest = [len(line["prefix"]) + max(each) for line, each in zip(first.train, own, strict=True)]
    assert lengths_of(first.files.train) == longest


def test_replayed_instructions_are_the_wanted_share_of_the_lines(desk: TrainingDesk) -> None:
    said = [{"role": "user", "content": "Say yes."}, {"role": "assistant", "content": "Yes."}]
    (desk.folder / "general.jsonl").write_text(f"{json.dumps({'messages': said})}\n" * 40)
    share = {"replay": "general.jsonl", "replay_share": 0.25, "questions_per_context": 2}
    alone = made(desk.under(training={"rows": {"questions_per_context": 2}}))
    mixed = made(desk.under(training={"rows": share}))
    replayed = [line for line in mixed.train if not line["passages"]]
    assert len(replayed) == round(len(alone.train) / 3)
    assert mixed.train[: len(alone.train)] == alone.train
    assert {len(line["branches"]) for line in replayed} == {2}
    assert mixed.files.counts.replayed == 2 * len(replayed)
    assert mixed.files.trained_on == alone.files.trained_on
    tokenizer = source_of(desk).tokenizer
    first, second = replayed[0]["branches"]
    prompt = tokenizer.encode_prompt([Turn("user", "Say yes.")])
    assert [*replayed[0]["prefix"], *first["prompt"]] == [*replayed[0]["prefix"], *second["prompt"]] == prompt
    assert first["completion"] == tokenizer.encode_completion("Yes.")
    assert [first["row"], second["row"]] == ["general.jsonl:1", "general.jsonl:2"]


def test_replayed_instructions_make_no_line_longer_than_the_others_and_end_with_their_file(desk: TrainingDesk) -> None:
    yes = {"role": "assistant", "content": "Yes."}
    rows = [{"messages": [{"role": "user", "content": f"{at} times: {'say yes, ' * 20}"}, yes]} for at in range(1, 10)]
    (desk.folder / "general.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    longest = made(desk).files.counts.longest
    mixed = made(desk.under(training={"rows": {"replay": "general.jsonl", "replay_share": 0.9}}))
    assert mixed.files.counts.longest == longest
    replayed = [line for line in mixed.train if not line["passages"]]
    assert sum(len(line["branches"]) for line in replayed) == 9
    assert len(replayed) > 1


def test_the_instructions_of_the_package_are_replayed_by_default_and_none_asks_what_guards_against_forgetting(
    desk: TrainingDesk,
) -> None:
    assert RowsConfig().replay_share == 0.05
    mixed = made(desk.under(training={"rows": {"replay_share": 0.5}}))
    asked = [branch["question"] for line in mixed.train for branch in line["branches"] if branch["kind"] == "replayed"]
    assert len(asked) == len(set(asked)) == mixed.files.counts.replayed > 50
    guarding = {item.question for item in general_questions(None, desk.folder)}
    assert not guarding & set(asked)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "'general.jsonl' is not a file"),
        ('{"messages": []}', "general.jsonl:1"),
        ('{"messages": [{"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi"}]}', "general.jsonl:1"),
        ('{"messages": ["Hi", "Ho"]}', "general.jsonl:1"),
        ("[1]", "general.jsonl:1"),
        ("{", "general.jsonl:1"),
    ],
)
def test_a_replay_file_that_cannot_be_used_is_named_with_its_line(
    text: str | None, named: str, desk: TrainingDesk
) -> None:
    if text is not None:
        (desk.folder / "general.jsonl").write_text(text)
    with pytest.raises(ConfigInvalidError) as caught:
        made(desk.under(training={"rows": {"replay": "general.jsonl", "replay_share": 0.5}}))
    assert named in caught.value.what


@pytest.mark.parametrize(
    "rows",
    [
        [asked("Farsund", "fee")],
        [asked("Alby", "fee", answer="nowhere", evidence=["Alby.md"])],
        [unanswerable("Alby")],
    ],
    ids=["none in the split", "none that can be used", "one that finds no passage"],
)
def test_a_dataset_that_gives_no_row_is_named(rows: list[dict[str, Any]], desk: TrainingDesk) -> None:
    dataset = desk.ask({row["id"]: row for row in rows})
    with pytest.raises(TrainingSpecInvalidError) as caught:
        made(desk.under(training={"audience": ["staff"]}, access={"default_groups": ["board"]}))
    assert dataset[:12] in caught.value.what
