"""A realistic report of an evaluation: 500 questions on 100 documents, seven arms, a better candidate."""

from __future__ import annotations

from typing import Any

from bs4 import BeautifulSoup, Tag

from tidegate.core.evaluation_records import (
    ArmCost,
    ArmReport,
    BreakEven,
    Changes,
    Comparison,
    CostReport,
    EvaluationReport,
    Example,
    Figure,
    Freshness,
    LatencyReport,
    PassageShown,
)
from tidegate.core.records import GateRule
from tidegate.evaluation.answer_metrics import Rate
from tidegate.evaluation.report_html import html_report

RELEASE = "4be1" * 16
EVALUATION, DATASET, SNAPSHOT, CHAMPION = "e7a1" * 16, "d5b2" * 16, "5a3c" * 16, "c0de" * 16
ADAPTER = f"{'ad44' * 16}.0f1e2d3c"
OLD_SNAPSHOT, OLD_ADAPTER = "01d5" * 16, f"{'01da' * 16}.9a8b7c6d"
ANSWERABLE, UNANSWERABLE = 350, 150
VOLUMES = (1_000, 10_000, 100_000, 1_000_000)

TAGS = {
    "code": (61, 51, 46),
    "list": (72, 60, 55),
    "near-miss": (84, 74, 66),
    "number": (93, 76, 77),
    "procedure": (48, 39, 41),
    "security": (40, 36, 30),
    "table": (66, 58, 49),
    "version": (36, 27, 32),
}
"""Tag to rows, and how many of them candidate and champion get right."""


def rate(hits: int, n: int) -> Figure:
    """Return a proportion with its interval."""
    found = Rate(hits, n)
    return Figure(value=found.value, n=n, low=found.interval[0], high=found.interval[1])


