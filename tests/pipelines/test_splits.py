"""Splits over the life of a Q&A set, read from stored files: no row moves, and nothing of the holdout is trained on."""

from __future__ import annotations

import random
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, make_workspace
from tests.pipelines.qa_history import (
    NEW,
    OLD,
    History,
    Row,
    asked,
    assert_nothing_leaks,
    committed,
    lines,
    number,
    page,
    unanswerable,
)
from tidegate.core.config import load_corpus
from tidegate.core.examples import SPLITS
from tidegate.registry.file_store import FileStore

pytestmark = pytest.mark.slow


@pytest.fixture
def history(tmp_path: Path) -> History:
    """A set of 18 pages and 54 rows."""
    return History(tmp_path)


def test_rows_stay_where_they_are_when_others_come_and_go(history: History) -> None:
    first = dict(history.bytes)
    assert {name: len(found) for name, found in history.files.items()} == {
        "train": 3 * len(history.towns("train")),
        "dev": 3 * len(history.towns("dev")),
        "holdout": 3 * len(history.towns("holdout")),
        "excluded": 0,
    }
    assert all(history.towns(split) for split in SPLITS)

    random.Random(1).shuffle(history.rows)
    history.commit()
    assert history.bytes == first

    history.new(*(asked(town, "fence") for town in OLD))
    history.new(asked(NEW[0], "fence"), asked(NEW[0], "crates"))
    history.write(f"{NEW[0]}.md", page(NEW[0]))
    history.commit(split_key="another")
    assert {history.seen[f"{town}-fence"] == history.seen[f"{town}-crates"] for town in [*OLD, NEW[0]]} == {True}

    gone = history.remove(*(row["id"] for row in history.rows if row["id"].split("-")[0] in OLD[:7]))
    history.commit()
    assert len(gone) == 28
    history.new(*gone[::-1])
    history.commit(split_key="a third", dev_share=0.05, holdout_share=0.6)
    assert history.excluded("bridging") == set()
    assert len(history.seen) == 18 * 4 + 2 == sum(len(history.files[name]) for name in SPLITS)


def test_a_document_keeps_its_split_under_another_name_and_text(history: History) -> None:
    was = {split: history.towns(split) for split in SPLITS}
    for town in OLD:
        history.rename(f"{town}.md", f"moved/{town.lower()}-2.md")
    history.commit()
    assert history.files["excluded"] == []
    history.new(*(asked(town, "fence", f"moved/{town.lower()}-2.md") for town in OLD))
    for town in OLD:
        history.write(f"moved/{town.lower()}-2.md", page(town) + f"\nThe mayor of {town} has a cat.\n")
    history.commit()
    assert history.files["excluded"] == []
    assert {history.seen[f"{town}-fence"]: True for town in was["dev"]} == {"dev": True}

    town = was["holdout"][0]
    history.write(f"moved/{town.lower()}-2.md", page(town).replace("crates", "boxes"))
    history.commit()
    assert history.excluded("stale") == {f"{town}-crates"}
    (history.folder / f"moved/{town.lower()}-2.md").unlink()
    history.commit()
    assert history.excluded("dangling") == {f"{town}-{fact}" for fact in ("crates", "opening", "fence", "telephone")}
    history.write(f"moved/{town.lower()}-2.md", page(town))
    history.new(asked(town, "lorries", f"moved/{town.lower()}-2.md"))
    history.commit()
    assert history.files["excluded"] == []
    assert history.seen[f"{town}-lorries"] == "holdout"


def test_only_the_row_that_joins_two_splits_is_excluded_and_it_is_named(history: History) -> None:
    train, dev, holdout = (history.towns(split)[0] for split in SPLITS)
    before = {name: len(found) for name, found in history.files.items()}
    history.new(asked(train, "fence", f"{train}.md", f"{holdout}.md"), asked(dev, "fence", f"{dev}.md"))
    history.commit()
    assert history.bridging == {f"{train}-fence": "joins holdout and train"}
    assert {name: len(found) for name, found in history.files.items()} == before | {
        "dev": before["dev"] + 1,
        "excluded": 1,
    }

    history.remove(f"{dev}-fence")
    history.new(asked(dev, "fence", f"{dev}.md", f"{train}.md"), asked(holdout, "fence"))
    history.commit()
    assert history.bridging == {f"{train}-fence": "joins holdout and train", f"{dev}-fence": "joins dev and train"}
    history.remove(f"{dev}-fence", f"{train}-fence")
    history.new(asked(dev, "fence"), asked(train, "fence"))
    history.commit()
    assert history.files["excluded"] == []
    assert history.seen[f"{train}-fence"] == "train"


