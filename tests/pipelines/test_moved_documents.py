"""What becomes of Q&A rows when their documents move, go, come back and are copied, and what their names mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.desk import PAY, SHIP, SHIP_ROW, Desk, key_of, open_desk, outcome, row
from tidegate.registry.file_store import FileStore


@pytest.fixture
def desk(folder: Path, store: FileStore) -> Desk:
    """Two documents and a row about each, committed once."""
    return open_desk(folder, store)


def test_a_moved_document_keeps_its_key_and_its_rows(desk: Desk) -> None:
    (desk.folder / "terms").mkdir()
    (desk.folder / "pay.md").rename(desk.folder / "terms" / "money.md")
    desk.refresh()
    moved = desk.commit()["pay"]
    assert outcome(moved) == ("valid", ("moved",))
    assert key_of(moved) == key_of(desk.first["pay"])
    assert moved.anchors[0].path == "terms/money.md"
    desk.write(new="# New")
    assert outcome(desk.rows()["pay"]) == ("valid", ()), "it is reported once"


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        (PAY.replace("Ann", "Bob"), ("valid", ("cleared", "moved"))),
        (PAY.replace("30", "14"), ("stale", ("moved",))),
    ],
)
@pytest.mark.parametrize("is_moved_first", [True, False])
def test_a_document_moved_and_edited_with_no_validation_between_is_followed(
    desk: Desk, is_moved_first: bool, edited: str, expected: tuple[str, tuple[str, ...]]
) -> None:
    if is_moved_first:
        (desk.folder / "pay.md").rename(desk.folder / "money.md")
        desk.refresh()
        desk.write(money=edited)
    else:
        desk.write(pay=edited)
        (desk.folder / "pay.md").rename(desk.folder / "money.md")
        desk.refresh()
    rows = desk.commit()
    assert (outcome(rows["pay"]), key_of(rows["pay"])) == (expected, key_of(desk.first["pay"]))
    assert rows["ship"] == desk.first["ship"]


def test_a_document_moved_and_edited_in_one_refresh_is_another_document(desk: Desk) -> None:
    (desk.folder / "pay.md").unlink()
    desk.write(money=PAY.replace("Ann", "Bob"))
    assert outcome(desk.rows()["pay"]) == ("dangling", ())


def test_a_new_document_where_a_moved_one_was_has_a_key_of_its_own(desk: Desk) -> None:
    (desk.folder / "pay.md").rename(desk.folder / "money.md")
    desk.refresh()
    desk.write(pay="# Pay\n\nIn cash.")
    desk.ask(row(), SHIP_ROW, row(quote="In cash.", id="cash", question="How do I pay?", answer="In cash"))
    rows = desk.commit()
    assert outcome(rows["pay"]) == ("valid", ("moved",))
    assert outcome(rows["cash"]) == ("valid", ())
    assert key_of(rows["pay"]) == key_of(desk.first["pay"])
    assert len({key_of(item) for item in rows.values()}) == 3


def test_rows_of_a_deleted_document_dangle_until_it_is_back(desk: Desk) -> None:
    (desk.folder / "pay.md").unlink()
    desk.refresh()
    gone = desk.commit()["pay"]
    assert (outcome(gone), gone.anchors, gone.now) == (("dangling", ()), desk.first["pay"].anchors, ())
    desk.write(pay=PAY)
    assert desk.rows() == desk.first


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("pay", PAY.replace("Ann", "Bob"), ("valid", ("cleared",))),
        ("pay", PAY.replace("30", "14"), ("stale", ())),
        ("money", PAY, ("valid", ("moved",))),
        ("money", PAY.replace("Ann", "Bob"), ("dangling", ())),
    ],
)
def test_a_deleted_document_is_known_again_by_its_path_or_its_bytes(
    desk: Desk, name: str, text: str, expected: tuple[str, tuple[str, ...]]
) -> None:
    (desk.folder / "pay.md").unlink()
    desk.refresh()
    desk.commit()
    desk.write(**{name: text})
    back = desk.commit()["pay"]
    assert (outcome(back), key_of(back)) == (expected, key_of(desk.first["pay"]))


def test_a_broken_file_at_the_path_of_a_deleted_document_is_not_taken_for_it(desk: Desk) -> None:
    (desk.folder / "pay.md").unlink()
    desk.refresh()
    desk.write(pay=b"\xff\xff")
    assert outcome(desk.rows()["pay"]) == ("dangling", ())
    (desk.folder / "pay.md").unlink()
    desk.write(money=PAY)
    assert outcome(desk.rows()["pay"]) == ("valid", ("moved",))


def test_a_copy_changes_no_row_and_takes_over_when_the_original_goes(desk: Desk) -> None:
    desk.write(copy=PAY)
    assert desk.commit() == desk.first
    desk.write(pay=PAY.replace("30", "14"))
    assert outcome(desk.rows()["pay"]) == ("stale", ())
    desk.write(pay=PAY)
    (desk.folder / "pay.md").unlink()
    desk.refresh()
    row = desk.commit()["pay"]
    assert (outcome(row), row.anchors[0].path) == (("valid", ("moved",)), "copy.md")
    assert key_of(row) == key_of(desk.first["pay"])


def test_copies_that_rows_name_have_keys_of_their_own_and_one_split(desk: Desk) -> None:
    desk.write(copy=PAY)
    desk.ask(row(), SHIP_ROW, row("copy.md", "Ask Ann.", id="help", question="Whom do I ask?", answer="Ann"))
    rows, splits = desk.validate()
    pay, copy = key_of(rows["pay"]), key_of(rows["help"])
    assert pay != copy
    assert splits["help"] == splits["pay"]
    desk.write(copy="# Help\n\nAsk Ann.")
    loaded = desk.load()
    assert loaded.copies == {}
    assert outcome({row.id: row for row in loaded.rows}["help"]) == ("valid", ("cleared", "reworded"))


def test_two_equal_documents_that_move_at_once_stay_two(desk: Desk) -> None:
    desk.write(copy=PAY)
    desk.ask(row(), SHIP_ROW, row("copy.md", "Ask Ann.", id="help", question="Whom do I ask?", answer="Ann"))
    before = desk.commit()
    for name in ("pay", "copy"):
        (desk.folder / f"{name}.md").rename(desk.folder / f"{name}-2.md")
    desk.refresh()
    rows = desk.commit()
    assert {outcome(rows[name]) for name in ("pay", "help")} == {("valid", ("moved",))}
    assert [key_of(rows[name]) for name in ("pay", "help")] == [key_of(before[name]) for name in ("pay", "help")]
    paths = {key_of(rows[name]): rows[name].anchors[0].path for name in ("pay", "help")}
    assert [paths[key] for key in sorted(paths)] == ["copy-2.md", "pay-2.md"]
    (desk.folder / "pay-2.md").unlink()
    desk.refresh()
    after = {row.anchors[0].path: outcome(row) for row in desk.rows().values()}
    assert (after["pay-2.md"], after["copy-2.md"]) == (("dangling", ()), ("valid", ()))


@pytest.mark.parametrize(
    ("name", "document", "broken"),
    [
        ("guides/start.md", "guides/start.md", ()),
        ("start.md", "guides/start.md", ()),
        ("site/v2/guides/start.md", "guides/start.md", ()),
        ("v2/pay.md", "pay.md", ()),
        ("index.md", None, (("document_ambiguous", "index.md may be a/index.md, b/index.md"),)),
        ("a/index.md", "a/index.md", ()),
        ("v2/b/index.md", "b/index.md", ()),
        ("art.md", None, (("document_missing", "art.md is not in the snapshot"),)),
        ("bad.md", None, (("document_missing", "bad.md is in quarantine and was never indexed"),)),
    ],
)
def test_evidence_names_a_document_by_its_path_or_an_unambiguous_ending(
    desk: Desk, name: str, document: str | None, broken: tuple[tuple[str, str], ...]
) -> None:
    for folder in ("guides", "a", "b"):
        (desk.folder / folder).mkdir()
    desk.write(**{"guides/start": PAY, "a/index": PAY + "A", "b/index": PAY + "B", "bad": b"\xff\xff"})
    desk.ask(row(name))
    tied = desk.rows()["pay"]
    assert [anchor.path if anchor else None for anchor in tied.anchors] == [document]
    assert tied.broken == broken


def test_a_row_tied_by_an_ending_stays_with_its_document_when_the_ending_becomes_ambiguous(desk: Desk) -> None:
    desk.ask(row("v1/pay.md"), SHIP_ROW)
    before = desk.commit()
    (desk.folder / "v1").mkdir()
    desk.write(**{"v1/pay": "# Old"})
    assert desk.commit() == before


@pytest.mark.parametrize(
    ("renames", "paths"),
    [
        pytest.param(["pay > x", "ship > pay", "x > ship"], ("ship.md", "pay.md"), id="exchanged"),
        pytest.param(["ship > third", "pay > ship"], ("ship.md", "third.md"), id="one after another"),
        pytest.param(["ship > third", "pay > fourth"], ("fourth.md", "third.md"), id="both"),
    ],
)
def test_documents_that_take_each_others_names_keep_their_keys(
    desk: Desk, renames: list[str], paths: tuple[str, str]
) -> None:
    for rename in renames:
        old, new = rename.split(" > ")
        (desk.folder / f"{old}.md").rename(desk.folder / f"{new}.md")
    desk.refresh()
    rows = desk.commit()
    for name, path in zip(("pay", "ship"), paths, strict=True):
        assert (outcome(rows[name]), key_of(rows[name])) == (("valid", ("moved",)), key_of(desk.first[name]))
        assert rows[name].anchors[0].path == path


def test_a_document_that_gave_its_name_to_a_new_version_is_followed(desk: Desk) -> None:
    (desk.folder / "pay.md").rename(desk.folder / "pay-old.md")
    desk.write(pay=PAY.replace("30", "14"))
    moved = desk.commit()["pay"]
    assert (outcome(moved), moved.anchors[0].path) == (("valid", ("moved",)), "pay-old.md")


@pytest.mark.parametrize("is_kept", [False, True])
def test_rows_of_a_document_that_another_one_overwrote_dangle(desk: Desk, is_kept: bool) -> None:
    (desk.folder / "ship.md").replace(desk.folder / "pay.md")
    if is_kept:
        (desk.folder / "ship.md").write_text(SHIP)
    desk.refresh()
    rows = desk.commit()
    assert outcome(rows["pay"]) == ("dangling", ())
    assert outcome(rows["ship"]) == ("valid", () if is_kept else ("moved",))
    assert key_of(rows["ship"]) == key_of(desk.first["ship"])
    desk.write(pay=PAY, ship=SHIP)
    assert {name: outcome(row)[0] for name, row in desk.rows().items()} == {"pay": "valid", "ship": "valid"}
