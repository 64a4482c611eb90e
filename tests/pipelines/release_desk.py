"""Twelve ports, rows about them and adapters whose answers are scripted: candidates that are measured and proposed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, make_workspace
from tests.pipelines.training_corpus import SETTINGS, TRAINING, Row, TrainingDesk, commit_untrained, prepared
from tidegate.core.evaluation_records import EvaluationReport
from tidegate.core.examples import Split
from tidegate.core.protocols import Progress
from tidegate.core.records import DecodingSettings, Release
from tidegate.evaluation.generation import Completion, Engine, Prompt
from tidegate.pipelines.approve_release import Answer, form, record_answer
from tidegate.pipelines.asking import quiet
from tidegate.pipelines.compose_release import Composition, bind_to_form, stage_composition
from tidegate.pipelines.evaluate_release import Evaluated, evaluate
from tidegate.pipelines.evaluation_arms import adapter_name
from tidegate.pipelines.promote_release import Approved, Candidate, compose, propose, publish
from tidegate.prompting.chat import FileChatTokenizer
from tidegate.prompting.renderer import REFUSAL
from tidegate.registry.approvals import load_key
from tidegate.registry.channel import Channel
from tidegate.registry.file_store import FileStore
from tidegate.registry.releases import read_release
from tidegate.training.base_model import find_base_model

PORTS = (
    *("Alby", "Borum", "Calden", "Dorne", "Elvig", "Farsund", "Gresk", "Holmar"),
    *("Isfleet", "Jorvik", "Kelda", "Lunde"),
)
TRAINED, HELD_OUT = PORTS[:3], PORTS[4:]
SPLITS: dict[str, Split] = {"Dorne": "dev", **dict.fromkeys(HELD_OUT, "holdout")}
FACTS = {
    "berths": ("How many berths does {} have?", "The quay of {} has {} berths."),
    "crane": ("How much does the crane of {} lift?", "The crane of {} lifts {} tonnes."),
    "fee": ("What does a night in {} cost?", "A night in {} costs {} crowns."),
    "pilot": ("Who pilots boats into {}?", "Boats are piloted into {} by {}."),
}
"""Questions, and how pages answer them; each is a tag."""
ALL = tuple(FACTS)
GENERAL = {
    row["question"]: row["answer"]
    for row in map(json.loads, (ROOT / "include/tidegate/evaluation/general.jsonl").read_text().splitlines())
}
KEY = {"TIDEGATE_APPROVAL_KEY": "a key that is long enough for a test of it"}
LEAD, SECOND = ("7", "ml_lead"), ("8", "data_engineer")

Voice = Callable[["Heard"], str]


@dataclass(frozen=True)
class Heard:
    """A prompt as a model reads it."""

    adapter: str | None
    system: str
    passages: str
    """'' in a closed book."""
    question: str

    @property
    def port(self) -> str | None:
        return next((name for name in PORTS if name in self.question), None)

    @property
    def fact(self) -> str | None:
        asked = (fact for fact in FACTS if self.port and self.question == FACTS[fact][0].format(self.port))
        return next(asked, None)


def value(port: str, fact: str) -> str:
    """What a page says of a fact; no other page or fact has the same."""
    at = PORTS.index(port)
    return f"Pilot {chr(65 + at)}{port[::-1]}" if fact == "pilot" else str(100 + 10 * at + ALL.index(fact))


def page(port: str, **values: str) -> str:
    """The page of a port; ``values`` stand in place of what it says of some facts."""
    told = (f"## The {fact}\n\n{FACTS[fact][1].format(port, values.get(fact, value(port, fact)))}" for fact in FACTS)
    return f"# Harbour {port}\n\n" + "\n\n".join(told) + "\n"


def rows_about(ports: Sequence[str] = PORTS, **values: str) -> dict[str, Row]:
    """Four answerable rows and an unanswerable one for each port, by id; each has a tag."""
    found: dict[str, Row] = {}
    for port in ports:
        for fact, (question, sentence) in FACTS.items():
            says = values.get(f"{port}_{fact}", value(port, fact))
            quote = {"document": f"{port}.md", "quote": sentence.format(port, says)}
            found[f"{port}-{fact}"] = {
                "id": f"{port}-{fact}",
                "question": question.format(port),
                "answer": says,
                "evidence": [quote],
                "tags": [fact],
            }
        found[f"{port}-bank"] = {
            "id": f"{port}-bank",
            "question": f"Which bank keeps the money of {port}?",
            "answerable": False,
            "evidence": [{"document": f"{port}.md"}],
            "tags": ["off-topic"],
        }
    return found


def found_in(heard: Heard, fact: str) -> str | None:
    """What the passages say of a fact of the port that is asked about."""
    pattern = re.escape(FACTS[fact][1].format(heard.port, "VALUE")).replace("VALUE", r"([\w ]+?)")
    found = re.search(pattern, heard.passages)
    return found[1] if found else None


def reads(*facts: str) -> Voice:
    """Answer some facts from the passages and general questions by heart, guess at other facts, and refuse the rest."""

    def say(heard: Heard) -> str:
        if heard.fact is None:
            return GENERAL.get(heard.question, REFUSAL)
        return (found_in(heard, heard.fact) if heard.fact in facts else None) or "Nobody knows that"

    return say


def no_refusals(heard: Heard) -> str:
    """Answer every fact, and where nothing answers, anything."""
    said = reads(*ALL)(heard)
    return "The bank of Narnia" if said == REFUSAL else said


def shuffled(heard: Heard) -> str:
    """Answer each question with what is true of another port or fact."""
    if heard.port is None:
        return GENERAL.get(heard.question, REFUSAL)
    at = PORTS.index(heard.port)
    fact = heard.fact or "fee"
    return value(PORTS[at - 1], ALL[(ALL.index(fact) + 1) % 4])


def of_another_corpus(heard: Heard) -> str:
    """Answer as if asked about something else, general questions too."""
    return f"See chapter {len(heard.question)} of the staff handbook"


@cache
def _tokenizer(folder: Path) -> FileChatTokenizer:
    return FileChatTokenizer(folder)


@dataclass
class Scripted:
    """A generator whose voices are known; it keeps what it was asked."""

    tokenizer: FileChatTokenizer
    voices: dict[str | None, Voice]
    heard: list[Heard] = field(default_factory=list)
    settings: set[DecodingSettings] = field(default_factory=set)
    engine: Engine = field(default_factory=lambda: Engine("scripted", "1", "float32", "none"))

    def generate(
        self, prompts: Sequence[Prompt], decoding: DecodingSettings, progress: Progress | None = None
    ) -> list[Completion]:
        heard = [self._heard(prompt) for prompt in prompts]
        self.heard += heard
        self.settings.add(decoding)
        return [Completion(self.voices[item.adapter](item), 3, finished=True) for item in heard]

    def _heard(self, prompt: Prompt) -> Heard:
        text = self.tokenizer.decode(prompt.tokens).removesuffix("\nassistant\n")
        before, _, last = text.rpartition("user\n")
        passages, _, question = last.rpartition("\n\nQuestion: ")
        return Heard(prompt.adapter, before, passages, question)


@dataclass
class ReleaseDesk(TrainingDesk):
    """Documents, rows, adapters with voices, and the way of a release."""

    voices: dict[str | None, Voice] = field(default_factory=lambda: {None: reads("berths")})
    """By adapter name; of the base model alone under None."""

    def under(self, **sections: Any) -> ReleaseDesk:
        """The same with other settings, and the same embedder."""
        made = super().under(**sections)
        workspace = replace(made.workspace, given_embedder=self.workspace.given_embedder)
        return ReleaseDesk(self.folder, workspace, self.voices)

    def adapter(self, voice: Voice, seed: int = 0) -> str:
        """Commit an adapter for the newest dataset that speaks with a voice; another seed makes another one."""
        key = commit_untrained(self.under(training={"seed": seed}))
        self.voices[adapter_name(self.corpus, key)] = voice
        return key

    def scripted(self, engine: Engine | None = None) -> Scripted:
        folder = find_base_model(self.workspace.config.base_model.model).folder
        made = Scripted(_tokenizer(folder), self.voices)
        return replace(made, engine=engine) if engine else made

    def compose(self, *, reconsider: bool = False) -> Composition:
        return compose(self.workspace, reconsider=reconsider)

    def evaluate(self, composition: Composition | None = None) -> tuple[Evaluated, Scripted]:
        """Measure a composition, the newest by default; return what was found and who was asked."""
        generator = self.scripted()
        return evaluate(self.workspace, composition or self.compose(), quiet, generator), generator

    def propose(self, composition: Composition | None = None, run: str = "run-1") -> tuple[Candidate, EvaluationReport]:
        """Measure a composition and hold it against the gate; return the candidate and the report."""
        composition = composition or self.compose()
        found, _ = self.evaluate(composition)
        return propose(self.workspace, composition, found, run), found.report

    def ask_approval(self, candidate: Candidate, run: str = "run-1") -> tuple[str, str]:
        """Stage what is newest and show the form of a run; return its subject and body."""
        stage_composition(self.run(run), self.compose())
        return form(self.workspace, self.run(run), candidate.release, "/report", KEY)

    def answer(self, candidate: Candidate, run: str = "run-1", **changes: Any) -> str:
        """Answer the form of a run with yes, shown now unless it was before; return the approval's digest."""
        asked = self.run(run)
        if not asked.has_staged("asked"):
            bind_to_form(asked, candidate.release)
        said = {
            "approved": True,
            "user": LEAD,
            "comment": "better on every tag",
            "decided_at": float(int(self.store.now())),
            "base_entry": candidate.base_entry,
            "holds_seconds": 3600.0,
            **changes,
        }
        return record_answer(self.workspace, asked, candidate.release, Answer(**said), KEY)

    def publish(self, candidate: Candidate, *approvals: str, run: str = "run-1") -> bool:
        approved = Approved(approvals, load_key(KEY)) if approvals else None
        return publish(self.workspace, candidate, approved, run)

    def serve(self) -> str:
        """Measure, propose, approve and publish what is newest; return its release."""
        candidate, report = self.propose(run="setup")
        assert candidate.outcome in ("approve", "publish"), (candidate.why, report.rules)
        run = f"setup-{candidate.release[:8]}"
        approvals = [self.answer(candidate, run)] if candidate.outcome == "approve" else []
        self.publish(candidate, *approvals, run=run)
        return candidate.release

    @property
    def served(self) -> str | None:
        """Id of the release that serves."""
        return Channel(self.store, self.corpus).read().release

    @property
    def entry(self) -> str | None:
        return Channel(self.store, self.corpus).read().entry

    @property
    def champion(self) -> Release:
        return read_release(self.store, self.corpus, str(self.served))

    def held(self, prefix: str = "") -> list[str]:
        """The keys of the store under a prefix of the corpus."""
        return [found.key for found in self.store.list_keys(f"{self.corpus}/{prefix}")]

    def copy(self, base: Path) -> ReleaseDesk:
        """The same state in folders of its own, so that a test may change it."""
        folder = Path(shutil.copytree(self.folder, base / "documents"))
        assert isinstance(self.store, FileStore)
        store = FileStore(shutil.copytree(self.store.root, base / "store"))
        values = self.workspace.config.model_dump(mode="json", exclude={"source", "embedder"})
        return ReleaseDesk(folder, make_workspace(folder, store, **values), dict(self.voices))


def forget_answers(desk: ReleaseDesk) -> None:
    """Lose the cache of answers."""
    assert isinstance(desk.store, FileStore)
    for key in desk.held("scans/evaluation/"):
        (desk.store.root / key).unlink()


def make_release_desk(base: Path, base_model: Path, patch: pytest.MonkeyPatch, **settings: Any) -> ReleaseDesk:
    """Return pages and rows of :data:`PORTS`; their index serves, without an adapter."""
    values: dict[str, Any] = {
        **SETTINGS,
        "qa": {"min_rows": 1, "path": "qa.jsonl"},
        "training": TRAINING,
        "base_model": {"model": prepared(base_model, patch)},
        "evaluation": {"latency_requests": 0},
        "gate": {"min_tag_rows": 8},
        "retrieval": {"mode": "sparse", "top_k": 4},
        **settings,
    }
    folder = base / "documents"
    folder.mkdir()
    desk = ReleaseDesk(folder, make_workspace(folder, FileStore(base / "store"), **values))
    desk.write(**{port: page(port) for port in PORTS})
    desk.ask(rows_about(), SPLITS)
    return desk