def an_arm(
    arm: str,
    right: int,
    refused: int,
    wrongly: int,
    *,
    adapter: str | None = None,
    snapshot: str = SNAPSHOT,
    tag: int = 1,
) -> ArmReport:
    """Return an arm by the rows that it gets right, refuses rightly, and refuses wrongly; ``tag`` picks of TAGS."""
    answered = {
        "contained_match": rate(right, ANSWERABLE),
        "exact_match": rate(right * 9 // 10, ANSWERABLE),
        "citation_hit": rate(right * 8 // 10, ANSWERABLE),
        "wrong_refusal": rate(wrongly, ANSWERABLE),
        "token_f1": Figure(value=round(right / ANSWERABLE * 0.97, 4), n=ANSWERABLE),
        "rouge_l": Figure(value=round(right / ANSWERABLE * 0.96, 4), n=ANSWERABLE),
    }
    refusal = {"refusal_recall": rate(refused, UNANSWERABLE)}
    both = {"correct": rate(right + refused, ANSWERABLE + UNANSWERABLE)}
    precision = {"refusal_precision": rate(refused, refused + wrongly)} if refused + wrongly else {}
    slices = {
        "all": both | answered | refusal | precision,
        "answerable": {"correct": rate(right, ANSWERABLE), **answered},
        "unanswerable": {"correct": rate(refused, UNANSWERABLE), **refusal},
        **{f"tag:{name}": {"correct": rate(found[tag], found[0])} for name, found in TAGS.items()},
    }
    tokens = 412.5 if "RAG" in arm or "on" in arm or arm == "champion" else 61.0
    return ArmReport(
        arm=arm, snapshot=snapshot, adapter=adapter, slices=slices, prompt_tokens=tokens, answer_tokens=14.2
    )


ARMS = (
    an_arm("base", 12, 40, 105),
    an_arm("base+RAG", 241, 108, 41, tag=2),
    an_arm("adapter", 31, 131, 190, adapter=ADAPTER),
    an_arm("adapter+RAG", 291, 130, 22, adapter=ADAPTER),
    an_arm("champion", 277, 119, 27, adapter=OLD_ADAPTER, snapshot=OLD_SNAPSHOT, tag=2),
    an_arm("new adapter on old index", 284, 128, 24, adapter=ADAPTER, snapshot=OLD_SNAPSHOT),
    an_arm("old adapter on new index", 281, 120, 26, adapter=OLD_ADAPTER, tag=2),
)

BETTER = Comparison(
    verdict="better", difference=0.05, low=0.021, high=0.079, p_better=0.0004, p_worse=0.9997,
    rows=500, documents=100, wins=39, losses=14, mcnemar=0.0008,
)  # fmt: skip
UNCHANGED = Comparison(
    verdict="not_enough_evidence", difference=0.012, low=-0.009, high=0.034, p_better=0.131, p_worse=0.88,
    rows=412, documents=81, wins=17, losses=12, mcnemar=0.458,
)  # fmt: skip
AGAINST_RAG = Comparison(
    verdict="better", difference=0.144, low=0.105, high=0.183, p_better=0.0001, p_worse=1.0,
    rows=500, documents=100, wins=88, losses=16, mcnemar=0.0,
)  # fmt: skip

PASSAGE = PassageShown(
    document="runbooks/printing.md",
    heading="Printing > Ports",
    text="The label printer listens on port 9100.\nThe office printers listen on port 631 and need a queue name.",
)
EXAMPLES = (
    Example(
        row="q-0017", question="On which port does the label printer listen?", gold="9100", candidate="9100 [1]",
        champion="631 [1]", won=True, passages=(PASSAGE,),
    ),
    Example(
        row="q-0231", question="Which cloud region hosts the staging mirror?", gold=None,
        candidate="The documents do not say.", champion="eu-west-1 [2]", won=True, passages=(PASSAGE,),
    ),
    Example(
        row="q-0098", question="How long does the badge office keep visitor records?", gold="90 days",
        candidate="The documents do not say.", champion="90 days [1]", won=False, passages=(PASSAGE, PASSAGE),
    ),
)  # fmt: skip

RULES = tuple(
    GateRule(name=name, value=value, threshold=threshold, passed=True)
    for name, value, threshold in (
        ("correct", 0.842, 0.6),
        ("evidence", 0.0004, 0.025),
        ("unchanged rows", -0.009, -0.03),
        ("refusals", 130 / 150, 0.763),
        ("wrong refusals", 22 / 350, 0.2),
        ("recall@10", 0.912, 0.878),
        ("tag number", -1 / 93, -0.1),
        ("tag version", -5 / 36, -0.15),
        ("stale passages", 0.0, 0.0),
        ("held share", 2 / 242, 0.02),
        ("held days", 3.5, 14.0),
        ("churn", 22 / 242, 0.4),
        ("forgetting", 0.55, 0.5),
        ("latency", 1.21, 2.0),
    )
)


def a_cost(arm: str, per_1000: float, fixed: float) -> ArmCost:
    """Return the cost of an arm at the usual volumes."""
    months = {volume: fixed + per_1000 * volume / 1000 for volume in VOLUMES}
    return ArmCost(arm=arm, per_1000_queries=per_1000, fixed_per_month=fixed, per_month=months)


COSTS = CostReport(
    currency="USD",
    arms=(
        a_cost("base+RAG", 0.94, 50.0),
        a_cost("adapter", 0.21, 212.0),
        a_cost("adapter+RAG", 0.31, 262.0),
        a_cost("API", 110.0, 0.0),
    ),
    break_even=(
        BreakEven(first="base+RAG", second="adapter+RAG", queries_per_month=212 / 0.63 * 1000),
        BreakEven(first="adapter+RAG", second="API", queries_per_month=262 / 109.69 * 1000),
        BreakEven(first="adapter", second="adapter+RAG", queries_per_month=None),
    ),
    once={"training": 1.26, "index refresh": 0.04, "evaluation": 0.35},
)

LATENCY = {
    "base+RAG": LatencyReport(requests=16, concurrency=1, p50=1.34, p95=2.05, p99=None, tokens_per_second=9.8),
    "adapter+RAG": LatencyReport(requests=16, concurrency=1, p50=1.21, p95=1.88, p99=None, tokens_per_second=11.7),
}


def a_report(**changes: Any) -> EvaluationReport:
    """Return the report with some of its fields replaced."""
    fields: dict[str, Any] = {
        "corpus": "handbook",
        "evaluation": EVALUATION,
        "dataset": DATASET,
        "snapshot": SNAPSHOT,
        "adapter": ADAPTER,
        "champion": CHAMPION,
        "base_prompt": "few-shot",
        "engine": "transformers 5.23.0, float32",
        "serving_mode": "hybrid",
        "why_mode": "adapter+RAG answers best within the limits of latency and cost.",
        "arms": ARMS,
        "retrieval": {
            "candidate": {"recall@1": 0.741, "recall@5": 0.884, "recall@10": 0.912, "mrr": 0.806, "ndcg@10": 0.829},
            "champion": {"recall@1": 0.735, "recall@5": 0.88, "recall@10": 0.908, "mrr": 0.801, "ndcg@10": 0.825},
        },
        "comparison": BETTER,
        "unchanged": UNCHANGED,
        "against_rag": AGAINST_RAG,
        "general": {"base": rate(24, 40), "adapter": rate(22, 40)},
        "latency": LATENCY,
        "costs": COSTS,
        "changes": Changes(
            added=12, modified=8, removed=2, documents=240,
            names=("+ runbooks/printing.md", "~ policies/badges.md", "- faq/fax.md"),
            rows_added=20, rows_changed=6, rows_removed=1,
        ),
        "freshness": Freshness(documents=242, held=2, held_days=3.5, unexplained_stale=0),
        "judge": {},
        "left_out": 11,
        "rules": RULES,
        "examples": EXAMPLES,
    }  # fmt: skip
    return EvaluationReport(**(fields | changes))


def a_first_report(**changes: Any) -> EvaluationReport:
    """Return a report of an index alone, with nothing to compare with: no champion, adapter, costs or latency."""
    index_only: dict[str, Any] = {
        "adapter": None,
        "champion": None,
        "serving_mode": "rag",
        "why_mode": "There is no adapter.",
        "arms": ARMS[:2],
        "retrieval": {"candidate": {"recall@10": 0.912, "mrr": 0.806}},
        "comparison": None,
        "unchanged": None,
        "against_rag": None,
        "general": {},
        "latency": {},
        "costs": None,
        "changes": Changes(
            added=240, modified=0, removed=0, documents=240, names=(), rows_added=0, rows_changed=0, rows_removed=0
        ),
        "freshness": Freshness(documents=240, held=0, held_days=0.0, unexplained_stale=0),
        "left_out": 0,
        "rules": (RULES[0], *RULES[3:6]),
        "examples": (),
    }
    return a_report(**(index_only | changes))


EVIL = (
    "a | b | c",
    "`code` ``x``",
    "](http://evil.test) [x](http://evil.test) ![i](http://evil.test/p.png)",
    "<script>alert(1)</script><img src=http://evil.test onerror=alert(1)>",
    "' onload='alert(1)\" style=\"x",
    "line\r\n\n# head\n| x | y |\n| - | - |",
    "\u202eevil\u2066 \x1b[31m \x00\u200b\u2028 end",
    "HTTP://evil.test www.evil.test WWW.evil.test a@evil.test mailto:a@evil.test <http://evil.test>",
    "&lt;b&gt; &#124; \\| \\",
    "**bold** ~~gone~~ _it_ [x]: http://evil.test [^1]",
    "{{ 7 * 7 }} {% raw %}",
)
"""Texts that try to be more than text."""


def an_example(text: str = "What?", won: bool = True, passages: tuple[PassageShown, ...] = ()) -> Example:
    return Example(
        row=text, question=text, gold=text, candidate=text, champion=text, won=won, passages=passages
    )  # fmt: skip


def evil_report(text: str) -> EvaluationReport:
    passage = PassageShown(document=text, heading=text, text=text)
    arm = ARMS[3].model_copy(update={"slices": ARMS[3].slices | {f"tag:{text}": {"correct": rate(1, 2)}}})
    return a_report(
        arms=(*ARMS[:3], arm, ARMS[4], ARMS[5].model_copy(update={"arm": text})),
        why_mode=text,
        engine=text,
        judge={"model": text, "preference": text},
        examples=(an_example(text, passages=(passage,)), an_example(text, won=False)),
        rules=(GateRule(name=text, value=1, threshold=2, passed=False), *RULES),
        changes=a_report().changes.model_copy(update={"names": (text,)}),
    )


def page_of(report: EvaluationReport) -> BeautifulSoup:
    return BeautifulSoup(html_report(report, release=RELEASE), "html.parser")


def words(node: Tag) -> str:
    return " ".join(node.get_text(" ").split())
