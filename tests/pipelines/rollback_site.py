"""A corpus with three releases, for tests that roll back: what served, and which events tell of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import make_workspace, refresh, settle
from tidegate.core.event_records import Actor, Event
from tidegate.core.protocols import ArtifactStore
from tidegate.pipelines.rollback_release import Rollback, rollback
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.channel import Channel, Promotion
from tidegate.registry.events import read_events
from tidegate.registry.file_store import FileStore

LEAD = Actor(id="7", name="ml_lead")


@dataclass
class Site:
    """A corpus with three releases, oldest first; the newest serves."""

    workspace: Workspace
    releases: list[str]

    @property
    def channel(self) -> Channel:
        return Channel(self.workspace.store, "test")

    def served(self) -> list[str]:
        """The history as ``promote 1``, newest first."""
        return [f"{entry.op} {self.releases.index(entry.release) + 1}" for _, entry in self.channel.history()]

    def promote(self, number: int) -> None:
        """Promote a release again, as a person may."""
        release = self.releases[number - 1]
        assert self.channel.apply(Promotion("promote", release, self.channel.read().entry, approval="e" * 64))

    def rollback(self, number: int | None, **asked: object) -> Rollback:
        wanted = None if number is None else self.releases[number - 1]
        return rollback(self.workspace, wanted, "worse", LEAD, **{"run": "r", **asked})

    def events(self) -> list[tuple[str, str, str]]:
        """Who rolled back for which reason, newest first."""
        return [(event.who.name, event.kind, event.why) for event in rollbacks(self.workspace.store)]


def rollbacks(store: ArtifactStore) -> list[Event]:
    found = read_events(store, "test", 50)
    assert found.damaged == ()
    return [event for event in found.events if event.kind == "rolled_back"]


def make_site(folder: Path, store: ArtifactStore) -> Site:
    workspace, releases = make_workspace(folder, store), []
    for number in range(1, 4):
        (folder / f"{number}.md").write_text(f"# Page {number}\n\nWhat is known about {number}.\n")
        settle()
        refresh(workspace)
        releases.append(str(Channel(store, "test").read().release))
    return Site(workspace, releases)


def copy_of(made: Site, folder: Path, target: Path) -> Site:
    """Copy a corpus in a file store, so that a test may change it."""
    assert isinstance(made.workspace.store, FileStore)
    store = FileStore(shutil.copytree(made.workspace.store.root, target))
    return Site(make_workspace(folder, store), list(made.releases))
