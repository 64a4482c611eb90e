"""Adapters on the command line: trained once, placed, measured, and found again when a row that they learnt changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import TIDEGATE, Answer, Call, assert_mistake
from tests.pipelines.training_corpus import (
    FACTS,
    HARBOURS,
    SETTINGS,
    TRAINED,
    TRAINING,
    TrainingDesk,
    forty_rows,
    open_desk,
    prepared,
)
from tidegate.core import keys
from tidegate.evaluation.transformers_generator import TransformersGenerator
from tidegate.registry.adapters import newest_adapter, read_adapter
from tidegate.registry.file_store import FileStore

CORPUS = "harbours"


@dataclass(frozen=True)
class Project:
    """A home with a corpus whose adapter was trained by the command line, and what the command said."""

    home: Path
    desk: TrainingDesk
    answer: Answer

    @property
    def key(self) -> str:
        return newest_adapter(self.desk.store, CORPUS).key


def write_corpus(home: Path, model: str, **training: object) -> None:
    settings = {**SETTINGS, "source": {"path": "documents"}, "training": {**TRAINING, **training}}
    path = home / "include" / "corpora" / f"{CORPUS}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**settings, "base_model": {"model": model}}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path) -> Project:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        model = prepared(tiny_base_model, patch)
        write_corpus(home, model)
        desk = open_desk(home / "documents", FileStore(home / ".tidegate" / "store"), model, corpus=CORPUS)
        done = subprocess.run(
            [TIDEGATE, "adapters", "train"],
            env={**os.environ, "TIDEGATE_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
    return Project(home, desk, Answer(done.returncode, done.stdout, done.stderr))


@pytest.fixture
def project(made: Project, home: Path, tiny_base_model: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the project, which is the home of a test."""
    prepared(tiny_base_model, monkeypatch)
    shutil.copytree(made.home, home, dirs_exist_ok=True)
    desk = replace(made.desk.over(FileStore(home / ".tidegate" / "store")), folder=home / "documents")
    return replace(made, home=home, desk=desk)


def test_training_says_why_on_what_and_for_how_long(made: Project) -> None:
    assert (made.answer.code, made.answer.out) == (0, f"adapter {made.key[:12]} is ready\n"), made.answer.err
    counts = read_adapter(made.desk.store, CORPUS, made.key).counts
    why, what = made.answer.err.splitlines()[:2]
    assert why == "no adapter was trained yet"
    minutes = counts.tokens / 1000 / 60
    assert what == f"{counts.contexts} contexts; {counts.tokens} tokens at 1000 tok/s (assumed): {minutes:.1f} minutes"


def test_training_again_without_a_reason_says_so_and_does_nothing(project: Project, cli: Call) -> None:
    said = cli("adapters", "train")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("nothing to gain: 0 of 25 training rows changed (enough is 20), 0 fresh questions fail")
    assert cli("adapters", "train", "--json").json["reason"] == said.out.rstrip()
    assert project.desk.store.children(keys.adapters(CORPUS)) == [project.key]


def test_training_anyway_ends_with_the_adapter_that_is_there(project: Project, cli: Call) -> None:
    said = cli("adapters", "train", "--anyway", "--json")
    assert (said.code, said.json) == (0, {"adapter": project.key})
    assert said.err.startswith("nothing to gain")
    assert project.desk.store.children(keys.adapters(CORPUS)) == [project.key]


def test_training_over_budget_ends_with_the_figures(project: Project, cli: Call, tiny_base_model: Path) -> None:
    write_corpus(project.home, f"path:{tiny_base_model}", epochs=2, budget={"max_hours": 1e-6})
    said = cli("adapters", "train")
    assert (said.code, said.out) == (1, "")
    assert "FAILED  over_budget" in said.err
    assert "training would take 0.00 hours (" in said.err
    assert "training.budget.max_hours is 1e-06" in said.err


def test_an_adapter_is_placed_as_the_two_files_that_servers_load(project: Project, cli: Call) -> None:
    assert cli("adapters", "place", "new/folder").out == f"adapter {project.key[:12]} is in new/folder\n"
    stored = project.home / ".tidegate" / "store" / CORPUS / "adapters" / project.key
    assert sorted(path.name for path in (project.home / "new" / "folder").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    for path in (project.home / "new" / "folder").iterdir():
        assert path.read_bytes() == (stored / path.name).read_bytes()
    (project.home / "empty").mkdir()
    found = cli("adapters", "place", "empty", "--adapter", project.key[:5], "--json")
    assert found.json == {"adapter": project.key, "folder": "empty"}
    base = read_adapter(project.desk.store, CORPUS, project.key).base_model
    assert found.err == f"its base model is tiny-llama ({base.digest[:12]})\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["place", "documents"], "documents is not an empty folder"),
        (["place", "documents/Alby.md"], "documents/Alby.md is not an empty folder"),
        (["place", "new", "--adapter", "zz"], "0 adapters begin with 'zz'"),
        (["place", "new", "--adapter", ""], "2 adapters begin with ''"),
    ],
)
def test_a_place_or_an_adapter_that_is_not_meant_is_a_mistake(
    arguments: list[str], named: str, project: Project, cli: Call
) -> None:
    shutil.copytree(
        project.home / ".tidegate" / "store" / CORPUS / "adapters" / project.key,
        project.home / ".tidegate" / "store" / CORPUS / "adapters" / f"{'0' * 64}.00000000",
    )
    assert_mistake(cli("adapters", *arguments), named)
    assert not (project.home / "new").exists()


