"""The end of ``make run``: what serves, three questions answered by cited passages, and what to try next."""

from __future__ import annotations

import json
from pathlib import Path

from tidegate.cli.output import passage, short, shown
from tidegate.local.airflow import USERS
from tidegate.local.screen import Screen
from tidegate.pipelines.search_index import OpenRelease, open_champion
from tidegate.pipelines.workspace import Workspace

_QUESTIONS = 3
_DEMO = "handbook"


def show_release(screen: Screen, workspace: Workspace) -> None:
    """Show the champion and let it answer three questions."""
    release = open_champion(workspace)
    counts = release.snapshot.manifest.counts
    size = f"{counts.indexed} documents, {counts.chunks} chunks"
    screen.say(f"\nrelease {short(release.id)} of corpus {workspace.corpus} serves: {size}\n")
    questions = sample_questions(release, workspace)
    if release.release.bundle.adapter is not None:
        _show_answers(screen, workspace, release, questions)
        return
    for question, hits in zip(questions, release.search(questions, top_k=1) if questions else [], strict=True):
        screen.say(f"  ? {shown(question)}")
        for hit in hits:
            screen.say(passage(hit.text, "    ", lines=4))
            screen.say(f"    -- {shown(hit.document)}{' > ' + shown(hit.heading) if hit.heading else ''}\n")


def _show_answers(screen: Screen, workspace: Workspace, release: OpenRelease, questions: list[str]) -> None:
    from tidegate.pipelines.answer_questions import answer_questions

    for found in answer_questions(workspace, release.release, questions):
        screen.say(f"  ? {shown(found.question)}")
        screen.say(f"    {shown(found.text)}")
        for item in found.passages[:1]:
            screen.say(f"    -- {shown(item.document)}{' > ' + shown(item.heading) if item.heading else ''}\n")


def show_next_steps(screen: Screen, workspace: Workspace, url: str, *, stays_up: bool) -> None:
    """Say where the UI is, how to log in, and what to try."""
    users = ", ".join(f"{user} / {user}" for user in USERS)
    demo = workspace.corpus == _DEMO
    edit = "make demo-edit" if demo else f"edit a page in {workspace.config.source.path}"
    again = "make run" if demo else f"make run CORPUS={workspace.corpus}"
    screen.say(
        f"Airflow   {url}   login: {users}"
        if stays_up
        else f"Airflow was at {url} (login {users}) and is stopped now: ONCE=1"
    )
    if stays_up:
        screen.say(f"page      {url}/plugin/tidegate/{workspace.corpus}: releases, evaluations, pending approvals")
    screen.say("try       " + f'.venv/bin/tidegate search --corpus {workspace.corpus} "your question"')
    screen.say(f"          {edit}, then {again} again: only what changed is embedded")
    if workspace.config.qa.path:
        screen.say(
            f"          .venv/bin/tidegate qa stale --corpus {workspace.corpus}: questions that an edit made stale"
        )
    screen.say(f"          .venv/bin/tidegate status; .venv/bin/tidegate verify --corpus {workspace.corpus}")


def sample_questions(release: OpenRelease, workspace: Workspace) -> list[str]:
    """Return three questions: of the demo's own set, or made from headings spread over the corpus."""
    rows = workspace.base / "include" / "demo" / "qa.jsonl"
    if workspace.corpus == _DEMO and rows.is_file():
        return _spread([row["question"] for row in map(json.loads, rows.read_text().splitlines()) if row["answerable"]])
    ledger = release.snapshot.ledger.select(["document", "title", "headings"]).to_pylist()
    headings = [
        (row["headings"][-1].rpartition(" > ")[2] or row["title"] or Path(row["document"]).stem)
        for row in ledger
        if row["headings"]
    ]
    return _spread([heading for heading in headings if heading])


def _spread(items: list[str]) -> list[str]:
    distinct = list(dict.fromkeys(items))
    return [distinct[len(distinct) * (2 * at + 1) // (2 * _QUESTIONS)] for at in range(min(_QUESTIONS, len(distinct)))]
