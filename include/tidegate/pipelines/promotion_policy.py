"""What the corpus file lets serve: the policy of a release, the settings that it passed under, and what is held."""

from __future__ import annotations

from tidegate.core.canonical import digest_of
from tidegate.core.config import Policy
from tidegate.core.records import AdapterReference, Bundle, Evaluation, Release
from tidegate.pipelines.compose_release import Composition
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.channel import Channel
from tidegate.registry.releases import read_release


def policy_of(workspace: Workspace, release: Release, before: Release | None) -> tuple[Policy, str]:
    """Return the policy of a release that would replace ``before``, and its key in the corpus file.

    It is that of adapters where another adapter would answer than now, or the same one that was left aside, or none any
    more; else it is that of an index.
    """
    promotion = workspace.config.promotion
    adapter = before.bundle.adapter if before else None
    if release.bundle.adapter != adapter or _speaking(release) != _speaking(before):
        return promotion.adapter_policy, "promotion.adapter_policy"
    return promotion.policy, "promotion.policy"


def policy_digest(workspace: Workspace, *, evaluated: bool) -> str:
    """Return the digest of the policy that a release was proposed under."""
    promotion = workspace.config.promotion
    if not evaluated:
        return digest_of({"promotion": {"policy": promotion.policy}})
    asked = promotion.model_dump(mode="json", include={"policy", "adapter_policy", "second_approver"})
    return digest_of({"promotion": asked, "gate": workspace.config.gate.model_dump(mode="json")})


def passed(evaluation: Evaluation) -> bool:
    """Tell whether an evaluation passed every rule of its gate; one without rules did not."""
    return bool(evaluation.rules) and all(rule.passed for rule in evaluation.rules or ())


def failed_index_rules(workspace: Workspace, composition: Composition) -> list[str]:
    """Return the rules that an index fails which no question measures, though the corpus has a Q&A set.

    A first release, and a corpus without a Q&A set, has none.
    """
    if workspace.config.qa.path is None or composition.serving is None:
        return []
    from tidegate.evaluation.gate import index_rules
    from tidegate.pipelines.compare_releases import changes_between
    from tidegate.pipelines.freshness import freshness_of

    snapshot = composition.bundle.snapshot
    changes = changes_between(workspace, snapshot, None, composition.serving.bundle.snapshot, None)
    rules = index_rules(freshness_of(workspace, snapshot), changes, workspace.config.gate, first=False)
    return [rule.name for rule in rules if not rule.passed]


def is_held(workspace: Workspace, bundle: Bundle) -> bool:
    """Tell whether a rollback left a bundle, under whatever evaluation: no policy may promote it again."""
    store, corpus = workspace.store, workspace.corpus
    return any(read_release(store, corpus, release).bundle == bundle for release in Channel(store, corpus).held())


def _speaking(release: Release | None) -> AdapterReference | None:
    """Return the adapter that answers under a release; None where the base model or nobody does."""
    return release.bundle.adapter if release and release.serving_mode != "rag" else None
