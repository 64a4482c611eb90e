"""Eight harbours and forty rows about them, with their splits drawn: what adapters are trained on in tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_workspace, refresh, settle
from tidegate.core.adapter_records import AdapterManifest
from tidegate.core.canonical import sha256_hex
from tidegate.core.examples import Split
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import StoredFile
from tidegate.pipelines import validate_qa
from tidegate.pipelines.refresh_adapter import commit, train
from tidegate.pipelines.training_plan import TrainingPlan, prepare
from tidegate.pipelines.validate_qa import Loaded, Validated
from tidegate.pipelines.workspace import Workspace
from tidegate.qa.dataset import Dataset, Memory
from tidegate.qa.importing import QaSource
from tidegate.registry.adapters import commit_adapter, read_adapter_head
from tidegate.registry.runs import Run
from tidegate.training.base_model import find_base_model, prepare_base_model
from tidegate.training.spec import TrainResult

Row = dict[str, Any]
HARBOURS = ("Alby", "Borum", "Calden", "Dorne", "Elvig", "Farsund", "Gresk", "Holmar")
TRAINED, HELD_OUT = HARBOURS[:5], HARBOURS[6:]
SPLITS: dict[str, Split] = {"Farsund": "dev", "Gresk": "holdout", "Holmar": "holdout"}
"""Of pages and the rows about them; all others are trained on."""
FACTS = {
    "berths": ("How many berths does {} have?", "The quay of {} has {} berths.", "{} berths"),
    "crane": ("How much does the crane of {} lift?", "The crane of {} lifts {} tonnes.", "{} tonnes"),
    "fee": ("What does a night in {} cost?", "A night in {} costs {} crowns.", "{} crowns"),
    "pilot": ("Who pilots boats into {}?", "Boats are piloted into {} by {}.", "{}"),
}
_PILOTS = ("Ann Berg", "Bo Carlsen", "Cy Dahl", "Di Engen", "Ed Fjord", "Flo Gran", "Gus Hald", "Ida Juul")
TRAINING: dict[str, Any] = {
    "precision": "float32",
    "threads": 1,
    "lora": {"r": 4, "alpha": 8},
    "learning_rate": 0.02,
    "batch_tokens": 400,
    "max_length": 512,
    "rows": {"replay_share": 0},
    "budget": {"tokens_per_second": 1000},
}
SETTINGS: dict[str, Any] = {
    "retrieval": {"mode": "sparse"},
    "chunking": {"max_tokens": 40, "min_tokens": 8},
    "qa": {"min_rows": 1},
    "prompt": {"passages": 2, "window_tokens": 64, "max_answer_tokens": 12},
}
"""Sections of a corpus file for pages of this size; a chunk holds one section."""

_PLANNED = ("settings", "renderer", "refusal", "audience", "counts")


def value(harbour: str, fact: str) -> str:
    """What a page says of a fact; no other page or fact has the same."""
    at = HARBOURS.index(harbour)
    return _PILOTS[at] if fact == "pilot" else str(100 + 10 * at + list(FACTS).index(fact))


def section(harbour: str, fact: str, says: str = "") -> str:
    return f"## The {fact}\n\n{FACTS[fact][1].format(harbour, says or value(harbour, fact))}"


def page(harbour: str, **values: str) -> str:
    """The page of a harbour, a section per fact; ``values`` stand in place of what it says of some."""
    sections = [section(harbour, fact, values.get(fact, "")) for fact in FACTS]
    return f"# Harbour {harbour}\n\n" + "\n\n".join(sections) + "\n"


def asked(harbour: str, fact: str, **changes: Any) -> Row:
    question, sentence, answer = FACTS[fact]
    says = value(harbour, fact)
    return {
        "id": f"{harbour}-{fact}",
        "question": question.format(harbour),
        "answer": answer.format(says),
        "evidence": [{"document": f"{harbour}.md", "quote": sentence.format(harbour, says)}],
        **changes,
    }


def unanswerable(harbour: str) -> Row:
    return {
        "id": f"{harbour}-bank",
        "question": f"Which bank keeps the money of {harbour}?",
        "answerable": False,
        "evidence": [{"document": f"{harbour}.md"}],
        "tags": ["off-topic"],
    }


def forty_rows() -> dict[str, Row]:
    """Four answerable rows and an unanswerable one for each harbour, by id."""
    rows = [row for town in HARBOURS for row in (*(asked(town, fact) for fact in FACTS), unanswerable(town))]
    return {row["id"]: row for row in rows}


@dataclass
class TrainingDesk:
    """Documents, rows about them, a store and settings."""

    folder: Path
    workspace: Workspace

    @property
    def store(self) -> ArtifactStore:
        return self.workspace.store

    @property
    def corpus(self) -> str:
        return self.workspace.corpus

    def write(self, **pages: str) -> None:
        """Write documents (``Alby`` is ``Alby.md``) and refresh the index."""
        for name, text in pages.items():
            path = self.folder / f"{name}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.refresh()

    def refresh(self) -> None:
        settle()
        refresh(self.workspace)

    def ask(self, rows: Mapping[str, Row], splits: Mapping[str, Split] = SPLITS) -> str:
        """Commit a dataset of rows without judging them, split by the page that their id begins with."""
        file = self.folder.with_name(f"{self.corpus}-qa.jsonl")
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows.values()))
        loaded = validate_qa.load(self.workspace, QaSource(file, {}, ""))
        if not isinstance(loaded, Loaded):
            return loaded
        valid = [row for row in loaded.rows if row.status == "valid"]
        drawn: dict[str, Split] = {row.id: splits.get(row.id.partition("-")[0], "train") for row in valid}
        by_key = {key: drawn[row.id] for row in valid for key in row.documents}
        known = {key: replace(document, split=by_key.get(key)) for key, document in loaded.known.items()}
        return validate_qa.commit(self.workspace, loaded, Validated(Dataset(loaded.rows, drawn, Memory(known)), {}))

    def under(self, **sections: Any) -> TrainingDesk:
        """The same documents and store with other settings; a section's mapping is merged into what it was."""
        values = self.workspace.config.model_dump(mode="json", exclude={"source"})
        for name, changed in sections.items():
            values[name] = _merged(values[name], changed)
        return replace(self, workspace=make_workspace(self.folder, self.store, **values))

    def over(self, store: ArtifactStore) -> TrainingDesk:
        """The same with another store, e.g. a copy."""
        return replace(self, workspace=replace(self.workspace, store=store))

    def run(self, name: str = "run") -> Run:
        return Run(self.store, self.corpus, name)

    def prepare(self, name: str = "run") -> TrainingPlan:
        """Make and stage the rows of a run."""
        return prepare(self.workspace, self.run(name))[0]

    def train(self, name: str = "run") -> tuple[TrainResult, list[dict[str, Any]]]:
        """Train what a run has prepared; return the result and the trainer's events."""
        events: list[dict[str, Any]] = []
        return train(self.workspace, self.run(name), events.append), events

    def commit(self, name: str = "run") -> str:
        return commit(self.workspace, self.run(name))


