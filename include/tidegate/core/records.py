"""The records that bind what serves: snapshot manifest, and bundle -> evaluation -> release -> approval -> entry.

They are acyclic, immutable and content-addressed: the id of a record is the SHA-256 of its canonical JSON. None holds
a clock or a run id except the approval, which is the decision of a person at a time. Parts that are not in use yet are
null; later versions fill them and never reshape them (tests/core/golden/ pins the bytes).
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tidegate.core.canonical import canonical_json, digest_of, sha256_hex
from tidegate.core.checked_text import Pattern
from tidegate.core.errors import ObjectCorruptError

Digest = str
"""64 hex digits."""


class Record(BaseModel):
    """Base of all stored records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is stored and hashed."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def digest(self) -> Digest:
        """SHA-256 (hex) of :meth:`to_bytes`."""
        return sha256_hex(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes, *, key: str) -> Self:
        """Parse a stored record; raise ``ObjectCorruptError`` naming ``key`` if it is not one."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole object"
            raise ObjectCorruptError(f"{key} is not a valid {cls.__name__}: {where}: {first['msg']}") from error


class Part(BaseModel):
    """Base of a record's parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbedderIdentity(Part):
    """All that decides a vector, and the backend that computed it."""

    id: str
    revision: Digest
    """SHA-256 of the weights."""
    backend: str
    dtype: str
    dimension: int
    max_tokens: int
    """The model's limit, special tokens included."""

    @property
    def space(self) -> Digest:
        """Digest of what makes vectors comparable: everything but the backend."""
        return digest_of(self.model_dump(exclude={"backend"}))


class StoredFile(Part):
    """One file of an artifact."""

    size: int
    sha256: Digest


class SegmentManifest(Record):
    """``segments/<digest>.<build8>/segment.json``: an immutable part of an index."""

    embedder: EmbedderIdentity
    chunks: int
    documents: int
    terms: int
    files: dict[str, StoredFile]


class SegmentReference(Part):
    """A segment as a snapshot holds it."""

    key: str
    """``<digest>.<build8>``."""
    chunks: int
    live_chunks: int
    documents: int
    live_documents: int

    @property
    def digest(self) -> Digest:
        """Digest of the segment's manifest."""
        return self.key.partition(".")[0]


class SnapshotCounts(Part):
    """Totals over live rows."""

    listed: int
    """Documents that the source holds, those in quarantine included."""
    indexed: int
    """Documents with an indexed version."""
    chunks: int


class QuarantinedDocument(Part):
    """A document whose last seen bytes could not be indexed; an older version may be."""

    document: str
    reason: str


class MetadataRule(Part):
    """Metadata given to every document whose path matches a gitignore-style pattern; front matter wins over it."""

    match: Pattern
    set: dict[str, str]


class SnapshotManifest(Record):
    """``snapshots/<digest>/manifest.json``: one version of an index, complete in itself."""

    corpus: str
    seq: int
    parent: Digest | None
    op_id: Digest
    """Digest of parent and change set: the same change of the same parent is the same operation."""
    content_root: Digest
    """Digest of the sorted documents and their chunk ids: equal to that of a full rebuild."""
    embedder: EmbedderIdentity
    metadata_rules: tuple[MetadataRule, ...]
    counts: SnapshotCounts
    quarantine: tuple[QuarantinedDocument, ...]
    segments: tuple[SegmentReference, ...]
    tombstones: StoredFile


class SnapshotHead(Record):
    """``heads/snapshot.json``: the latest verified snapshot."""

    seq: int
    snapshot: Digest
    op_id: Digest


class DatasetCounts(Part):
    """Rows of a Q&A set by what became of them; together they are all of its rows."""

    train: int
    dev: int
    holdout: int
    failed: int
    stale: int
    dangling: int
    bridging: int
    """Left out because they would join two splits."""
    drafts: int
    """Left out because no person has reviewed them."""
    dropped: int
    """Taken out by a person."""


class DatasetManifest(Record):
    """``datasets/<digest>/manifest.json``: one version of a Q&A set, tied to a snapshot and split."""

    corpus: str
    seq: int
    parent: Digest | None
    op_id: Digest
    """Digest of parent, snapshot, source, reviews and settings: all that decides the files."""
    snapshot: Digest
    """The snapshot whose documents the evidence was checked against."""
    source: Digest
    """Digest of the files that the rows were read from."""
    settings: Digest
    """Digest of thresholds, shares and rule versions."""
    counts: DatasetCounts
    files: dict[str, StoredFile]


