"""The gate: what a candidate must reach before anybody is asked, rule by rule, from measured facts.

============== ==================================================== ===================================================
rule           value                                                passes
============== ==================================================== ===================================================
correct        share of the questions answered right                at least ``min_correct``
evidence       p-value of *better*, for a new adapter               at most 0.025
not worse      p-value of *worse*, without a new adapter            at least 0.025
unchanged rows low end of the difference where evidence is the same at least ``-margin``
refusals       share of the unanswerable questions refused          at least ``min_refusals`` and champion - ``margin``
wrong refusals share of the answerable questions refused            at most ``max_wrong_refusals``
recall@10      recall of retrieval, by document                     at least ``min_recall`` and champion - ``margin``
tag <name>     difference on the rows of a tag                      at least minus the larger of ``tag_margin``, noise
stale passages passages that are neither current nor held           at most 0
held share     share of the documents held                          at most ``max_held_share``
held days      age of the oldest held document, in days             at most ``max_held_days``
churn          documents changed, of all that are or were           at most ``max_churn``
forgetting     share of general questions that the adapter answers  at least base model - ``forgetting_margin``
latency        median seconds of one answer                         at most ``max_latency_seconds``
============== ==================================================== ===================================================

``evidence`` and ``not worse`` follow the verdict of the comparison: *not enough evidence* fails the first and passes
the second. ``unchanged rows`` binds a new adapter too: a fresher index must not pay for a worse adapter. Where the
evidence of every row changed it does not apply.

A first release has no rule against a champion (``evidence``, ``not worse``, ``unchanged rows``, ``tag``, ``churn``).
A release that serves passages without a model has no rule about answers. A rule that does not apply is absent. One
that applies and whose value or threshold was not measured fails.

Noise of a tag is z times SE, the loss that chance explains. z is the normal quantile of 5 % divided by the number of
judged tags (Bonferroni), so that of the candidates that lose in no tag about 5 % fail by one at most, however many tags
there are; in simulation it was 3 % with 20 tags, and under 2 % if they gain five points. SE is that of the whole
difference, whose interval counts documents, scaled to the rows of the tag and to how much they vary where that is more:
a tag in few documents cannot measure it by itself. Of 20 tags, one of 20 rows usually fails from a loss of 50 points
on, one of 100 rows from 20.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

from tidegate.core.evaluation_config import GateConfig
from tidegate.core.evaluation_records import ArmReport, Changes, Comparison, Figure, Freshness, ServingMode
from tidegate.core.records import GateRule
from tidegate.evaluation.significance import non_inferior

_LEVEL = 0.025
"""One-sided level of the verdict."""
_TAGS_LEVEL = 0.05
"""One-sided level of all tags together."""
_CEILINGS = {"evidence", "wrong refusals", "stale passages", "held share", "held days", "churn", "latency"}
"""Rules whose threshold is the most that passes; that of all others is the least."""
INDEX_RULES = {"recall@10", "stale passages", "held share", "held days", "churn"}
"""Rules that an index can fail whatever the adapter."""
_DECIMALS = {"evidence": 3, "not worse": 3, "stale passages": 0, "held days": 1}
_MOST_DECIMALS = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What was measured of a candidate; None, or an absent key, is what was not measured."""

    mode: ServingMode | None
    """How it would answer; None where it serves passages, without a model."""
    first: bool
    """Whether the corpus has no champion yet."""
    new_adapter: bool
    """Whether it would serve with an adapter that the champion does not have."""
    serving: ArmReport | None
    """The arm that would serve."""
    champion: ArmReport | None
    comparison: Comparison | None
    """The serving arm against the champion, over all rows."""
    unchanged: Comparison | None
    """The same over the rows whose evidence did not change."""
    tags: Mapping[str, Comparison]
    """The same over the rows of each tag."""
    retrieval: Mapping[str, Mapping[str, float]]
    """Retrieval metrics by ``candidate`` and ``champion``."""
    general: Mapping[str, Figure]
    """Share of the general questions answered, by ``base`` and ``adapter``."""
    freshness: Freshness | None
    changes: Changes | None
    latency: float | None
    """Median seconds of one answer of the serving arm."""


def judge_candidate(facts: Facts, config: GateConfig) -> tuple[GateRule, ...]:
    """Return every rule that applies to a candidate, with its value, its threshold and whether it passed."""
    rules: list[GateRule] = []
    if facts.mode is not None:
        rules += _answers(facts, config)
        if not facts.first:
            rules += _against_champion(facts, config)
    if facts.mode != "adapter":
        recall = {name: metrics.get("recall@10") for name, metrics in facts.retrieval.items()}
        threshold = _least(config.min_recall, recall.get("champion"), facts, config)
        rules.append(_rule("recall@10", recall.get("candidate"), threshold))
    rules += index_rules(facts.freshness, None if facts.first else facts.changes, config, first=facts.first)
    if facts.mode in ("adapter", "hybrid"):
        base, adapter = facts.general.get("base"), facts.general.get("adapter")
        least = base.value - config.forgetting_margin if base else None
        rules.append(_rule("forgetting", adapter.value if adapter else None, least))
    if facts.mode is not None and config.max_latency_seconds is not None:
        rules.append(_rule("latency", facts.latency, config.max_latency_seconds))
    return tuple(rules)


