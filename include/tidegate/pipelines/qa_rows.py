"""What became of each row of a Q&A set since the last dataset: tied anew, carried over, stale, dangling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tidegate.core.examples import GENERATED, Evidence, Example
from tidegate.pipelines.qa_documents import SnapshotDocuments
from tidegate.qa.dataset import Flag, Row, Status
from tidegate.qa.evidence import Anchor, carry, nearest_passage, tie


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A row as a person reviewed it."""

    example: Example
    replaces: str
    """Digest of the source row that it stands for; '' if it has none."""
    drop: bool = False


Before = Mapping[tuple[str, str], Row]
"""The rows of the last dataset by (id, digest of what they say)."""


def with_reviews(source: Sequence[Example], before: Before, reviews: Mapping[str, Reviewed]) -> list[Row]:
    """Return the rows that count: those of the source, with a person's reviews in place of what they reviewed.

    A review stands until the source row that it replaced says something else.
    """
    kept = {row.id: row for row in before.values() if row.replaces is not None}
    rows = [_row(example, kept.get(example.id), reviews.get(example.id)) for example in source]
    listed = {example.id for example in source}
    added = (row for row in kept.values() if row.replaces == "" and row.id not in listed | reviews.keys())
    rows += [_reviewed(Reviewed(row.example, "", drop=row.status == "dropped")) for row in added]
    rows += [_reviewed(review) for row, review in reviews.items() if row not in listed]
    return rows


def tie_rows(rows: Sequence[Row], before: Before, documents: SnapshotDocuments, *, use_generated: bool) -> list[Row]:
    """Return rows tied to the snapshot: those that are not as in ``before`` afresh, others by their anchors' fate."""
    waiting = [row for row in rows if row.status != "dropped"]
    documents.load(_needed(waiting, before, documents))
    return [
        row
        if row.status == "dropped"
        else replace(row, status="draft")
        if GENERATED in row.example.tags and not use_generated
        else _tied(row, _same(row, before), documents)
        for row in rows
    ]


def _row(example: Example, kept: Row | None, review: Reviewed | None) -> Row:
    if review is not None:
        return _reviewed(replace(review, replaces=example.digest))
    if kept is not None and kept.replaces == example.digest:
        stands = replace(kept.example, where=f"{example.where}, reviewed")
        return _reviewed(Reviewed(stands, example.digest, drop=kept.status == "dropped"))
    return Row(example)


def _reviewed(review: Reviewed) -> Row:
    return Row(
        review.example, status="dropped" if review.drop else "valid", flags=("reviewed",), replaces=review.replaces
    )


def _same(row: Row, before: Before) -> Row | None:
    """Return the row as the last dataset had it, None if it is new or says something else now."""
    was = before.get((row.id, row.example.digest))
    return was if was and was.anchors else None


def _needed(rows: Sequence[Row], before: Before, documents: SnapshotDocuments) -> set[str]:
    """Return the documents whose text must be looked at: those of new rows, and those that changed."""
    needed = set()
    for row in rows:
        was = _same(row, before)
        for number, evidence in enumerate(row.example.evidence):
            anchor = was.anchors[number] if was else None
            path = documents.path(anchor.document) if anchor else documents.resolve(evidence.document)[0]
            if path is not None and not (anchor and anchor.fingerprint == documents.fingerprint(path)):
                needed.add(path)
    return needed


def _tied(row: Row, was: Row | None, documents: SnapshotDocuments) -> Row:
    anchors: list[Anchor | None] = []
    broken: list[tuple[str, str]] = []
    found: dict[str, None] = {}
    now: list[str] = []
    for number, evidence in enumerate(row.example.evidence):
        anchor = was.anchors[number] if was else None
        if anchor is None:
            anchor, rule, detail = _tie(row.example, evidence, documents)
            broken += [(rule, detail)] if rule else []
        else:
            state, anchor, passage = _carried(anchor, evidence, documents)
            found |= dict.fromkeys(state)
            now.append(passage)
        anchors.append(anchor)
    status: Status = "dangling" if "dangling" in found else "stale" if "stale" in found else "valid"
    flags = tuple(flag for flag in ("cleared", "reworded", "moved") if flag in found)
    return replace(
        row,
        anchors=tuple(anchors),
        status=status,
        flags=(*row.flags, *flags),
        broken=tuple(broken),
        now=tuple(now) if status == "stale" else (),
    )


def _tie(example: Example, evidence: Evidence, documents: SnapshotDocuments) -> tuple[Anchor | None, str, str]:
    path, rule, detail = documents.resolve(evidence.document)
    if path is None:
        return None, rule, detail
    passages, fingerprint = documents.passages(path), documents.fingerprint(path)
    tied = tie(example, evidence, passages, key=documents.key(path), path=path, fingerprint=fingerprint)
    return tied.anchor, tied.rule, tied.detail


def _carried(
    anchor: Anchor, evidence: Evidence, documents: SnapshotDocuments
) -> tuple[tuple[Flag | str, ...], Anchor, str]:
    """Return (what happened to an anchor, the anchor as it is now, what its document says in its place)."""
    path = documents.path(anchor.document)
    if path is None:
        return ("dangling",), anchor, ""
    moved: tuple[str, ...] = ("moved",) if path != anchor.path else ()
    fingerprint = documents.fingerprint(path)
    if fingerprint == anchor.fingerprint:
        return moved, replace(anchor, path=path), ""
    passages = documents.passages(path)
    held, tied = carry(anchor, evidence, path, fingerprint, passages)
    if held == "stale":
        return (*moved, "stale"), anchor, nearest_passage(anchor, passages)
    return (*moved, "cleared", *(("reworded",) if held == "reworded" else ())), tied, ""
