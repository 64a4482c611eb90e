"""The stored records, byte for byte: a change of a golden file is a change of format and needs a migration."""

from pathlib import Path

import pytest

from tests.evaluation.reports import a_report
from tidegate.core.adapter_records import AdapterCounts, AdapterHead, AdapterManifest
from tidegate.core.canonical import sha256_hex
from tidegate.core.errors import ObjectCorruptError
from tidegate.core.event_records import Actor, Event, Subject
from tidegate.core.records import (
    AccessPolicy,
    AdapterReference,
    Approval,
    Approver,
    BaseModelIdentity,
    Bundle,
    ChannelHead,
    DatasetCounts,
    DatasetHead,
    DatasetManifest,
    DecodingSettings,
    EmbedderIdentity,
    Entry,
    Evaluation,
    EvaluationInputs,
    GateRule,
    MetadataRule,
    PromptIdentity,
    QuarantinedDocument,
    Record,
    Release,
    RetrievalSettings,
    SegmentManifest,
    SegmentReference,
    SnapshotCounts,
    SnapshotHead,
    SnapshotManifest,
    StoredFile,
    TrainedOn,
    operation_id,
)

GOLDEN = Path(__file__).parent / "golden"

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
EMBEDDER = EmbedderIdentity(
    id="all-MiniLM-L6-v2", revision=A, backend="onnx", dtype="float32", dimension=384, max_tokens=256
)
RETRIEVAL = RetrievalSettings(mode="hybrid", fusion="relative", dense_weight=0.5, candidates=100, top_k=10)
INDEX_BUNDLE = Bundle(
    corpus="handbook",
    snapshot=A,
    content_root=B,
    adapter=None,
    base_model=None,
    embedder=EMBEDDER,
    retrieval=RETRIEVAL,
    prompt=None,
    decoding=None,
    access_policy=None,
)
WHOLE_BUNDLE = INDEX_BUNDLE.model_copy(
    update={
        "adapter": AdapterReference(digest=C, key=f"{C}.01234567"),
        "base_model": BaseModelIdentity(id="SmolLM2-135M-Instruct", digest=A, tokenizer=B, chat_template=C),
        "prompt": PromptIdentity(renderer=D, refusal="The handbook does not say."),
        "decoding": DecodingSettings(temperature=0.0, top_p=1.0, max_new_tokens=64, seed=0),
        "access_policy": AccessPolicy(key="groups", default_groups=("staff",)),
    }
)
RECORDS: dict[str, Record] = {
    "segment": SegmentManifest(
        embedder=EMBEDDER, chunks=2, documents=1, terms=9, files={"chunks.arrow": StoredFile(size=10, sha256=A)}
    ),
    "snapshot": SnapshotManifest(
        corpus="handbook",
        seq=2,
        parent=A,
        op_id=B,
        content_root=C,
        embedder=EMBEDDER,
        metadata_rules=(MetadataRule(match="runbooks/**", set={"doc_type": "runbook"}),),
        counts=SnapshotCounts(listed=3, indexed=2, chunks=2),
        quarantine=(QuarantinedDocument(document="bad.pdf", reason="corrupt"),),
        segments=(SegmentReference(key=f"{A}.01234567", chunks=2, live_chunks=2, documents=1, live_documents=1),),
        tombstones=StoredFile(size=12, sha256=D),
    ),
    "snapshot_head": SnapshotHead(seq=2, snapshot=A, op_id=B),
    "bundle_index": INDEX_BUNDLE,
    "bundle_whole": WHOLE_BUNDLE,
    "evaluation": Evaluation(
        inputs=EvaluationInputs(bundle=A, champion_bundle=B, dataset=C, settings=D, seed=1),
        arms={"base+rag": {"contained_match": 0.54}},
        verdict="better",
        rules=(GateRule(name="refusal", value=0.9, threshold=0.7, passed=True),),
    ),
    "release_index": Release(
        bundle=INDEX_BUNDLE, serving_mode="rag", dataset=None, evaluation=None, results=None, gate_policy=D
    ),
    "release_whole": Release(
        bundle=WHOLE_BUNDLE, serving_mode="hybrid", dataset=A, evaluation=B, results=C, gate_policy=D
    ),
    "approval": Approval(
        corpus="handbook",
        store="s3://bucket/prefix",
        channel="champion",
        op="promote",
        release=A,
        evaluation=B,
        base_entry=C,
        decision="approve",
        approver=Approver(id="ml_lead", name="ML lead"),
        comment="better on every tag",
        decided_at="2026-11-21T10:00:00Z",
        expires_at="2026-11-23T10:00:00Z",
        run="promote_release.handbook/manual__1",
        signature="00" * 32,
    ),
    "event": Event(
        corpus="handbook",
        kind="approved",
        who=Actor(id="ml_lead", name="ML lead"),
        what=Subject(release=A, adapter=f"{B}.01234567"),
        why="better on every tag",
        when="2026-11-21T10:00:00Z",
        evidence={"evaluation": B, "base_entry": C},
        run="promote_release.handbook/manual__1",
    ),
    "evaluation_report": a_report(),
    "entry_promote": Entry(
        corpus="handbook",
        channel="champion",
        seq=1,
        prev=None,
        op="promote",
        op_id=A,
        release=B,
        approval=None,
        policy=C,
        reason=None,
    ),
    "entry_rollback": Entry(
        corpus="handbook",
        channel="champion",
        seq=2,
        prev=A,
        op="rollback",
        op_id=B,
        release=C,
        approval=None,
        policy=None,
        reason="wrong answers",
    ),
    "channel_head": ChannelHead(seq=2, entry=A, release=B, op_id=C),
    "dataset": DatasetManifest(
        corpus="handbook",
        seq=2,
        parent=A,
        op_id=B,
        snapshot=C,
        source=D,
        settings=A,
        counts=DatasetCounts(train=8, dev=7, holdout=6, failed=5, stale=4, dangling=3, bridging=2, drafts=1, dropped=0),
        files={"train.jsonl": StoredFile(size=9, sha256=D)},
    ),
    "dataset_head": DatasetHead(seq=2, dataset=A, op_id=B),
    "adapter_head": AdapterHead(seq=2, adapter=A, key=f"{A}.01234567", op_id=B),
    "adapter": AdapterManifest(
        corpus="handbook",
        seq=2,
        parent=A,
        op_id=B,
        base_model=BaseModelIdentity(id="SmolLM2-135M-Instruct", digest=A, tokenizer=B, chat_template=C),
        dataset=A,
        snapshot=B,
        settings=C,
        renderer=D,
        refusal="The documents do not say.",
        audience=("everyone",),
        recipe={"backend": "trl", "epochs": 1},
        versions={"code": C, "torch": "2.13.0"},
        rank=16,
        counts=AdapterCounts(
            contexts=3,
            answered=2,
            swapped=1,
            withheld=1,
            unanswerable=1,
            practice=2,
            replayed=0,
            tokens=900,
            longest=400,
        ),
        losses={"dev": 0.5, "train": 0.25},
        files={"adapter_model.safetensors": StoredFile(size=9, sha256=D)},
    ),
    "trained_on": TrainedOn(dataset=A, snapshot=B, rows={"hb-1": C}, documents={"api/tides.md": D}),
}


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_the_stored_bytes_are_those_of_the_golden_file(name: str) -> None:
    record = RECORDS[name]
    golden = (GOLDEN / f"{name}.json").read_bytes()
    assert record.to_bytes() == golden
    assert type(record).from_bytes(golden, key=name) == record
    assert record.digest == sha256_hex(golden)


