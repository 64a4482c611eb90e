"""From rows to a committed adapter, on a tiny model: what is stored, what a second try does, what fails early."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.pipelines.training_corpus import TRAINED, TrainingDesk, commit_untrained, open_desk, prepared
from tidegate import __version__
from tidegate.core import keys
from tidegate.core.adapter_records import AdapterManifest
from tidegate.core.canonical import sha256_hex
from tidegate.core.errors import (
    CommitLostError,
    ConfigInvalidError,
    DatasetMissingError,
    ObjectCorruptError,
    StageMissingError,
    TrainingSpecInvalidError,
)
from tidegate.core.records import StoredFile
from tidegate.pipelines.decide_training import decide, estimate
from tidegate.pipelines.training_plan import DEV, PLAN, TRAIN, TrainingPlan
from tidegate.pipelines.verify_store import verify_corpus
from tidegate.registry.adapters import newest_adapter, place_adapter, read_adapter, verify_adapter
from tidegate.registry.file_store import FileStore
from tidegate.registry.store import open_store
from tidegate.training.base_model import find_base_model, prepare_base_model
from tidegate.training.spec import TrainResult

FILES = {
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "dev.jsonl",
    "loss.png",
    "losses.json",
    "probes.json",
    "train.jsonl",
    "trained_on.json",
}
ELSEWHERE = """
import json, sys
from pathlib import Path
from tidegate.core.config import parse_corpus
from tidegate.pipelines.refresh_adapter import commit, train
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.runs import Run
from tidegate.registry.store import open_store
given = json.load(sys.stdin)
store = open_store(given["store"], base=Path.cwd())
workspace = Workspace(parse_corpus(given["corpus"], where="given"), store, Path.cwd())
train(workspace, Run(store, workspace.corpus, "run"))
print(commit(workspace, Run(store, workspace.corpus, "run")))
"""


@pytest.fixture(autouse=True)
def model(tiny_base_model: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny base model, prepared, as a corpus file names it."""
    return prepared(tiny_base_model, monkeypatch)


@pytest.fixture
def desk(folder: Path, store: FileStore, model: str) -> TrainingDesk:
    return open_desk(folder, store, model)


@dataclass(frozen=True)
class Trained:
    """A store with an adapter that was trained undisturbed; no test changes it."""

    desk: TrainingDesk
    plan: TrainingPlan
    result: TrainResult
    events: list[dict[str, Any]]
    key: str

    @property
    def manifest(self) -> AdapterManifest:
        return read_adapter(self.desk.store, self.desk.corpus, self.key)

    def file(self, name: str) -> bytes:
        return stored(self.desk, f"{keys.adapter(self.desk.corpus, self.key)}/{name}")

    def copy(self, base: Path) -> TrainingDesk:
        """The desk over a copy of the store."""
        shutil.copytree(self.desk.folder.parent / "store", base / "copy")
        return self.desk.over(FileStore(base / "copy"))


def stored(desk: TrainingDesk, key: str) -> bytes:
    found = desk.store.read(key)
    assert found is not None, key
    return found.data


def adapters(desk: TrainingDesk) -> list[str]:
    return desk.store.children(keys.adapters(desk.corpus))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path) -> Trained:
    base = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        (base / "scratch").mkdir()
        patch.setenv("TMPDIR", str(base / "scratch"))
        desk = open_desk(base / "documents", FileStore(base / "store"), prepared(tiny_base_model, patch))
        plan, (result, events) = desk.prepare(), desk.train()
        return Trained(desk, plan, result, events, desk.commit())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"training": {"lora": {"targets": ["q_porj"]}}}, ["training.lora.targets names 'q_porj'", "'q_proj'"]),
        ({"training": {"lora": {"targets": ["all-linear", "lm_head"]}}}, ["names 'all-linear'"]),
        ({"training": {"lora": {"r": 128}}}, ["training.lora.r is 128", "serving.max_lora_rank 64"]),
        ({"serving": {"max_lora_rank": 2}}, ["training.lora.r is 4", "serving.max_lora_rank 2"]),
        ({"training": {"max_length": 64}}, ["training.max_length is 64", "the base model takes 1024"]),
    ],
    ids=str,
)
def test_what_cannot_be_trained_or_served_fails_before_training(
    changed: dict[str, Any], said: list[str], desk: TrainingDesk
) -> None:
    bad = desk.under(**changed)
    with pytest.raises(TrainingSpecInvalidError) as caught:
        bad.prepare()
    assert [part for part in said if part not in caught.value.what] == []
    assert not caught.value.retryable
    assert [name for name in (PLAN, TRAIN, DEV) if bad.run().has_staged(name)] == []


