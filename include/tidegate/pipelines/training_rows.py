"""From a dataset and its snapshot to training files: whose text may enter, and the exact lines."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from tidegate import training
from tidegate.core.adapter_records import AdapterCounts
from tidegate.core.canonical import canonical_json
from tidegate.core.config import CorpusConfig
from tidegate.core.errors import ConfigInvalidError, TrainingSpecInvalidError
from tidegate.core.examples import Example, Split
from tidegate.core.prompts import ChatTokenizer, Passage, Turn
from tidegate.core.records import TrainedOn
from tidegate.core.training_config import TrainingConfig
from tidegate.indexing.snapshot import Snapshot
from tidegate.pipelines.passages import PassageFinder
from tidegate.pipelines.qa_documents import SnapshotDocuments
from tidegate.pipelines.validate_qa import read_whole_dataset
from tidegate.pipelines.workspace import Workspace
from tidegate.prompting.chat import FileChatTokenizer
from tidegate.prompting.renderer import ADAPTER_PROMPT, CITING_PROMPT, Renderer
from tidegate.qa.dataset import KnownDocument, Row
from tidegate.registry.datasets import read_dataset
from tidegate.training.rows import RowSettings, TrainingQuestion, as_lines, make_contexts, shared_tokens

EVERYONE = "everyone"
_FOUND = 8
"""Windows that are kept of each question's retrieval."""
_REPLAY = Path(training.__file__).with_name("replay.jsonl")
"""General instructions with answers of the kind that the base model gives."""


@dataclass(frozen=True)
class TrainingFiles:
    """The lines of training and dev rows, and what they were made from."""

    train: bytes
    dev: bytes
    counts: AdapterCounts
    trained_on: TrainedOn
    skipped: Mapping[str, int]
    """Rows of the training split that could not be used, by reason."""


@dataclass(frozen=True)
class RowSource:
    """A dataset and a snapshot, as rows are made from them."""

    workspace: Workspace
    training: TrainingConfig
    dataset_digest: str
    snapshot_digest: str
    model: Path
    """Folder of the base model."""

    @cached_property
    def tokenizer(self) -> FileChatTokenizer:
        """The base model's tokenizer."""
        return FileChatTokenizer(self.model)

    @cached_property
    def renderer(self) -> Renderer:
        """The prompt."""
        return CITING_PROMPT if self.training.rows.cite else ADAPTER_PROMPT

    @cached_property
    def finder(self) -> PassageFinder:
        """The snapshot's passages."""
        snapshot = Snapshot(self.workspace.store, self.workspace.corpus, self.snapshot_digest)
        return PassageFinder(self.workspace, snapshot, self.tokenizer.count, self.workspace.config.prompt.window_tokens)

    @cached_property
    def dataset(self) -> Any:
        """The dataset."""
        return read_whole_dataset(self.workspace, self.dataset_digest)

    @cached_property
    def known(self) -> dict[str, KnownDocument]:
        """The dataset's documents as they are named in the snapshot: a page may have moved since."""
        store, corpus = self.workspace.store, self.workspace.corpus
        then = read_dataset(store, corpus, self.dataset_digest).snapshot
        return SnapshotDocuments(store, corpus, self.snapshot_digest, self.dataset.memory.documents, then).known

    def rows(self, split: Split) -> list[Row]:
        """Return the valid rows of a split, by id."""
        found = [row for row in self.dataset.rows if row.status == "valid" and self.dataset.splits.get(row.id) == split]
        return sorted(found, key=lambda row: row.id)

    def closed(self, splits: Collection[str]) -> set[str]:
        """Return the documents whose text may not be shown: those of other splits, and those not all may read."""
        held = {item.path for item in self.known.values() if item.split in splits}
        return held | unreadable(self.workspace.config, self.training.audience, self.finder.snapshot)

    def questions(self, rows: Sequence[Row], closed: Collection[str]) -> list[TrainingQuestion]:
        """Return rows with their evidence and what retrieval finds for them."""
        found = self.finder.find([row.example.question for row in rows], _FOUND, without=closed)
        paths = {key: document.path for key, document in self.known.items()}
        return [
            self._question(
                row, retrieved, [path for key in row.documents if (path := paths[key]) not in closed], closed
            )
            for row, retrieved in zip(rows, found, strict=True)
        ]

    def _question(
        self, row: Row, retrieved: Sequence[Passage], documents: Sequence[str], closed: Collection[str]
    ) -> TrainingQuestion:
        example = row.example
        quotes = tuple(evidence.quote or example.answer for evidence in example.evidence)
        gold = [self.finder.holding(document, quote, without=closed) for quote in quotes for document in documents]
        return TrainingQuestion(
            row=row.id,
            question=example.question,
            answer=example.answer,
            quotes=quotes,
            answerable=example.answerable,
            gold=tuple(passage for passage in gold if passage is not None),
            retrieved=tuple(retrieved),
        )