def test_a_question_takes_the_split_of_what_asks_nearly_the_same_even_if_that_is_gone(history: History) -> None:
    train, other, *_ = history.towns("train")
    first, second, third, *_ = history.towns("holdout")
    history.remove(f"{first}-crates", f"{second}-opening")
    new = [NEW[0], NEW[1]]
    for town in new:
        history.write(f"{town}.md", page(town))
    said = {
        "question": f"how many crates does a depot in {first} hold",
        "id": "again",
        "answer": f"{number(new[0])} crates",
    }
    clash = {"question": f"When does the depot in {second} open", "id": "clash", "answer": f"{number(train)} crates"}
    doubled = {"question": f"the depot in {third}: when does it open?", "id": "other"}
    twice = {"question": f"When do the depots in {third} open?!", "id": "twice"}
    history.new(asked(new[0], "crates", **said), asked(train, "crates", **clash))
    history.new(asked(third, "opening", **doubled), asked(third, "opening", **twice), asked(other, "fence"))
    history.commit()
    assert history.seen["again"] == "holdout"
    assert history.seen["other"] == "holdout"
    assert history.bridging == {"clash": "joins holdout and train"}
    assert history.excluded("failed") == {"twice"}
    assert {found["row"]: found["rule"] for found in history.report["failures"]} == {"twice": "near_duplicate_question"}
    drawn = {known["path"]: known["split"] for known in history.memory["documents"].values()}
    assert drawn[f"{new[0]}.md"] == "holdout"


def test_identical_documents_are_in_one_split(history: History) -> None:
    for town in OLD:
        history.write(f"copies/{town}.md", page(town))
    for town in NEW:
        for place in ("one", "two"):
            history.write(f"{place}/{town}.md", page(town))
        history.new(asked(town, "crates", f"one/{town}.md"), asked(town, "opening", f"two/{town}.md"))
    history.new(*(asked(town, "fence", f"copies/{town}.md") for town in OLD))
    history.commit()
    assert history.files["excluded"] == []
    pairs = [(f"{town}-fence", f"{town}-crates") for town in OLD]
    pairs += [(f"{town}-opening", f"{town}-crates") for town in NEW]
    assert [(one, other) for one, other in pairs if history.seen[one] != history.seen[other]] == []

    for town in OLD:
        history.write(f"copies/{town}.md", page(town) + f"\nThe mayor of {town} has a dog.\n")
    history.new(*(asked(town, "lorries", f"copies/{town}.md") for town in OLD))
    history.remove(*(f"{town}-fence" for town in OLD))
    history.commit()
    assert {history.seen[f"{town}-lorries"] == history.seen[f"{town}-fence"] for town in OLD} == {True}


def replaced_by_another(history: History, town: str, other: str) -> list[str]:
    history.rename(f"{town}.md", f"moved/{town}.md")
    history.write(f"{town}.md", f"# Nothing\n\nThe depot beside {town} is closed.\n")
    return [f"moved/{town}.md"]


def exchanged_names(history: History, town: str, other: str) -> list[str]:
    history.write(f"{town}.md", page(other))
    history.write(f"{other}.md", page(town))
    return [f"{other}.md"]


def moved_over_another(history: History, town: str, other: str) -> list[str]:
    history.rename(f"{town}.md", f"{other}.md")
    return [f"{other}.md"]


def made_equal_to_another(history: History, town: str, other: str) -> list[str]:
    history.write(f"{other}.md", page(town))
    return [f"{other}.md", f"{town}.md"]


def edited_with_a_copy_kept(history: History, town: str, other: str) -> list[str]:
    history.write(f"archive/{town}.md", page(town))
    history.write(f"{town}.md", page(town) + f"\nThe mayor of {town} has a goat.\n")
    return [f"archive/{town}.md", f"{town}.md"]


COPY_KEPT = pytest.param(edited_with_a_copy_kept)


@pytest.mark.parametrize(
    "change",
    [replaced_by_another, exchanged_names, moved_over_another, made_equal_to_another, COPY_KEPT],
)
def test_the_text_of_a_holdout_document_is_not_trained_on_wherever_it_goes(
    history: History, change: Callable[[History, str, str], list[str]]
) -> None:
    held, trained = history.towns("holdout"), history.towns("train")
    for town, other in zip(held, trained, strict=False):
        for path, fact in zip(change(history, town, other), ("fence", "lorries"), strict=False):
            history.new(asked(town, fact, path))
    history.commit()
    assert [row["id"] for row in history.files["train"] if row["id"].split("-")[0] in held] == []


