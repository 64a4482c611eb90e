"""Bind what may serve into a bundle: the newest verified snapshot, an adapter, and all that decides an answer.

Without an adapter a bundle is the index alone: it serves passages, and no base model is part of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tidegate.core import keys
from tidegate.core.adapter_records import AdapterHead, AdapterManifest
from tidegate.core.canonical import canonical_json
from tidegate.core.errors import ApprovalStaleError, ConfigInvalidError, ReleaseMissingError, suggest
from tidegate.core.protocols import ArtifactStore
from tidegate.core.publishing import create_once
from tidegate.core.records import AccessPolicy, AdapterReference, Bundle, PromptIdentity, Release
from tidegate.core.stored_records import read_checked
from tidegate.pipelines.asking import greedy
from tidegate.pipelines.workspace import Workspace
from tidegate.prompting.renderer import ADAPTER_PROMPT, BASE_PROMPTS, CITING_PROMPT, ClosedBook, PromptSet
from tidegate.registry.adapters import read_adapter, read_adapter_head
from tidegate.registry.channel import Channel
from tidegate.registry.datasets import read_dataset, read_dataset_head
from tidegate.registry.heads import read_head, read_manifest
from tidegate.registry.releases import read_release
from tidegate.registry.runs import Run
from tidegate.training.base_model import find_base_model

_STAGED, _ASKED = "composition.json", "asked"


@dataclass(frozen=True)
class Composition:
    """A bundle that may become a release, and the state that it was composed against."""

    bundle: Bundle
    dataset: str | None
    """The newest dataset; None where nothing can be measured by questions."""
    champion: str | None
    """Id of the release that serves."""
    serving: Release | None
    """Its record."""
    base_entry: str | None
    left_aside: str = ""
    """Why the newest adapter is not part of it; '' if it is, or if there is none."""

    @property
    def is_champion(self) -> bool:
        """Whether the same bundle serves already, so that nothing is left to do."""
        return self.serving is not None and self.serving.bundle == self.bundle

    @property
    def new_adapter(self) -> bool:
        """Whether it brings an adapter that the champion does not have."""
        before = self.serving.bundle.adapter if self.serving else None
        return self.bundle.adapter is not None and self.bundle.adapter != before


def compose_bundle(workspace: Workspace, *, reconsider: bool = False) -> Composition:
    """Compose the newest snapshot with the newest adapter that may be proposed, else with the champion's.

    ``reconsider`` proposes an adapter although it was refused before. Raises ``ReleaseMissingError`` before the first
    snapshot.
    """
    store, corpus = workspace.store, workspace.corpus
    head = read_head(store, corpus)
    if head.snapshot is None:
        raise ReleaseMissingError(f"corpus {corpus} has no snapshot to release")
    state = Channel(store, corpus).read()
    serving = read_release(store, corpus, state.release) if state.release else None
    dataset = read_dataset_head(store, corpus).dataset
    index = _index_bundle(workspace, head.snapshot)
    if workspace.config.qa.path is None or dataset is None:
        return Composition(index, None, state.release, serving, state.entry)
    adapter, prompts, aside = _choose_adapter(workspace, serving.bundle if serving else None, reconsider=reconsider)
    if adapter is None:
        return Composition(index, dataset, state.release, serving, state.entry, aside)
    create_once(store, keys.prompts(corpus, prompts.digest), prompts.to_bytes())
    access, prompt = workspace.config.access, workspace.config.prompt
    bundle = index.model_copy(
        update={
            "adapter": adapter,
            "base_model": find_base_model(workspace.config.base_model.model).identity,
            "prompt": PromptIdentity(renderer=prompts.digest, refusal=prompts.adapter.refusal),
            "decoding": greedy(prompt.max_answer_tokens),
            "access_policy": AccessPolicy(key=access.key, default_groups=access.default_groups),
        }
    )
    return Composition(bundle, dataset, state.release, serving, state.entry, aside)


def waits_for_dataset(workspace: Workspace, composition: Composition) -> bool:
    """Tell whether the newest dataset was tied to another snapshot than the composition's."""
    newest = read_dataset_head(workspace.store, workspace.corpus).dataset
    if workspace.config.qa.path is None or newest is None:
        return False
    return read_dataset(workspace.store, workspace.corpus, newest).snapshot != composition.bundle.snapshot


def prompts_of(workspace: Workspace, bundle: Bundle) -> PromptSet:
    """Return the prompts that a bundle names; those of the settings if it names none."""
    if bundle.prompt is None:
        return configured_prompts(workspace)
    digest = bundle.prompt.renderer
    return PromptSet.from_bytes(read_checked(workspace.store, keys.prompts(workspace.corpus, digest), digest))


def configured_prompts(workspace: Workspace) -> PromptSet:
    """Return the prompts of the settings; raise ``ConfigInvalidError`` for an unknown ``evaluation.base_prompt``."""
    config = workspace.config
    named = {prompt.name: prompt for prompt in BASE_PROMPTS}
    wanted = config.evaluation.base_prompt
    if wanted not in named:
        raise ConfigInvalidError(f"evaluation.base_prompt is {wanted!r}{suggest(wanted, named)}")
    cites = config.training is not None and config.training.rows.cite
    return PromptSet(
        CITING_PROMPT if cites else ADAPTER_PROMPT,
        named[wanted],
        ClosedBook(),
        config.prompt.passages,
        config.prompt.window_tokens,
    )