class DatasetHead(Record):
    """``heads/dataset.json``: the latest valid dataset."""

    seq: int
    dataset: Digest
    op_id: Digest


class TrainedOn(Record):
    """``adapters/<digest>.<build8>/trained_on.json``: the rows and documents whose text an adapter has seen."""

    dataset: Digest
    snapshot: Digest
    rows: dict[str, Digest]
    """Row id to ``Example.stated``: the digest of question and answer."""
    documents: dict[str, Digest]
    """Document to the SHA-256 of its indexed bytes, for every passage, distractors included."""


class BaseModelIdentity(Part):
    """The base model that answers."""

    id: str
    digest: Digest
    tokenizer: Digest
    chat_template: Digest


class AdapterReference(Part):
    """The adapter of a bundle."""

    digest: Digest
    key: str


class RetrievalSettings(Part):
    """How passages are ranked."""

    mode: Literal["hybrid", "dense", "sparse"]
    fusion: Literal["relative"]
    """How the arms are added: each score relative to the best of its arm."""
    dense_weight: float = Field(ge=0, le=1)
    candidates: int = Field(ge=1)
    """Passages taken from each arm before fusion."""
    top_k: int = Field(ge=1)
    rerank: None = None


class PromptIdentity(Part):
    """The renderer and the words of a refusal."""

    renderer: Digest
    refusal: str


class DecodingSettings(Part):
    """How tokens are chosen."""

    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int


class AccessPolicy(Part):
    """Which metadata key holds the groups that may read a document."""

    key: str
    default_groups: tuple[str, ...]


class Bundle(Record):
    """All that decides an answer."""

    corpus: str
    snapshot: Digest
    content_root: Digest
    adapter: AdapterReference | None
    base_model: BaseModelIdentity | None
    embedder: EmbedderIdentity
    retrieval: RetrievalSettings
    prompt: PromptIdentity | None
    decoding: DecodingSettings | None
    access_policy: AccessPolicy | None


class EvaluationInputs(Part):
    """What an evaluation is keyed by: equal inputs, equal evaluation."""

    bundle: Digest
    champion_bundle: Digest | None
    dataset: Digest
    settings: Digest
    seed: int


class GateRule(Part):
    """One rule of a gate and how it came out."""

    name: str
    value: float | None
    threshold: float | None
    passed: bool


class Evaluation(Record):
    """``evaluations/<digest of inputs>/results.json``: deterministic results; timings stay beside it."""

    inputs: EvaluationInputs
    arms: dict[str, dict[str, float]]
    verdict: Literal["better", "worse", "not_enough_evidence"] | None
    rules: tuple[GateRule, ...] | None

    @property
    def key(self) -> Digest:
        """Digest of the inputs, under which the first writer wins."""
        return digest_of(self.inputs.model_dump(mode="json"))


class Release(Record):
    """``releases/<id>.json``: what may serve, and on which evidence."""

    bundle: Bundle
    serving_mode: Literal["rag", "adapter", "hybrid"]
    dataset: Digest | None
    evaluation: Digest | None
    """Key of the evaluation."""
    results: Digest | None
    """Digest of its results."""
    gate_policy: Digest


class Approver(Part):
    """Who decided."""

    id: str
    name: str


class Approval(Record):
    """A person's decision, signed with HMAC-SHA256 over every other field."""

    corpus: str
    store: str
    channel: str
    op: Literal["promote"]
    release: Digest
    evaluation: Digest | None
    base_entry: Digest | None
    decision: Literal["approve", "reject"]
    approver: Approver
    comment: str
    decided_at: str
    expires_at: str
    run: str
    signature: str

    def signed_bytes(self) -> bytes:
        """Return the bytes under the signature: all fields but the signature itself."""
        return canonical_json(self.model_dump(mode="json", exclude={"signature"}))


class Entry(Record):
    """``channels/<channel>/entries/<digest>.json``: one promotion or rollback, never deleted."""

    corpus: str
    channel: str
    seq: int
    prev: Digest | None
    op: Literal["promote", "rollback"]
    op_id: Digest
    release: Digest
    approval: Digest | None
    policy: Digest | None
    reason: str | None


class ChannelHead(Record):
    """``channels/<channel>/HEAD.json``: the only commit point of what serves."""

    seq: int
    entry: Digest
    release: Digest
    op_id: Digest


def operation_id(**what: Any) -> Digest:
    """Return the id of an operation: derived from what is done, never from the run or the try that does it."""
    return digest_of(what)
