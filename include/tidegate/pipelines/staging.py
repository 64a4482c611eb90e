"""Hand a plan from one task to the next through the store, so that no task assumes a shared disk.

Everything lies in the run's private folder under the plan's own digest: a retry finds what it staged, and a second
copy of a task that captured something else cannot mix with it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tidegate.core.canonical import canonical_json, sha256_hex
from tidegate.core.changes import ChangeSet
from tidegate.core.documents import CHUNK_ID_BYTES
from tidegate.core.errors import StageMissingError
from tidegate.core.protocols import Stored
from tidegate.core.records import SnapshotHead
from tidegate.indexing.segment import document_table, ledger_rows
from tidegate.pipelines.capture import Capture
from tidegate.pipelines.refresh_index import Plan
from tidegate.registry.heads import ReadHead
from tidegate.registry.runs import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SHARDS = 64
"""More mapped tasks than this cost Airflow's scheduler more than they win."""

_TEXTS = pa.schema([("id", pa.binary(CHUNK_ID_BYTES)), ("context", pa.string()), ("text", pa.string())])


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a staged plan's texts; its name is what travels between tasks."""

    plan: str
    number: int
    of: int

    @property
    def name(self) -> str:
        """``<plan>/<number>/<of>``."""
        return f"{self.plan}/{self.number}/{self.of}"

    @classmethod
    def parse(cls, name: str) -> Shard:
        """Invert :attr:`name`."""
        plan, number, of = name.split("/")
        return cls(plan, int(number), int(of))


def stage_plan(run: Run, plan: Plan, shard_bytes: int) -> list[Shard]:
    """Stage a plan; return its shards: at least one, at most :data:`MAX_SHARDS`, of about ``shard_bytes`` of text."""
    head = plan.base.head.model_dump() if plan.base.head else None
    meta = canonical_json(
        {
            "head": head,
            "version": plan.base.stored.version if plan.base.stored else None,
            "changes": asdict(plan.capture.changes),
            "removed": plan.capture.removed,
            "hints": plan.hints,
            "unlisted": plan.unlisted,
            "files_opened": plan.files_opened,
        }
    )
    rows = _to_bytes(document_table(plan.capture.rows))
    columns = list(zip(*plan.capture.texts, strict=True)) or [(), (), ()]
    texts = _to_bytes(
        pa.table([pa.array(column, field.type) for column, field in zip(columns, _TEXTS, strict=True)], schema=_TEXTS)
    )
    name = sha256_hex(meta + rows + texts)[:12]
    for part, data in (("plan.json", meta), ("rows.arrow", rows), ("texts.arrow", texts)):
        run.stage(f"{name}/{part}", data)
    size = sum(len(context) + len(text) for _, context, text in plan.capture.texts)
    count = max(1, min(MAX_SHARDS, len(plan.capture.texts), -(-size // shard_bytes)))
    return [Shard(name, number, count) for number in range(count)]


def load_plan(run: Run, name: str) -> Plan:
    """Return a staged plan."""
    meta = json.loads(run.staged(f"{name}/plan.json"))
    changes = meta["changes"]
    captured = Capture(
        changes=ChangeSet(
            added=tuple(changes["added"]),
            modified=tuple(changes["modified"]),
            moved=tuple((old, new) for old, new in changes["moved"]),
            deleted=tuple(changes["deleted"]),
            unchanged=changes["unchanged"],
        ),
        rows=tuple(ledger_rows(_from_bytes(run.staged(f"{name}/rows.arrow")))),
        removed=tuple(meta["removed"]),
        texts=tuple(load_texts(run, name)),
    )
    head = SnapshotHead.model_validate(meta["head"]) if meta["head"] else None
    base = ReadHead(head, Stored(head.to_bytes(), meta["version"]) if head else None)
    return Plan(base, captured, meta["hints"], tuple(meta["unlisted"]), meta["files_opened"])


def load_texts(run: Run, name: str) -> list[tuple[bytes, str, str]]:
    """Return the texts of a staged plan."""
    columns = _from_bytes(run.staged(f"{name}/texts.arrow")).to_pydict()
    return list(zip(*columns.values(), strict=True))


def shard_texts(texts: list[tuple[bytes, str, str]], shard: Shard) -> list[tuple[bytes, str, str]]:
    """Return the texts of one shard; the shards of a plan hold each text once."""
    return texts[len(texts) * shard.number // shard.of : len(texts) * (shard.number + 1) // shard.of]


def stage_vectors(run: Run, shard: Shard, vectors: NDArray[np.float32]) -> None:
    """Stage the vectors of one shard."""
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    run.stage(_vectors_name(shard), buffer.getvalue())


def has_vectors(run: Run, shard: Shard) -> bool:
    """Tell whether an earlier try staged this shard."""
    return run.has_staged(_vectors_name(shard))


def load_vectors(run: Run, shards: Sequence[Shard], texts: int, dimension: int) -> NDArray[np.float32]:
    """Return the vectors of all shards in order; raise ``StageMissingError`` if they are not one per text."""
    parts = [np.load(io.BytesIO(run.staged(_vectors_name(shard))), allow_pickle=False) for shard in shards]
    vectors = np.concatenate([np.zeros((0, dimension), dtype=np.float32), *parts])
    if len(vectors) != texts:
        raise StageMissingError(f"plan {shards[0].plan} has {texts} texts, but its shards hold {len(vectors)} vectors")
    return vectors


def _vectors_name(shard: Shard) -> str:
    return f"{shard.plan}/vectors-{shard.number}-{shard.of}.npy"


def _to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _from_bytes(data: bytes) -> pa.Table:
    return pa.ipc.open_file(pa.BufferReader(data)).read_all()
