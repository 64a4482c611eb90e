"""The end of ``make run``: what serves, three questions with cited passages, and what to try next."""

import io
import json
from pathlib import Path

import pytest

from tests.conftest import make_workspace, refresh
from tests.fakes import HashEmbedder
from tidegate.local.answers import sample_questions, show_next_steps, show_release
from tidegate.local.screen import Screen
from tidegate.pipelines.search_index import open_champion
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.file_store import FileStore


@pytest.fixture
def screen() -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(out), out


def page(title: str) -> str:
    return f"# {title}\n\nThe page about {title} has one sentence.\n"


def test_the_release_answers_its_own_headings_with_cited_passages(
    folder: Path, workspace: Workspace, screen: tuple[Screen, io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (folder / "tides.md").write_text(page("Tides"))
    refresh(workspace)
    show_release(screen[0], workspace)
    release = open_champion(workspace).id[:12]
    assert screen[1].getvalue() == (
        f"\nrelease {release} of corpus test serves: 1 documents, 1 chunks\n\n"
        "  ? Tides\n"
        "    The page about Tides has one sentence.\n"
        "    -- tides.md > Tides\n\n"
    )


def test_a_corpus_without_documents_has_no_question(workspace: Workspace, screen: tuple[Screen, io.StringIO]) -> None:
    refresh(workspace)
    show_release(screen[0], workspace)
    release = open_champion(workspace).id[:12]
    assert screen[1].getvalue() == f"\nrelease {release} of corpus test serves: 0 documents, 0 chunks\n\n"


def test_a_document_cannot_send_escape_codes_to_the_screen(
    folder: Path, workspace: Workspace, screen: tuple[Screen, io.StringIO]
) -> None:
    (folder / "trap\x1b[2J.md").write_text("# Trap \x1b[31m\n\nA trap \x1b]0;title\x07 in the text.\n")
    refresh(workspace)
    show_release(screen[0], workspace)
    assert "A trap" in screen[1].getvalue()
    assert [character for character in screen[1].getvalue() if not character.isprintable() and character != "\n"] == []


@pytest.mark.parametrize(
    ("pages", "expected"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [0, 2, 3]), (12, [2, 6, 10]), (60, [10, 30, 50])]
)
def test_at_most_three_headings_are_asked_spread_over_the_corpus(
    pages: int, expected: list[int], folder: Path, workspace: Workspace
) -> None:
    for number in range(pages):
        (folder / f"{number:02}.md").write_text(page(f"Title {number}"))
    refresh(workspace)
    assert sample_questions(open_champion(workspace), workspace) == [f"Title {number}" for number in expected]


def test_equal_headings_are_asked_once_and_a_page_without_one_by_its_name(folder: Path, workspace: Workspace) -> None:
    for name in ("a.md", "b.md"):
        (folder / name).write_text(page("Twin") + name)
    (folder / "plain_notes.txt").write_text("no heading at all\n")
    refresh(workspace)
    assert sample_questions(open_champion(workspace), workspace) == ["Twin", "plain_notes"]


def test_the_demo_asks_answerable_questions_of_its_own_set(tmp_path: Path, folder: Path, store: FileStore) -> None:
    rows = [{"question": f"question {number}", "answerable": number % 2 == 0} for number in range(12)]
    (tmp_path / "include" / "demo").mkdir(parents=True)
    (tmp_path / "include" / "demo" / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "a.md").write_text(page("A"))
    made = make_workspace(folder, store, HashEmbedder())
    demo = Workspace(made.config.model_copy(update={"corpus": "handbook"}), store, tmp_path, made.given_embedder)
    refresh(demo)
    assert sample_questions(open_champion(demo), demo) == ["question 2", "question 6", "question 10"]


def test_the_next_steps_name_the_ui_its_logins_and_commands(
    workspace: Workspace, screen: tuple[Screen, io.StringIO]
) -> None:
    show_next_steps(screen[0], workspace, "http://127.0.0.1:8080", stays_up=True)
    assert screen[1].getvalue() == (
        "Airflow   http://127.0.0.1:8080   login: admin / admin, ml_lead / ml_lead, data_engineer / data_engineer\n"
        "page      http://127.0.0.1:8080/plugin/tidegate/test: releases, evaluations, pending approvals\n"
        'try       .venv/bin/tidegate search --corpus test "your question"\n'
        f"          edit a page in {workspace.config.source.path}, then make run CORPUS=test again: "
        "only what changed is embedded\n"
        "          .venv/bin/tidegate status; .venv/bin/tidegate verify --corpus test\n"
    )


def test_after_once_the_ui_is_said_to_be_stopped(workspace: Workspace, screen: tuple[Screen, io.StringIO]) -> None:
    show_next_steps(screen[0], workspace, "http://127.0.0.1:8080", stays_up=False)
    first = screen[1].getvalue().splitlines()[0]
    assert first == (
        "Airflow was at http://127.0.0.1:8080 (login admin / admin, ml_lead / ml_lead, data_engineer / data_engineer)"
        " and is stopped now: ONCE=1"
    )