def note_refused(store: ArtifactStore, corpus: str, adapter: str, why: str, when: str) -> None:
    """Remember that an adapter was not promoted, so that it is not proposed again by itself."""
    store.put(keys.verdict(corpus, adapter), json.dumps({"why": why, "when": when}).encode())


def why_refused(store: ArtifactStore, corpus: str, adapter: str) -> str:
    """Return why an adapter was not promoted; '' if it was never refused."""
    stored = store.read(keys.verdict(corpus, adapter))
    if stored is None:
        return ""
    try:
        found = json.loads(stored.data)
        return f"{found['why']} ({found['when']})"
    except (ValueError, KeyError, TypeError):
        return ""  # a damaged note costs asking once more


def _index_bundle(workspace: Workspace, snapshot: str) -> Bundle:
    manifest = read_manifest(workspace.store, workspace.corpus, snapshot)
    return Bundle(
        corpus=workspace.corpus,
        snapshot=snapshot,
        content_root=manifest.content_root,
        adapter=None,
        base_model=None,
        embedder=manifest.embedder,
        retrieval=workspace.retrieval,
        prompt=None,
        decoding=None,
        access_policy=None,
    )


def _choose_adapter(
    workspace: Workspace, before: Bundle | None, *, reconsider: bool
) -> tuple[AdapterReference | None, PromptSet, str]:
    """Return (adapter, prompts, why the newest adapter is left aside)."""
    store, corpus, prompts = workspace.store, workspace.corpus, configured_prompts(workspace)
    newest = read_adapter_head(store, corpus).head
    kept = before.adapter if before else None
    aside = ""
    if newest is not None and (kept is None or newest.key != kept.key):
        manifest = read_adapter(store, corpus, newest.key)
        aside = _why_aside(workspace, newest, manifest, prompts, reconsider=reconsider)
        if not aside:
            return AdapterReference(digest=newest.adapter, key=newest.key), prompts, ""
    if kept is None or before is None:
        return None, prompts, aside
    if before.base_model != find_base_model(workspace.config.base_model.model).identity:
        raise ConfigInvalidError(
            f"the adapter {kept.key[:12]} that serves belongs to another base model than base_model.model names",
            next_action="let a release without an adapter serve (tidegate rollback), or name the former model again",
        )
    # The champion's adapter goes on with the prompt that it was trained with.
    return kept, prompts_of(workspace, before), aside


def _why_aside(
    workspace: Workspace, newest: AdapterHead, manifest: AdapterManifest, prompts: PromptSet, *, reconsider: bool
) -> str:
    config, name = workspace.config, f"adapter {newest.key[:12]}"
    if config.promotion.adapter_policy == "never":
        return f"{name} is ready, but promotion.adapter_policy is never"
    if manifest.base_model != find_base_model(config.base_model.model).identity:
        return f"{name} was trained for base model {manifest.base_model.id}, base_model.model is another one now"
    shown = prompts.adapter.digest(window_tokens=prompts.window_tokens, passages=prompts.passages)
    if manifest.renderer != shown:
        return f"{name} was trained with another prompt than the settings give now"
    if reconsider:
        return ""
    refused = why_refused(workspace.store, workspace.corpus, newest.key)
    if refused:
        return f"{name} was not promoted: {refused}"
    store, corpus = workspace.store, workspace.corpus
    left = [read_release(store, corpus, release).bundle.adapter for release in Channel(store, corpus).held()]
    rolled_back = any(adapter is not None and adapter.key == newest.key for adapter in left)
    return f"{name} was rolled back; only a person may propose it again (reconsider)" if rolled_back else ""


def stage_composition(run: Run, composition: Composition) -> None:
    """Keep a composition for the later tasks of its run.

    Raises ``ApprovalStaleError`` if the run has asked for the approval of another one: its form would lie.
    """
    data = _staged_bytes(composition)
    if run.has_staged(_ASKED) and run.staged(_STAGED) != data:
        raise ApprovalStaleError(
            f"this run asked for the approval of bundle {_staged_bundle(run)[:12]}, the newest is"
            f" {composition.bundle.digest[:12]}",
            next_action="trigger promote_release again: a new run evaluates and asks anew",
        )
    run.stage(_STAGED, data)


def staged_composition(workspace: Workspace, run: Run) -> Composition:
    """Return the composition of a run; raise ``StageMissingError`` if an earlier task left none."""
    found = json.loads(run.staged(_STAGED))
    serving = read_release(workspace.store, workspace.corpus, found["champion"]) if found["champion"] else None
    return Composition(
        Bundle.model_validate(found["bundle"]),
        found["dataset"],
        found["champion"],
        serving,
        found["base_entry"],
        found["left_aside"],
    )


def bind_to_form(run: Run, release: str) -> None:
    """Remember which release the form of this run shows: from now on it has one candidate."""
    run.stage(_ASKED, release.encode())


def shown_on_form(run: Run) -> str:
    """Return the release that the form of this run shows."""
    return run.staged(_ASKED).decode()


def _staged_bytes(composition: Composition) -> bytes:
    return canonical_json(
        {
            "bundle": composition.bundle.model_dump(mode="json"),
            "dataset": composition.dataset,
            "champion": composition.champion,
            "base_entry": composition.base_entry,
            "left_aside": composition.left_aside,
        }
    )


def _staged_bundle(run: Run) -> str:
    return Bundle.model_validate(json.loads(run.staged(_STAGED))["bundle"]).digest