def test_every_record_is_pinned() -> None:
    assert {type(record) for record in RECORDS.values()} == set(Record.__subclasses__())
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(RECORDS)


def test_a_part_that_is_not_in_use_is_null_and_present() -> None:
    assert b'"adapter":null' in RECORDS["release_index"].to_bytes()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"{}", "x.json is not a valid SnapshotHead: seq: Field required"),
        (b'{"seq":1,"snapshot":"a","op_id":"b","extra":1}', "extra: Extra inputs are not permitted"),
        (b"not json", "the whole object: Invalid JSON"),
    ],
)
def test_bytes_that_are_no_record_are_called_corrupt(data: bytes, expected: str) -> None:
    with pytest.raises(ObjectCorruptError) as caught:
        SnapshotHead.from_bytes(data, key="x.json")
    assert expected in caught.value.what


def test_the_vector_space_is_the_same_for_another_backend_of_the_same_weights() -> None:
    other = EMBEDDER.model_copy(update={"backend": "sentence-transformers"})
    assert other.space == EMBEDDER.space
    assert EMBEDDER.model_copy(update={"revision": B}).space != EMBEDDER.space


def test_an_evaluation_is_keyed_by_its_inputs_alone() -> None:
    evaluation = RECORDS["evaluation"]
    assert isinstance(evaluation, Evaluation)
    assert evaluation.key == evaluation.model_copy(update={"arms": {}}).key


def test_a_signature_covers_everything_but_itself() -> None:
    approval = RECORDS["approval"]
    assert isinstance(approval, Approval)
    assert approval.signed_bytes() == approval.model_copy(update={"signature": "x"}).signed_bytes()
    assert approval.signed_bytes() != approval.model_copy(update={"release": B}).signed_bytes()


def test_an_operation_is_what_is_done() -> None:
    assert operation_id(op="promote", release=A) == operation_id(release=A, op="promote")
    assert operation_id(op="promote", release=A) != operation_id(op="promote", release=B)