def test_a_row_that_is_too_long_is_named_with_its_length(desk: TrainingDesk) -> None:
    longest = max(
        len(line["prefix"]) + max(len(item["prompt"]) + len(item["completion"]) for item in line["branches"])
        for line in map(json.loads, stored_rows(desk))
    )
    with pytest.raises(TrainingSpecInvalidError, match=f"the longest row has {longest} tokens"):
        desk.under(training={"max_length": longest - 1}).prepare()
    desk.under(training={"max_length": longest}).prepare()


def stored_rows(desk: TrainingDesk) -> list[bytes]:
    desk.prepare("rows")
    return desk.run("rows").staged(TRAIN).splitlines()


def test_nothing_is_prepared_without_a_dataset_and_nothing_trained_or_committed_out_of_turn(
    desk: TrainingDesk, model: str
) -> None:
    with pytest.raises(DatasetMissingError, match="corpus empty"):
        desk.under(corpus="empty").prepare()
    with pytest.raises(StageMissingError, match=PLAN):
        desk.train()
    plan = desk.prepare()
    with pytest.raises(StageMissingError, match=f"the adapter of job {plan.op_id[:12]} is not in "):
        desk.commit()
    assert adapters(desk) == []


def test_a_worker_with_another_base_model_trains_nothing(
    desk: TrainingDesk, tiny_base_model: Path, tmp_path: Path
) -> None:
    plan = desk.prepare()
    other = shutil.copytree(tiny_base_model, tmp_path / "tiny-llama")
    (other / "chat_template.jinja").write_text("{{ messages }}")
    files = find_base_model(f"path:{other}")
    prepare_base_model(files)
    elsewhere = desk.under(base_model={"model": f"path:{other}"})
    with pytest.raises(TrainingSpecInvalidError) as caught:
        elsewhere.train()
    assert plan.base_model.digest[:12] in caught.value.what
    assert plan.base_model.chat_template != files.identity.chat_template
    assert caught.value.what.count("tiny-llama") == 2


def test_an_interpreter_that_is_not_there_is_named(desk: TrainingDesk) -> None:
    nowhere = desk.under(training={"python": "/nowhere/python"})
    nowhere.prepare()
    with pytest.raises(ConfigInvalidError, match=r"training\.python '/nowhere/python' is not an interpreter"):
        nowhere.train()


def test_an_adapter_is_stored_whole_with_all_that_made_it(trained: Trained) -> None:
    desk, manifest = trained.desk, trained.manifest
    assert verify_adapter(desk.store, desk.corpus, trained.key) == manifest
    assert verify_corpus(desk.store, desk.corpus).adapters == 1
    folder = keys.adapter(desk.corpus, trained.key)
    names = {found.key.removeprefix(f"{folder}/") for found in desk.store.list_keys(f"{folder}/")}
    assert names == {*FILES, "manifest.json"}
    assert manifest.files == {
        name: StoredFile(size=len(data), sha256=sha256_hex(data))
        for name, data in ((name, trained.file(name)) for name in FILES)
    }
    assert trained.key.partition(".")[0] == manifest.digest == sha256_hex(trained.file("manifest.json"))
    assert trained.file("train.jsonl") == desk.run().staged(TRAIN)
    assert trained.file("dev.jsonl") == desk.run().staged(DEV)
    assert trained.file("trained_on.json") == trained.plan.trained_on.to_bytes()
    losses = json.loads(trained.file("losses.json"))
    assert losses["train"] == [list(point) for point in trained.result.losses]
    assert trained.file("loss.png").startswith(b"\x89PNG")
    assert b"base_model: tiny-llama" in trained.file("README.md")
    assert "modules_to_save" in json.loads(trained.file("adapter_config.json"))


