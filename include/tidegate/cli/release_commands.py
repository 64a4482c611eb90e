"""The body of each command over releases: history, decisions, what changed between two, and the way back."""

from __future__ import annotations

import argparse
import getpass
import json
from dataclasses import asdict

from tidegate.cli import views
from tidegate.cli.commands import store_of
from tidegate.cli.output import note, say, short
from tidegate.core.event_records import Actor
from tidegate.core.home import corpora_folders, project_home
from tidegate.pipelines.corpora import choose_stored, stored_corpora, stored_workspace
from tidegate.pipelines.workspace import Workspace


def releases(options: argparse.Namespace) -> int:
    """Show the history of the champion channel."""
    from tidegate.pipelines.status import release_history

    store = store_of(options)
    held = stored_corpora(store)
    for corpus in held if held and not options.corpus else [choose_stored(store, options.corpus, held)]:
        history = release_history(store, corpus, options.limit)
        if options.json:
            for row in history:
                say(json.dumps({"corpus": corpus, **row}))
        else:
            views.show_history(corpus, history)
    return 0


def events(options: argparse.Namespace) -> int:
    """Show what was decided about a corpus."""
    from tidegate.registry.events import read_events

    store = store_of(options)
    corpus = choose_stored(store, options.corpus)
    found = read_events(store, corpus, options.limit)
    for damaged in found.damaged:
        note(f"left out: {damaged}")
    if options.json:
        for event in found.events:
            say(json.dumps(event.model_dump(mode="json")))
    else:
        views.show_events(corpus, found.events)
    return 0


def difference(options: argparse.Namespace) -> int:
    """Show what one release has otherwise than another."""
    from tidegate.pipelines.compare_releases import compare_releases
    from tidegate.pipelines.release_names import find_release

    workspace = _workspace(options)
    first, second = (
        find_release(workspace.store, workspace.corpus, wanted) for wanted in (options.first, options.second)
    )
    found = compare_releases(workspace, first, second)
    if options.json:
        say(json.dumps({"corpus": workspace.corpus, **asdict(found)}))
    else:
        views.show_difference(found)
    return 0


def rollback(options: argparse.Namespace) -> int:
    """Let an earlier release serve again."""
    from tidegate.pipelines import rollback_release

    workspace = _workspace(options)
    user = getpass.getuser()
    done = rollback_release.rollback(workspace, options.to, options.reason, Actor(id=user, name=user))
    if options.json:
        say(json.dumps({"corpus": workspace.corpus, **asdict(done)}))
    elif done.outcome == "rolled_back":
        say(f"corpus {workspace.corpus} served release {short(done.before)}")
        say(f"corpus {workspace.corpus} serves release {short(done.serves)} now ({done.version})")
    else:
        say(f"corpus {workspace.corpus} serves release {short(done.serves)} already ({done.version}): nothing was done")
    return 0


def _workspace(options: argparse.Namespace) -> Workspace:
    store, home = store_of(options), project_home()
    return stored_workspace(store, choose_stored(store, options.corpus), corpora_folders(home), home)


def promote(options: argparse.Namespace) -> int:
    """Measure what is newest, hold it against the gate, and promote it if the policy lets it."""
    import logging

    from tidegate.core.progress import ProgressLog
    from tidegate.evaluation.report_markdown import verdict_lines
    from tidegate.pipelines.evaluate_release import read_evaluated
    from tidegate.pipelines.promote_release import compose, promote_composed
    from tidegate.pipelines.release_report import rule_lines

    logging.getLogger("tidegate").setLevel(logging.INFO)
    workspace = _workspace(options)
    composition = compose(workspace, reconsider=options.reconsider)
    if composition.left_aside:
        note(composition.left_aside)
    if composition.is_champion:
        say(json.dumps({"release": composition.champion, "outcome": "stop"}) if options.json else "nothing is newer")
        return 0
    candidate = promote_composed(workspace, composition, lambda stage: ProgressLog(stage, "answers"))
    if options.json:
        say(json.dumps(asdict(candidate)))
        return 0
    evaluated = read_evaluated(workspace, candidate.evaluation) if candidate.evaluation else None
    if evaluated:
        say("\n".join([*rule_lines(evaluated.report), *verdict_lines(evaluated.report, candidate.release)]))
    say(candidate.why)
    return 0
