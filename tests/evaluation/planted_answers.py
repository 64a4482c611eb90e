"""A candidate and a champion that answered the same 500 questions: judged, summarised, compared as in an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tidegate.core.evaluation_config import GateConfig
from tidegate.core.evaluation_records import ArmReport, Changes, Comparison, Figure, Freshness
from tidegate.core.records import GateRule
from tidegate.evaluation.answer_metrics import JudgedAnswer, judge, summarise
from tidegate.evaluation.gate import Facts
from tidegate.evaluation.significance import compare

REFUSAL = "The documents do not say."
TAGS = ("billing", "hiring", "security", "travel")
CONFIG = GateConfig()


@dataclass(frozen=True)
class Row:
    """A question of the holdout: five of each of 100 documents, the fifth has no answer."""

    number: int

    @property
    def document(self) -> int:
        return self.number // 5

    @property
    def answerable(self) -> bool:
        return self.number % 5 != 4

    @property
    def right(self) -> str:
        return f"code {self.number}" if self.answerable else REFUSAL

    @property
    def tag(self) -> str:
        return TAGS[self.document % 4]


ROWS = [Row(number) for number in range(500)]


def answers(is_right: Callable[[Row], bool]) -> list[str]:
    return [row.right if is_right(row) else "nothing of the kind" for row in ROWS]


def champion(row: Row) -> bool:
    """Right on 200 of the 400 answerable questions, refuses 80 of the 100 others."""
    return row.number % 2 == 1 if row.answerable else row.document % 5 > 0


def improved(row: Row) -> bool:
    """The champion with 68 answers more and 10 less, and 10 refusals more."""
    if not row.answerable:
        return row.document % 10 > 0
    return row.number % 50 != 1 and (champion(row) or row.number % 3 == 0)


def base_model(row: Row) -> bool:
    """Right on a quarter of the answerable questions; refuses nothing."""
    return row.answerable and row.number % 5 == 0


def breaks_travel(row: Row) -> bool:
    """Answers everything but the questions about travel; refuses as the champion does."""
    return row.tag != "travel" if row.answerable else champion(row)


def never_refuses(row: Row) -> bool:
    return row.answerable and row.number % 8 != 0


def misses_documents(row: Row) -> bool:
    """The champion, without the answers of every seventh document."""
    return champion(row) and (row.document % 7 > 0 or not row.answerable)


def shuffled() -> list[str]:
    """Each row's answer is another row's; a quarter of the answerable rows get a refusal, no other row does."""
    return [ROWS[(7 * row.number + 3) % len(ROWS)].right for row in ROWS]


def judged(texts: Sequence[str]) -> list[JudgedAnswer]:
    return [
        judge(text, row.right if row.answerable else None, refusal=REFUSAL, tags=(row.tag,))
        for text, row in zip(texts, ROWS, strict=True)
    ]


def arm(found: Sequence[JudgedAnswer], name: str) -> ArmReport:
    slices = {
        slice_: {metric: Figure(value=rate.value, n=rate.n) for metric, rate in summary.rates.items()}
        for slice_, summary in summarise(found).items()
    }
    return ArmReport(arm=name, snapshot="0" * 64, adapter=None, slices=slices, prompt_tokens=900, answer_tokens=12)


def compared(
    first: Sequence[JudgedAnswer], second: Sequence[JudgedAnswer], wanted: Callable[[Row], bool]
) -> Comparison:
    rows = [row for row in ROWS if wanted(row)]
    ours, theirs = ([float(found[row.number].correct) for row in rows] for found in (first, second))
    return compare(ours, theirs, [row.document for row in rows], seed=0)


def facts(candidate: Sequence[str], **changes: object) -> Facts:
    """Return the facts of a candidate with a new adapter, measured against the champion; all else is in order."""
    ours, theirs = judged(candidate), judged(answers(champion))
    found = Facts(
        mode="hybrid",
        first=False,
        new_adapter=True,
        serving=arm(ours, "adapter+RAG"),
        champion=arm(theirs, "champion"),
        comparison=compared(ours, theirs, lambda row: True),
        unchanged=compared(ours, theirs, lambda row: row.document % 10 > 0),
        tags={tag: compared(ours, theirs, lambda row, tag=tag: row.tag == tag) for tag in TAGS},
        retrieval={"candidate": {"recall@10": 0.9}, "champion": {"recall@10": 0.88}},
        general={"base": Figure(value=0.7, n=50), "adapter": Figure(value=0.68, n=50)},
        freshness=Freshness(documents=1000, held=5, held_days=3.0, unexplained_stale=0),
        changes=Changes(
            added=10, modified=40, removed=5, documents=995, names=(), rows_added=0, rows_changed=0, rows_removed=0
        ),
        latency=1.5,
    )
    return replace(found, **changes)


def failed(rules: Sequence[GateRule]) -> list[str]:
    return [rule.name for rule in rules if not rule.passed]


def rule_of(rules: Sequence[GateRule], name: str) -> GateRule:
    return next(rule for rule in rules if rule.name == name)
