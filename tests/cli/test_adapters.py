"""``tidegate adapters affected``: which adapters learnt from rows that went stale, or from what must be forgotten."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.cli.harbour import copy_to, decide, done, edit, head, links, prepare, statuses, store_of, update, used
from tests.pipelines.basins import page, row, save, ten_rows
from tidegate.core import keys
from tidegate.core.examples import Example
from tidegate.core.records import TrainedOn
from tidegate.registry.file_store import FileStore

FIRST, SECOND = f"{'a' * 64}.{'1' * 8}", f"{'b' * 64}.{'2' * 8}"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def pages(prepared: Path, home: Path) -> Path:
    """Ten pages and ten rows; the first adapter saw six of both, the second the rest."""
    pages = copy_to(home, prepared)
    names = sorted(links(pages))
    train(pages, FIRST, names[:6])
    train(pages, SECOND, names[6:])
    (store_of(pages) / "adapters" / "unfinished").mkdir()
    return pages


def train(pages: Path, adapter: str, names: list[str]) -> None:
    """Note that an adapter has seen these rows and their pages, as they are now."""
    rows = {name: Example.from_json(used(pages, name)).stated for name in names}
    seen = TrainedOn(
        dataset=head(pages),
        snapshot=json.loads((store_of(pages) / "heads" / "snapshot.json").read_text())["snapshot"],
        rows=rows,
        documents={f"{name}.md": hashlib.sha256((pages / f"{name}.md").read_bytes()).hexdigest() for name in names},
    )
    FileStore(store_of(pages).parent).put(keys.trained_on("harbour", adapter), seen.to_bytes())


def test_while_all_rows_hold_no_adapter_is_affected(pages: Path, cli: Call) -> None:
    assert cli("adapters", "affected").out == "no adapter is affected\n"
    assert cli("adapters", "affected", "--json").out == ""


def test_adapters_trained_on_rows_that_went_stale_are_listed_with_the_rows(pages: Path, cli: Call) -> None:
    dataset = head(pages)
    edit(pages, cli)
    assert cli("adapters", "affected", "--json").json == {
        "adapter": FIRST,
        "dataset": dataset,
        "rows": {"anchor": "stale", "buoy": "stale", "canal": "stale", "dinghy": "dangling"},
        "documents": [],
    }
    assert cli("adapters", "affected").out.splitlines() == [
        f"adapter {'a' * 12}, dataset {dataset[:12]}",
        "  row anchor is stale",
        "  row buoy is stale",
        "  row canal is stale",
        "  row dinghy is dangling",
    ]


def test_an_adapter_is_affected_by_what_it_learnt_and_not_by_what_the_row_says_beside(pages: Path, cli: Call) -> None:
    rows = {item["id"]: item for item in ten_rows()}
    rows["anchor"] |= {"author": "Ada", "tags": ["room"]}
    rows["buoy"] |= {"question": "How many boats does the buoy take?"}
    rows["canal"] |= {"evidence": [{"document": "canal.md", "quote": "room for 14 boats"}]}
    del rows["dinghy"]
    save(pages, list(rows.values()))
    done(cli("qa", "validate"))
    assert statuses(pages) == {"canal": "failed"}
    train(pages, SECOND, ["buoy"])
    assert {item["adapter"]: item["rows"] for item in cli("adapters", "affected", "--json").rows} == {
        FIRST: {"buoy": "changed", "canal": "failed", "dinghy": "removed"}
    }


def test_adapters_trained_on_a_document_to_forget_are_listed(pages: Path, cli: Call) -> None:
    found = cli("adapters", "affected", "--document", "anchor.md", "--document", "jetty.md", "--json").rows
    assert [(item["adapter"], item["rows"], item["documents"]) for item in found] == [
        (FIRST, {}, ["anchor.md"]),
        (SECOND, {}, ["jetty.md"]),
    ]
    assert cli("adapters", "affected", "--document", "jetty.md").out.splitlines() == [
        f"adapter {'b' * 12}, dataset {head(pages)[:12]}",
        "  document jetty.md must be forgotten",
    ]


@pytest.mark.parametrize("named", ["jetty.md", "pier.md"])
def test_a_document_to_forget_is_known_by_its_old_name_and_by_its_text(named: str, pages: Path, cli: Call) -> None:
    (pages / "jetty.md").rename(pages / "pier.md")
    update(pages, cli)
    found = cli("adapters", "affected", "--document", named, "--json").json
    assert (found["adapter"], found["documents"]) == (SECOND, ["jetty.md"])


def test_a_document_to_forget_is_found_after_it_changed(pages: Path, cli: Call) -> None:
    (pages / "jetty.md").write_text(page("jetty", 20) + "\nMore.\n")
    update(pages, cli)
    assert cli("adapters", "affected", "--document", "jetty.md", "--json").json["documents"] == ["jetty.md"]


def test_an_adapter_stays_affected_when_a_row_that_went_stale_is_reviewed_unless_the_answer_stands(
    pages: Path, cli: Call
) -> None:
    edit(pages, cli)
    cli("qa", "stale", "--export", "review.jsonl")
    kept, mended = {"decision": "keep"}, {"decision": "keep", **row("canal", 77)}
    decide(Path("review.jsonl"), anchor={"decision": "drop"}, buoy=kept, canal=mended)
    done(cli("qa", "review", "review.jsonl"))
    assert statuses(pages) == {"anchor": "dropped", "dinghy": "dangling"}
    assert cli("adapters", "affected", "--json").json["rows"] == {
        "anchor": "dropped",
        "canal": "changed",
        "dinghy": "dangling",
    }