def test_the_manifest_says_what_decided_the_adapter(trained: Trained) -> None:
    manifest, plan = trained.manifest, trained.plan
    said = {name: getattr(manifest, name) for name in ("op_id", "dataset", "snapshot", "base_model", "counts")}
    assert said == {name: getattr(plan, name) for name in said}
    assert (manifest.seq, manifest.parent, manifest.rank, manifest.audience) == (1, None, 4, ("everyone",))
    assert manifest.recipe == plan.recipe.model_dump(mode="json")
    assert manifest.versions == {**trained.result.versions, "tidegate": __version__, "code": plan.code}
    assert {"torch", "transformers", "peft", "trl", "python"} <= manifest.versions.keys()
    assert manifest.losses == {"train": trained.result.losses[-1][1], "dev": trained.result.dev_losses[-1][1]}
    assert trained.result.tokens == plan.counts.tokens
    assert decide(trained.desk.workspace).figures == {"changed rows": 0, "fresh failures": 0, "age in days": 0.0}


def test_the_trainer_says_what_it_does_and_leaves_nothing_behind(trained: Trained) -> None:
    first, *middle, last = trained.events
    assert first == {"event": "loading", "device": "cpu", "steps": trained.result.steps, "done": 0}
    assert last == {"event": "done", "steps": trained.result.steps}
    assert [event["step"] for event in middle if event["event"] == "step"][-1] == trained.result.steps
    assert list((trained.desk.folder.parent / "scratch").glob("tidegate-*")) == []
    measured = estimate(trained.desk.workspace, 1)
    assert (measured.tokens_per_second, measured.measured) == (round(trained.result.tokens_per_second, 1), True)


def test_peft_loads_the_two_files_and_the_adapter_answers_as_its_probes_say(trained: Trained, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    placed = place_adapter(trained.desk.store, trained.desk.corpus, trained.key, tmp_path / "placed")
    assert {path.name for path in placed.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    base = find_base_model(trained.desk.workspace.config.base_model.model).folder
    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(loaded, str(placed)).eval()
    words, probes = Tokenizer.from_file(str(base / "tokenizer.json")), json.loads(trained.file("probes.json"))
    assert len(probes) == 4
    for probe in probes:
        prompt = torch.tensor([probe["prompt"]])
        written = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, do_sample=False)
        assert words.decode([int(token) for token in written[0, prompt.shape[1] :]]) == probe["adapter"]
    assert any(probe["adapter"] != probe["base"] for probe in probes)


def test_running_everything_again_commits_nothing_new(trained: Trained, tmp_path: Path) -> None:
    desk = trained.copy(tmp_path)
    before = {found.key: found.modified for found in desk.store.list_keys("")}
    assert desk.commit() == trained.key
    assert replace(desk.prepare("again"), parent=None) == trained.plan
    result, events = desk.train("again")
    assert (result, events) == (trained.result, [])
    assert desk.commit("again") == trained.key
    assert adapters(desk) == [trained.key]
    after = {found.key: found.modified for found in desk.store.list_keys("")}
    changed = {key for key, modified in after.items() if before.get(key) != modified}
    assert changed == {f"test/runs/again/staged/{name}" for name in (PLAN, TRAIN, DEV)}


def test_the_manifest_names_the_audience_that_the_rows_were_made_for(trained: Trained, tmp_path: Path) -> None:
    desk = trained.copy(tmp_path)
    (tmp_path / "copy" / keys.adapter_head("test")).unlink()
    key = desk.under(training={"audience": ["staff"]}).commit()
    assert read_adapter(desk.store, desk.corpus, key).audience == ("everyone",)


def test_a_late_commit_does_not_bring_an_older_adapter_back(trained: Trained, tmp_path: Path) -> None:
    desk = trained.copy(tmp_path)
    newer = commit_untrained(desk.under(training={"epochs": 2}))
    assert desk.commit() == trained.key
    assert newest_adapter(desk.store, desk.corpus).key == newer
    assert read_adapter(desk.store, desk.corpus, newer).parent == trained.manifest.digest


def test_a_job_that_was_overtaken_while_it_trained_is_lost(trained: Trained, tmp_path: Path) -> None:
    desk = trained.copy(tmp_path)
    (tmp_path / "copy" / keys.adapter_head("test")).unlink()
    newer = commit_untrained(desk.under(training={"epochs": 2}))
    with pytest.raises(CommitLostError, match=f"the adapter of job {trained.plan.op_id[:12]} was not committed"):
        desk.commit()
    assert newest_adapter(desk.store, desk.corpus).key == newer


def test_settings_that_come_back_make_the_adapter_the_newest_again(trained: Trained, tmp_path: Path) -> None:
    desk = trained.copy(tmp_path)
    commit_untrained(desk.under(training={"epochs": 2}))
    assert decide(desk.workspace).train
    desk.prepare("back")
    desk.train("back")
    newest = desk.commit("back")
    assert newest_adapter(desk.store, desk.corpus).key == newest
    assert read_adapter(desk.store, desk.corpus, newest).settings == trained.manifest.settings
    assert not decide(desk.workspace).train


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_damaged_file_of_an_adapter_is_found(name: str, trained: Trained, tmp_path: Path) -> None:
    desk = trained.copy(tmp_path)
    path = tmp_path / "copy" / keys.adapter(desk.corpus, trained.key) / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ObjectCorruptError, match=name):
        verify_adapter(desk.store, desk.corpus, trained.key)
    with pytest.raises(ObjectCorruptError, match=name):
        verify_corpus(desk.store, desk.corpus)