def test_an_edited_question_takes_no_other_row_out(history: History) -> None:
    train, holdout = history.towns("train")[0], history.towns("holdout")[0]
    history.remove(f"{train}-telephone")
    question = f"Which telephone numbers does a depot in {holdout} have"
    history.rows.insert(0, unanswerable(train) | {"question": question})
    history.commit()
    assert {row["id"] for row in history.files["excluded"]} == {f"{train}-telephone"}


def test_a_question_is_remembered_while_its_row_asks_another_and_is_excluded(history: History) -> None:
    train, dev, holdout = (history.towns(split)[0] for split in SPLITS)
    history.remove(f"{holdout}-telephone")
    question = "Which telephone number does the union have?"
    history.new(unanswerable(holdout) | {"question": question, "evidence": [f"{dev}.md"]})
    history.new(unanswerable(train) | {"question": unanswerable(holdout)["question"], "id": "again"})
    history.commit()
    assert history.bridging == {f"{holdout}-telephone": "joins dev and holdout", "again": "joins holdout and train"}


def test_a_row_that_comes_back_is_preferred_to_one_that_asks_the_same_and_is_excluded(history: History) -> None:
    train, holdout = history.towns("train")[0], history.towns("holdout")[0]
    gone = history.remove(f"{holdout}-telephone")
    history.new(unanswerable(train) | {"question": gone[0]["question"], "id": "again"})
    history.commit()
    assert history.bridging == {"again": "joins holdout and train"}
    history.new(*gone)
    history.commit()
    assert {row["id"] for row in history.files["excluded"]} == {"again"}


@pytest.mark.parametrize("twin", [{"id": "twin", "question": "When do the depots in {} open?"}, {"tags": ["again"]}])
def test_of_two_copies_the_same_one_stays_when_the_file_is_shuffled(history: History, twin: Row) -> None:
    changes = {name: value.format(OLD[0]) if name == "question" else value for name, value in twin.items()}
    history.new(asked(OLD[0], "opening", **changes))
    history.commit()
    before = dict(history.bytes)
    assert [row["tags"] for row in history.files["excluded"]] == [changes.get("tags", [])]
    history.rows.reverse()
    history.commit()
    assert {name: history.bytes[name] == before[name] for name in SPLITS} == dict.fromkeys(SPLITS, True)


def test_a_row_with_a_copy_of_its_id_follows_its_document(history: History) -> None:
    history.new(*(asked(town, "opening", tags=["again"]) for town in OLD))
    history.commit()
    assert len(history.files["excluded"]) == len(OLD)
    for town in OLD:
        history.rename(f"{town}.md", f"moved/{town}-2.md")
    history.commit()
    assert [row["tags"] for row in history.files["excluded"]] == [["again"]] * len(OLD)


ALIKE = [("Marlow", "Barlow"), ("Henley", "Kenley"), ("Linton", "Minton"), ("Tarvin", "Marvin")]
"""Towns that might be one town, mistyped, unless other questions name both."""


@pytest.fixture
def mistakable(history: History) -> History:
    """A set with two questions on each of these towns; some pairs are in two splits."""
    for town in (town for pair in ALIKE for town in pair):
        history.write(f"{town}.md", page(OLD[0]).replace(OLD[0], town))
        history.new(unanswerable(town), unanswerable(town) | {"id": town, "question": f"Who is the mayor of {town}?"})
    history.commit()
    assert history.files["excluded"] == []
    assert any(history.seen[one] != history.seen[other] for one, other in ALIKE)
    return history


def test_a_row_is_not_taken_for_a_mistyped_one_when_others_go(mistakable: History) -> None:
    mistakable.remove(*(town for pair in ALIKE for town in pair))
    mistakable.commit()
    assert mistakable.files["excluded"] == []


ONE_GOES = pytest.param(True, id="one goes")


