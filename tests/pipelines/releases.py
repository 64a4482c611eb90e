"""Releases made by hand from real snapshots, where a test is not about how they are composed, judged or approved."""

from __future__ import annotations

from tests.evaluation.reports import a_report
from tidegate.core.records import AdapterReference, Bundle, Release
from tidegate.pipelines import refresh_index
from tidegate.pipelines.refresh_index import Plan
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.channel import CHAMPION, Channel, Promotion
from tidegate.registry.evaluations import write_report
from tidegate.registry.heads import read_manifest
from tidegate.registry.releases import write_release

ADAPTER = AdapterReference(digest="ad" * 32, key=f"{'ad' * 32}.0f1e2d3c")


def index(workspace: Workspace) -> str:
    """Refresh the index; return the snapshot."""
    found = refresh_index.detect(workspace)
    if isinstance(found, Plan):
        found = refresh_index.commit(workspace, found, refresh_index.embed(workspace, found.capture.texts))
    return found.snapshot


def release(workspace: Workspace, snapshot: str, evaluation: str | None = None, *, html: bool = True) -> str:
    """Store a release of a snapshot, with an adapter and reports if it has an evaluation; return its id."""
    store, corpus = workspace.store, workspace.corpus
    manifest = read_manifest(store, corpus, snapshot)
    bundle = Bundle(
        corpus=corpus,
        snapshot=snapshot,
        content_root=manifest.content_root,
        adapter=ADAPTER if evaluation else None,
        base_model=None,
        embedder=manifest.embedder,
        retrieval=workspace.retrieval,
        prompt=None,
        decoding=None,
        access_policy=None,
    )
    if evaluation:
        report = a_report(corpus=corpus, evaluation=evaluation)
        write_report(store, corpus, evaluation, "report.json", report.to_bytes())
        if html:
            write_report(store, corpus, evaluation, "report.html", b"<style></style><script>1</script>")
    mode = "hybrid" if evaluation else "rag"
    made = Release(
        bundle=bundle, serving_mode=mode, dataset=None, evaluation=evaluation, results=None, gate_policy="9" * 64
    )
    return write_release(store, made)


def promote(workspace: Workspace, wanted: str, channel: str = CHAMPION, *, approval: str | None = None) -> None:
    """Make a release the head of a channel, by an approval or by policy."""
    target = Channel(workspace.store, workspace.corpus, channel)
    policy = None if approval else "9" * 64
    target.apply(Promotion("promote", wanted, target.read().entry, approval=approval, policy=policy))
