"""Retrieval metrics at document level, binary relevance.

hit@k: any gold document in the first k. recall@k: share of the gold documents in the first k. mrr: 1 / rank of the
first gold document, 0 if none is ranked. ndcg@k: discounted gain 1/log2(rank + 1) over the gain of an ideal ranking
(Järvelin and Kekäläinen 2002).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

CUTOFFS = (1, 5, 10)


def score_ranking(ranked: Sequence[str], gold: Collection[str]) -> dict[str, float]:
    """Return the metrics of one question; ``ranked`` holds distinct documents, best first, ``gold`` at least one."""
    if not gold:
        raise ValueError("a question without gold documents cannot be scored")
    found = [rank for rank, document in enumerate(ranked, 1) if document in gold]
    metrics = {f"hit@{k}": float(any(rank <= k for rank in found)) for k in CUTOFFS}
    metrics |= {f"recall@{k}": sum(rank <= k for rank in found) / len(gold) for k in CUTOFFS}
    metrics["mrr"] = 1 / found[0] if found else 0.0
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(gold), 10) + 1))
    metrics["ndcg@10"] = sum(1 / math.log2(rank + 1) for rank in found if rank <= 10) / ideal
    return metrics


def mean_metrics(per_question: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over questions; empty for no question."""
    rows = list(per_question)
    return {name: math.fsum(row[name] for row in rows) / len(rows) for name in rows[0]} if rows else {}