@pytest.mark.parametrize("removed", [pytest.param(False, id="all stay"), ONE_GOES])
def test_a_row_is_not_taken_for_a_mistyped_one_when_others_ask_something_else(
    mistakable: History, removed: bool
) -> None:
    for at, town in enumerate(town for pair in ALIKE for town in pair):
        mistakable.remove(town)
        mistakable.new(unanswerable(town) | {"id": town, "question": f"How old is mayor number {at + 100}?"})
    mistakable.commit()
    assert mistakable.files["excluded"] == []
    mistakable.remove(OLD[0] + "-crates", *(f"{town}-telephone" for town, _ in ALIKE if removed))
    mistakable.commit()
    assert mistakable.files["excluded"] == []


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_no_row_moves_and_nothing_leaks_over_a_random_history(history: History, seed: int) -> None:
    order = random.Random(seed)
    paths = {town: f"{town}.md" for town in OLD}
    gone: list[Row] = []
    for step in range(6):
        change_documents(history, paths, step, order)
        back = [row for row in gone if order.random() < 0.5]
        gone = [row for row in gone if row not in back]
        gone += history.remove(*(row["id"] for row in history.rows if order.random() < 0.2))
        town, told = NEW[step], order.choice(gone)
        again = {"id": f"{told['id']} again", "question": told["question"].replace(" the ", " a ").rstrip("?")}
        history.new(asked(town, "crates"), unanswerable(town), *back)
        written = {row["id"] for row in (*history.rows, *gone)}
        added = [told | again]
        for town, fact in {(order.choice(sorted(paths)), order.choice(["fence", "lorries"])) for _ in range(6)}:
            others = [paths[order.choice(sorted(paths))] for _ in range(order.choice([0, 0, 1]))]
            added.append(asked(town, fact, paths[town], *others))
        history.new(*(row for row in added if row["id"] not in written))
        order.shuffle(history.rows)
        history.commit(split_key=f"key {step}")
    assert history.bridging


def change_documents(history: History, paths: dict[str, str], step: int, order: random.Random) -> None:
    """Rename, exchange, edit and add some documents; ``paths`` says where the page of each town is."""
    chosen = order.sample(sorted(paths), 7)
    for town in chosen[:2]:
        history.rename(paths[town], moved := f"step {step}/{town}.md")
        paths[town] = moved
    one, other = chosen[2:4]
    for source, target in ((paths[one], "aside.md"), (paths[other], paths[one]), ("aside.md", paths[other])):
        history.rename(source, target)
    paths[one], paths[other] = paths[other], paths[one]
    for town in chosen[4:]:
        text = (history.folder / paths[town]).read_text()
        changed = text.replace("crates", "boxes") if order.random() < 0.5 else text
        history.write(paths[town], f"{changed}\nAt step {step} the mayor of {town} has a new dog.\n")
    paths[NEW[step]] = f"{NEW[step]}.md"
    history.write(paths[NEW[step]], page(NEW[step]))


def test_the_demo_holds_a_third_of_its_pages_out_and_keeps_them_through_a_revision(tmp_path: Path) -> None:
    demo, folder = ROOT / "include" / "demo", tmp_path / "handbook"
    revise = runpy.run_path(str(demo / "revise.py"))
    revise["reset"](folder)
    settings = load_corpus(ROOT / "include" / "corpora" / "handbook.yaml").qa.model_dump()
    workspace = make_workspace(folder, FileStore(tmp_path / "store"), qa=settings)
    placed = []
    for change in (lambda _: None, revise["edit"]):
        change(folder)
        stored, memory, report = committed(workspace, demo / "qa.jsonl")
        files = {name: lines(data) for name, data in stored.items()}
        written = {at.relative_to(folder).as_posix(): at for at in folder.rglob("*") if at.is_file()}
        known = {key: known["path"] for key, known in memory["documents"].items() if known["path"] in written}
        pages = {key: written[path].read_text(errors="replace") for key, path in known.items()}
        assert_nothing_leaks(files, set(), lambda row, of=pages: [of[key] for key in row["documents"]])
        placed.append(({row["id"]: name for name in SPLITS for row in files[name]}, report["splits"]["holdout"], files))
    (first, holdout, files), (second, _, revised) = placed
    cited = {key for name in SPLITS for row in files[name] for key in row["documents"]}
    assert files["excluded"] == []
    assert holdout["documents"] >= 32
    assert 0.3 < holdout["documents"] / len(cited) < 0.37
    assert holdout["rows"] >= 160
    assert holdout["unanswerable"] >= 40
    assert second.items() <= first.items()
    assert first.keys() - second.keys() == {row["id"] for row in revised["excluded"]}
    assert {row["status"] for row in revised["excluded"]} == {"stale", "dangling"}