@pytest.mark.parametrize("command", [["adapters", "place", "new"], ["evaluate", "adapter"]])
def test_before_the_first_adapter_there_is_nothing_to_place_or_measure(
    command: list[str], project: Project, cli: Call
) -> None:
    shutil.rmtree(project.home / ".tidegate" / "store" / CORPUS / "adapters")
    (project.home / ".tidegate" / "store" / keys.adapter_head(CORPUS)).unlink()
    assert_mistake(cli(*command), f"corpus {CORPUS} in ", "has no adapter yet", "tidegate adapters train")


def test_a_corpus_without_a_training_section_trains_none(project: Project, cli: Call) -> None:
    path = project.home / "include" / "corpora" / f"{CORPUS}.yaml"
    path.write_text(yaml.safe_dump({"source": {"path": "documents"}}))
    assert_mistake(cli("adapters", "train"), f"corpus {CORPUS} trains no adapter", "no section training")


def test_an_adapter_is_affected_when_a_row_that_it_learnt_changed(project: Project, cli: Call) -> None:
    assert cli("adapters", "affected").out == "no adapter is affected\n"
    rows = forty_rows()
    rows["Alby-fee"]["answer"] = "one hundred and two crowns"
    rows["Gresk-fee"]["answer"] = "one hundred crowns"  # held out, so nothing learnt it
    dataset = read_adapter(project.desk.store, CORPUS, project.key).dataset
    project.desk.ask(rows)
    found = {"adapter": project.key, "dataset": dataset}
    assert cli("adapters", "affected", "--json").json == {**found, "rows": {"Alby-fee": "changed"}, "documents": []}
    forget = cli("adapters", "affected", "--document", "Borum.md", "--document", "Gresk.md", "--json").json
    assert forget == {**found, "rows": {"Alby-fee": "changed"}, "documents": ["Borum.md"]}


def test_the_newest_adapter_is_measured_against_its_base_model(project: Project, cli: Call) -> None:
    found = cli("evaluate", "adapter", "--json", "--answers", "answers.jsonl")
    assert found.code == 0, found.err
    measured = found.json
    assert (measured["adapter"], measured["base_prompt"] in measured["dev"]) == (project.key, True)
    assert {name: summary["n"] for name, summary in measured["dev"].items()} == dict.fromkeys(measured["dev"], 4)
    for arm in ("base+RAG", "adapter+RAG"):
        sizes = {name: part["n"] for name, part in measured["arms"][arm].items()}
        assert (sizes["all"], sizes["answerable"], sizes["unanswerable"], sizes["near misses"]) == (10, 8, 2, 8)
        assert measured["changed"][arm]["new"]["n"] == len(TRAINED) * (len(FACTS) - 1)
    answers = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    holdout = {row["question"] for row in forty_rows().values() if row["id"].startswith(HARBOURS[6:])}
    assert {(answer["arm"], answer["question"]) for answer in answers} == {
        (arm, question) for arm in ("base+RAG", "adapter+RAG") for question in holdout
    }
    shown = cli("evaluate", "adapter", "--adapter", project.key[:8])
    assert (shown.code, shown.err) == (0, "0 fresh rows fail\n")
    assert shown.out.startswith(f"adapter {project.key[:12]}; base+RAG uses the prompt '{measured['base_prompt']}'")
    (line,) = (line for line in shown.out.splitlines() if line.startswith("near misses refused"))
    refused = measured["arms"]["adapter+RAG"]["near misses"]["refusal_recall"]
    assert line.endswith(f" {refused['hits']}/8")


def test_answers_that_cannot_be_written_are_found_before_any_is_asked_for(
    project: Project, cli: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("the model was asked first")

    monkeypatch.setattr(TransformersGenerator, "generate", asked)
    assert_mistake(cli("evaluate", "adapter", "--answers", "nowhere/answers.jsonl"), "--answers nowhere/answers.jsonl")
