"""The store's layout: every key is made here, so that docs/store.md, code and collector agree."""

from __future__ import annotations


def segment_prefix(corpus: str, key: str) -> str:
    """Folder of a segment; ``key`` is ``<digest>.<build8>``."""
    return f"{corpus}/segments/{key}"


def snapshot_manifest(corpus: str, digest: str) -> str:
    """Manifest of a snapshot."""
    return f"{corpus}/snapshots/{digest}/manifest.json"


def snapshot_tombstones(corpus: str, digest: str) -> str:
    """Dead rows of a snapshot's segments."""
    return f"{corpus}/snapshots/{digest}/tombstones"


def snapshot_head(corpus: str) -> str:
    """Head of the snapshots: the latest verified one."""
    return f"{corpus}/heads/snapshot.json"


def dataset(corpus: str, digest: str) -> str:
    """Folder of a dataset."""
    return f"{corpus}/datasets/{digest}"


def dataset_manifest(corpus: str, digest: str) -> str:
    """Manifest of a dataset."""
    return f"{dataset(corpus, digest)}/manifest.json"


def dataset_pages(corpus: str, digest: str) -> str:
    """Folder of a dataset's Data Docs."""
    return f"{dataset(corpus, digest)}/data_docs"


def run_pages(corpus: str, run: str) -> str:
    """Folder of the Data Docs and the report of a run, also of one that failed."""
    return f"{runs(corpus)}{run}/data_docs"


def dataset_head(corpus: str) -> str:
    """Head of the datasets: the latest valid one."""
    return f"{corpus}/heads/dataset.json"


def adapters(corpus: str) -> str:
    """Folder of all adapters."""
    return f"{corpus}/adapters/"


def trained_on(corpus: str, adapter: str) -> str:
    """Record of what an adapter (``<digest>.<build8>``) was trained on."""
    return f"{adapters(corpus)}{adapter}/trained_on.json"


def adapter(corpus: str, key: str) -> str:
    """Folder of an adapter (``<digest>.<build8>``)."""
    return f"{adapters(corpus)}{key}"


def adapter_manifest(corpus: str, key: str) -> str:
    """Manifest of an adapter."""
    return f"{adapter(corpus, key)}/manifest.json"


def adapter_head(corpus: str) -> str:
    """Head of the adapters: the latest verified one."""
    return f"{corpus}/heads/adapter.json"


def checkpoints(corpus: str, op_id: str) -> str:
    """Folder of a training job's checkpoints, private to the job."""
    return f"{corpus}/checkpoints/{op_id}/"


def throughput(corpus: str, pool: str) -> str:
    """Throughput of a pool when it trained last; disposable."""
    return f"{corpus}/scans/training/pools/{pool}.json"


def failures(corpus: str) -> str:
    """Rows that the newest evaluated adapter answered wrongly; disposable."""
    return f"{corpus}/scans/training/failures.json"


def answers(corpus: str, scope: str) -> str:
    """Answers of one engine, adapter and decoding by prompt; disposable."""
    return f"{corpus}/scans/evaluation/answers/{scope}.json.z"


def latency(corpus: str, scope: str) -> str:
    """Latency of one engine and arm when it was measured last; disposable."""
    return f"{corpus}/scans/evaluation/latency/{scope}.json"


def verdict(corpus: str, adapter: str) -> str:
    """Why an adapter was not promoted; it is not proposed again by itself."""
    return f"{adapters_refused(corpus)}{adapter}.json"


def adapters_refused(corpus: str) -> str:
    """Folder of the adapters that were not promoted."""
    return f"{corpus}/scans/promotion/refused/"


def prompts(corpus: str, digest: str) -> str:
    """Prompts that a bundle names, as a server needs them."""
    return f"{corpus}/prompts/{digest}.json"


def release(corpus: str, digest: str) -> str:
    """Record of a release."""
    return f"{corpus}/releases/{digest}.json"


def channel_head(corpus: str, channel: str) -> str:
    """Head of a channel."""
    return f"{corpus}/channels/{channel}/HEAD.json"


def channel_entry(corpus: str, channel: str, digest: str) -> str:
    """One promotion or rollback."""
    return f"{corpus}/channels/{channel}/entries/{digest}.json"


def evaluation(corpus: str, key: str) -> str:
    """Folder of an evaluation; ``key`` is the digest of its inputs."""
    return f"{corpus}/evaluations/{key}"


def evaluation_results(corpus: str, key: str) -> str:
    """Results of an evaluation."""
    return f"{evaluation(corpus, key)}/results.json"


def evaluation_predictions(corpus: str, key: str, results: str) -> str:
    """Answers behind the results of that digest."""
    return f"{evaluation(corpus, key)}/predictions-{results}.jsonl"


def approval(corpus: str, digest: str) -> str:
    """Record of a person's signed decision."""
    return f"{corpus}/approvals/{digest}.json"


def events(corpus: str) -> str:
    """Folder of all events."""
    return f"{corpus}/events/"


def event(corpus: str, name: str) -> str:
    """One event (``<time>-<digest8>``)."""
    return f"{events(corpus)}{name}.json"


def hints(corpus: str, source: str) -> str:
    """Disposable hints of a source."""
    return f"{corpus}/scans/{source}/hints.json.z"


def source_note(corpus: str, source: str) -> str:
    """Where a source was last read from; disposable."""
    return f"{corpus}/scans/{source}/place.json"


def runs(corpus: str) -> str:
    """Folder of all run folders."""
    return f"{corpus}/runs/"