def index_rules(
    freshness: Freshness | None, changes: Changes | None, config: GateConfig, *, first: bool
) -> tuple[GateRule, ...]:
    """Return the rules of the index alone: all that a corpus without a Q&A set can be held to."""
    share = freshness.held / max(freshness.documents, 1) if freshness else None
    rules = [
        _rule("stale passages", freshness.unexplained_stale if freshness else None, 0),
        _rule("held share", share, config.max_held_share),
        _rule("held days", freshness.held_days if freshness else None, config.max_held_days),
    ]
    if not first:
        rules.append(_rule("churn", _churn(changes) if changes else None, config.max_churn))
    return tuple(rules)


def describe_rule(rule: GateRule) -> str:
    """Return a rule as one line, ``refusals 0.31, at least 0.50: FAIL``; its decimals tell the two numbers apart."""
    value, threshold = rule.value, rule.threshold
    decimals = _DECIMALS.get(rule.name, 2)
    if value is not None and threshold is not None and value != threshold:
        while decimals < _MOST_DECIMALS and f"{value:.{decimals}f}" == f"{threshold:.{decimals}f}":
            decimals += 1
    shown = "not measured" if value is None else f"{value:.{decimals}f}"
    bound = "at most" if rule.name in _CEILINGS else "at least"
    limit = "threshold not measured" if threshold is None else f"{bound} {threshold:.{decimals}f}"
    return f"{rule.name} {shown}, {limit}: {'pass' if rule.passed else 'FAIL'}"


def _answers(facts: Facts, config: GateConfig) -> Iterator[GateRule]:
    yield _rule("correct", _share(facts.serving, "all", "correct"), config.min_correct)
    refused, before = (_share(arm, "unanswerable", "refusal_recall") for arm in (facts.serving, facts.champion))
    # A floor of 0 takes the rule from a Q&A set that asks nothing unanswerable.
    if config.min_refusals or refused is not None or before is not None:
        yield _rule("refusals", refused, _least(config.min_refusals, before, facts, config))
    yield _rule("wrong refusals", _share(facts.serving, "answerable", "wrong_refusal"), config.max_wrong_refusals)


def _against_champion(facts: Facts, config: GateConfig) -> Iterator[GateRule]:
    overall, unchanged = facts.comparison, facts.unchanged
    if facts.new_adapter:
        better = overall is not None and overall.verdict == "better"
        yield _rule("evidence", overall.p_better if overall else None, _LEVEL, agreed=better)
    else:
        kept = overall is not None and overall.verdict != "worse"
        yield _rule("not worse", overall.p_worse if overall else None, _LEVEL, agreed=kept)
    if unchanged is not None or overall is None:  # where no row kept its evidence there is nothing to hold it to
        inferior = unchanged is None or not non_inferior(unchanged, config.margin)
        yield _rule("unchanged rows", unchanged.low if unchanged else None, -config.margin, agreed=not inferior)
    tags = {tag: facts.tags.get(tag) for tag in _judged_tags(facts, config)}
    for tag, comparison in tags.items():
        noise = _noise(comparison, overall, len(tags)) if comparison and overall else None
        least = None if noise is None else -max(config.tag_margin, noise)
        yield _rule(f"tag {tag}", comparison.difference if comparison else None, least)


def _judged_tags(facts: Facts, config: GateConfig) -> list[str]:
    """Return the tags of enough rows of the champion, less those that too few rows compare."""
    slices = facts.champion.slices if facts.champion else {}
    large = {
        name.removeprefix("tag:")
        for name, figures in slices.items()
        if name.startswith("tag:") and "correct" in figures and figures["correct"].n >= config.min_tag_rows
    }
    small = {tag for tag, comparison in facts.tags.items() if comparison.rows < config.min_tag_rows}
    return sorted(large - small)


def _noise(tag: Comparison, overall: Comparison, tags: int) -> float:
    """Return the loss of one of so many judged tags that chance explains (Bonferroni; see the module)."""
    differing = _variance(overall)
    if differing <= 0:
        return 0.0
    standard = (overall.high - overall.low) / (2 * NormalDist().inv_cdf(0.975))
    scale = overall.rows / tag.rows * max(1.0, _variance(tag) / differing)
    return NormalDist().inv_cdf(1 - _TAGS_LEVEL / tags) * standard * math.sqrt(scale)


def _variance(comparison: Comparison) -> float:
    """Return the variance of a row's difference, which is 1, 0 or -1."""
    return (comparison.wins + comparison.losses) / comparison.rows - comparison.difference**2


def _churn(changes: Changes) -> float:
    changed = changes.added + changes.modified + changes.removed
    return changed / max(changes.documents + changes.removed, 1)


def _share(arm: ArmReport | None, slice_: str, metric: str) -> float | None:
    figure = arm.slices.get(slice_, {}).get(metric) if arm else None
    return figure.value if figure else None


def _least(floor: float, champion: float | None, facts: Facts, config: GateConfig) -> float | None:
    """Return the floor or what the champion reaches less the margin, whichever is higher; None if it is unknown."""
    if facts.first:
        return floor
    champion = _known(champion)
    return None if champion is None else max(floor, champion - config.margin)


def _rule(name: str, value: float | None, threshold: float | None, *, agreed: bool = True) -> GateRule:
    """Return a rule held against its threshold; the numbers are rounded so that a loss of just a margin passes."""
    value, threshold = _known(value), _known(threshold)
    passed = False
    if value is not None and threshold is not None:
        passed = agreed and (value <= threshold if name in _CEILINGS else value >= threshold)
    return GateRule(name=name, value=value, threshold=threshold, passed=passed)


def _known(value: float | None) -> float | None:
    """Return a number without the dust of its arithmetic, None for one that is not finite."""
    return None if value is None or not math.isfinite(value) else round(value, _MOST_DECIMALS) + 0.0