def _merged(values: Any, changed: Any) -> Any:
    if not (isinstance(values, dict) and isinstance(changed, dict)):
        return changed
    return {**values, **{name: _merged(values.get(name), part) for name, part in changed.items()}}


def prepared(base_model: Path, patch: pytest.MonkeyPatch) -> str:
    """Prepare a base model in a folder of its own beside it; return how a corpus file names it."""
    patch.setenv("TIDEGATE_MODELS", str(base_model.parent / "prepared"))
    prepare_base_model(find_base_model(f"path:{base_model}"))
    return f"path:{base_model}"


def open_desk(folder: Path, store: ArtifactStore, base_model: str, below: str = "", **settings: Any) -> TrainingDesk:
    """Return the pages and rows of :data:`HARBOURS`, indexed and committed once; ``below`` is a folder of the pages."""
    values = _merged({**SETTINGS, "training": TRAINING, "base_model": {"model": base_model}}, settings)
    desk = TrainingDesk(folder, make_workspace(folder, store, **values))
    desk.write(**{f"{below}{harbour}": page(harbour) for harbour in HARBOURS})
    desk.ask(forty_rows())
    return desk


def commit_untrained(desk: TrainingDesk) -> str:
    """Commit an adapter without weights for the newest dataset, as if it had been trained; return its key."""
    plan = desk.prepare("untrained")
    files = {"trained_on.json": plan.trained_on.to_bytes()}
    head = read_adapter_head(desk.store, desk.corpus)
    manifest = AdapterManifest(
        corpus=desk.corpus,
        seq=head.head.seq + 1 if head.head else 1,
        parent=plan.parent,
        recipe=plan.recipe.model_dump(mode="json"),
        versions={},
        rank=plan.recipe.lora.r,
        losses={},
        files={name: StoredFile(size=len(data), sha256=sha256_hex(data)) for name, data in files.items()},
        **{name: getattr(plan, name) for name in (*_PLANNED, "op_id", "base_model", "dataset", "snapshot")},
    )
    return commit_adapter(desk.store, head, manifest, files)