@pytest.mark.slow
def test_a_worker_with_nothing_but_the_uri_of_the_store_trains_and_commits_the_same_adapter(
    trained: Trained, s3_uri: str, tmp_path: Path, model: str
) -> None:
    desk = open_desk(tmp_path / "documents", open_store(s3_uri, base=tmp_path), model)
    assert desk.prepare() == trained.plan
    shutil.rmtree(tmp_path / "documents")
    empty = {name: tmp_path / name.lower() for name in ("HOME", "TMPDIR", "TIDEGATE_HOME", "XDG_CACHE_HOME", "PWD")}
    for path in empty.values():
        path.mkdir()
    known = {name: value for name, value in os.environ.items() if name.startswith("AWS_") or name == "TIDEGATE_MODELS"}
    corpus = desk.workspace.config.model_dump(mode="json")
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        input=json.dumps({"store": s3_uri, "corpus": corpus}),
        cwd=empty["PWD"],
        env={**known, **{name: str(path) for name, path in empty.items()}, "PYTHONPATH": str(ROOT / "include")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{trained.key}\n"), done.stderr
    assert verify_adapter(desk.store, desk.corpus, trained.key) == trained.manifest
    assert newest_adapter(desk.store, desk.corpus).key == trained.key
    assert verify_corpus(desk.store, desk.corpus).adapters == 1
    assert [path for name in ("TIDEGATE_HOME", "PWD") for path in empty[name].rglob("*")] == []
    assert list(empty["TMPDIR"].glob("tidegate-*-*")) == []


@pytest.mark.slow
def test_two_corpora_that_train_at_once_in_one_store_do_not_mix(trained: Trained, tmp_path: Path, model: str) -> None:
    store = FileStore(tmp_path / "store")
    desks = [
        open_desk(tmp_path / "documents", store, model),
        open_desk(tmp_path / "other", store, model, below="north/", corpus="other"),
    ]
    for desk in desks:
        desk.prepare()
    with ThreadPoolExecutor(2) as both:
        list(both.map(TrainingDesk.train, desks))
    keys_of = [desk.commit() for desk in desks]
    assert keys_of[0] == trained.key  # as if the other had not been there
    for desk, key, below in zip(desks, keys_of, ("", "north/"), strict=True):
        assert adapters(desk) == [key]
        lines = stored(desk, f"{keys.adapter(desk.corpus, key)}/train.jsonl").splitlines()
        shown = {passage["document"] for line in map(json.loads, lines) for passage in line["passages"]}
        assert shown == {f"{below}{name}.md" for name in TRAINED}
        assert (verify_adapter(store, desk.corpus, key).corpus, verify_corpus(store, desk.corpus).adapters) == (
            desk.corpus,
            1,
        )