def make_files(source: RowSource) -> TrainingFiles:
    """Make the training files; raise ``TrainingSpecInvalidError`` if no row is left."""
    settings, prompt = source.training.rows, source.workspace.config.prompt
    wanted = RowSettings(
        passages=prompt.passages,
        questions_per_context=settings.questions_per_context,
        repeats=settings.repeats,
        withheld_share=settings.withheld_share,
        refusal_share=settings.refusal_share,
        swapped_share=settings.swapped_share,
        practice=settings.practice,
        seed=source.training.seed,
    )
    rows = source.rows("train")
    questions = source.questions(rows, source.closed(("dev", "holdout")))
    usable = [item for item in questions if item.gold or not item.answerable]
    if not usable:
        raise TrainingSpecInvalidError(f"dataset {source.dataset_digest[:12]} gives no training row")
    contexts = make_contexts(usable, wanted)
    if not contexts:
        raise TrainingSpecInvalidError(f"retrieval finds no passage for a row of dataset {source.dataset_digest[:12]}")
    lines = list(as_lines(contexts, source.renderer, source.tokenizer))
    lines += _replayed(source, lines)
    watched = source.rows("dev")
    random.Random(source.training.seed).shuffle(watched)  # noqa: S311 - reproducible, not secret
    dev = source.questions(watched[: source.training.dev_rows], source.closed(("holdout",)))
    alone = replace(wanted, repeats=1, swapped_share=0.0, questions_per_context=1, practice=0)
    dev_contexts = make_contexts([item for item in dev if item.gold or not item.answerable], alone)
    return TrainingFiles(
        train=_joined(lines),
        dev=_joined(as_lines(dev_contexts, source.renderer, source.tokenizer)),
        counts=_counts(lines),
        trained_on=_trained_on(source, lines, {row.id: row.example for row in rows}),
        skipped={"no passage holds the whole evidence": len(questions) - len(usable)},
    )


def unreadable(config: CorpusConfig, audience: Sequence[str], snapshot: Snapshot) -> set[str]:
    """Return the documents that some group of the audience may not read."""
    columns = snapshot.ledger.select(["document"]).to_pydict()["document"]
    found = set()
    for document, row in snapshot.rows(columns).items():
        named = row.metadata.get(config.access.key)
        groups = {part.strip() for part in named.split(",")} if named else set(config.access.default_groups)
        if EVERYONE not in groups and not set(audience) <= groups:
            found.add(document)
    return found


def lengths_of(lines: bytes) -> list[int]:
    """Return the tokens of the longest question of every context of a training file."""
    return [
        len(line["prefix"]) + max(len(branch["prompt"]) + len(branch["completion"]) for branch in line["branches"])
        for line in map(json.loads, lines.splitlines())
    ]


def _replayed(source: RowSource, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return contexts of general instructions, so many that they are the wanted share, while the file has enough.

    Instructions stand beside each other as questions about one context do, and make no context longer than the others.
    """
    settings = source.training.rows
    most, longest = round(len(lines) * settings.replay_share / (1 - settings.replay_share)), max(map(_size, lines))
    contexts: list[list[dict[str, Any]]] = []
    for instruction in _instructions(source) if most else ():
        grown = [*contexts[-1], instruction] if contexts else []
        if 0 < len(grown) <= settings.questions_per_context and _size(_together(grown)) <= longest:
            contexts[-1] = grown
        elif len(contexts) < most:
            contexts.append([instruction])
        else:
            break
    return [_together(context) for context in contexts]


def _instructions(source: RowSource) -> Iterator[dict[str, Any]]:
    """Yield the instructions of the file that is set, or of the package's own, each as a branch by itself."""
    wanted = source.training.rows.replay
    path = source.workspace.base / Path(wanted).expanduser() if wanted else _REPLAY
    if not path.is_file():
        raise ConfigInvalidError(f"training.rows.replay {wanted!r} is not a file at {path}")
    for at, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        yield _instruction(line, source.tokenizer, f"{path.name}:{at}")


class _Instruction(BaseModel):
    messages: list[Turn] = Field(min_length=2)


def _instruction(line: str, tokenizer: ChatTokenizer, where: str) -> dict[str, Any]:
    try:
        turns = _Instruction.model_validate_json(line).messages
    except ValidationError as error:
        turns = []
        cause: ValidationError | None = error
    else:
        cause = None
    if not turns or turns[-1].role != "assistant":
        message = f'{where}: a replayed row is {{"messages": [..., {{"role": "assistant", "content": ...}}]}}'
        raise ConfigInvalidError(message) from cause
    prompt, answer = tokenizer.encode_prompt(turns[:-1]), turns[-1].content
    named = {"row": where, "kind": "replayed", "question": turns[-2].content, "answer": answer}
    return {**named, "prompt": prompt, "completion": tokenizer.encode_completion(answer)}


def _together(branches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return instructions as one line without passages, the tokens that all begin with shared."""
    shared = shared_tokens([branch["prompt"] for branch in branches])
    return {
        "passages": [],
        "prefix": branches[0]["prompt"][:shared],
        "branches": [{**branch, "prompt": branch["prompt"][shared:]} for branch in branches],
    }


def _size(line: Mapping[str, Any]) -> int:
    """Return the tokens of a line."""
    return len(line["prefix"]) + sum(len(branch["prompt"]) + len(branch["completion"]) for branch in line["branches"])


def _counts(lines: Sequence[Mapping[str, Any]]) -> AdapterCounts:
    kinds = Counter(branch["kind"] for line in lines for branch in line["branches"])
    sizes = [_size(line) for line in lines]
    names = ("answered", "swapped", "withheld", "unanswerable", "practice", "replayed")
    return AdapterCounts(
        contexts=len(lines), tokens=sum(sizes), longest=max(sizes), **{name: kinds[name] for name in names}
    )


def _trained_on(source: RowSource, lines: Sequence[Mapping[str, Any]], examples: Mapping[str, Example]) -> TrainedOn:
    rows = {branch["row"] for line in lines for branch in line["branches"]} & examples.keys()
    documents = sorted({passage["document"] for line in lines for passage in line["passages"]})
    ledger = source.finder.snapshot.rows(documents)
    return TrainedOn(
        dataset=source.dataset_digest,
        snapshot=source.snapshot_digest,
        rows={row: examples[row].stated for row in sorted(rows)},
        documents={document: ledger[document].sha256 for document in documents},
    )


def _joined(lines: Iterator[dict[str, Any]] | Sequence[dict[str, Any]]) -> bytes:
    return b"".join(canonical_json(line) + b"\n" for line in lines)
