"""What becomes of Q&A rows when their documents are edited: from a folder, through a refresh, to a dataset."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from tests.pipelines.desk import PAY, SHIP, SHIP_ROW, Desk, key_of, open_desk, outcome, row
from tidegate.core.errors import DatasetInvalidError
from tidegate.indexing.snapshot import Snapshot
from tidegate.registry.file_store import FileStore


@pytest.fixture
def desk(folder: Path, store: FileStore) -> Desk:
    """Two documents and a row about each, committed once."""
    return open_desk(folder, store)


def fingerprint(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def test_a_row_whose_quote_still_stands_is_cleared_and_tied_to_the_new_document(desk: Desk) -> None:
    edited = PAY.replace("Ann", "Bob")
    desk.write(pay=edited)
    rows = desk.commit()
    assert outcome(rows["pay"]) == ("valid", ("cleared",))
    assert rows["pay"].anchors[0].fingerprint == fingerprint(edited)
    assert rows["ship"] == desk.first["ship"]
    desk.write(new="# New")
    assert outcome(desk.rows()["pay"]) == ("valid", ())


def test_only_documents_that_changed_are_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    texts = Snapshot.texts
    monkeypatch.setattr(Snapshot, "texts", lambda self, names: read.extend(names) or texts(self, names))
    desk.write(pay=PAY.replace("Ann", "Bob"), new="# New")
    desk.commit()
    assert read == ["pay.md"]


def test_a_row_under_a_renamed_heading_is_cleared_as_reworded(desk: Desk) -> None:
    desk.write(pay=PAY.replace("Terms", "Conditions"))
    assert outcome(desk.rows()["pay"]) == ("valid", ("cleared", "reworded"))


def test_a_row_whose_sentence_was_edited_is_stale_with_both_passages(desk: Desk) -> None:
    desk.write(pay=PAY.replace("30 days", "30 days, or ask"))
    row = desk.commit()["pay"]
    assert outcome(row) == ("stale", ())
    assert (row.anchors, row.now) == (desk.first["pay"].anchors, ("Pay in 30 days, or ask.",))
    assert row.anchors[0].passage == "Pay in 30 days."
    desk.write(new="# New")
    assert outcome(desk.rows()["pay"]) == ("stale", ()), "it stays stale until something is done"


def test_a_stale_or_dangling_row_is_in_no_split_and_comes_back_into_its_own(desk: Desk) -> None:
    desk.write(new="# New")
    rows, splits = desk.validate()
    assert (rows, set(splits)) == (desk.first, {"pay", "ship"})
    desk.write(pay=PAY.replace("30", "14"))
    (desk.folder / "ship.md").unlink()
    desk.write(third=SHIP.replace("2", "3"))
    desk.ask(row(), SHIP_ROW, row("third.md", "We ship in 3 days.", id="third", question="Third?", answer="3 days"))
    rows, fewer = desk.validate()
    assert [rows[name].status for name in ("pay", "ship", "third")] == ["stale", "dangling", "valid"]
    assert set(fewer) == {"third"}
    desk.write(pay=PAY, ship=SHIP)
    assert {desk.load().known[key_of(desk.first[name])].split for name in splits} == set(splits.values())
    back, again = desk.validate()
    assert back == desk.first | {"third": back["third"]}
    assert again == splits | fewer


def test_a_stale_row_whose_document_reverts_is_valid_as_before(desk: Desk) -> None:
    desk.write(pay=PAY.replace("30", "14"))
    assert outcome(desk.commit()["pay"]) == ("stale", ())
    desk.write(pay=PAY)
    assert desk.commit() == desk.first


def test_a_stale_row_whose_quote_comes_back_in_another_version_is_cleared(desk: Desk) -> None:
    desk.write(pay=PAY.replace("30", "14"))
    desk.commit()
    desk.write(pay=PAY.replace("Ann", "Bob"))
    assert outcome(desk.commit()["pay"]) == ("valid", ("cleared",))


def test_a_stale_row_that_was_corrected_is_tied_afresh(desk: Desk) -> None:
    edited = PAY.replace("30", "14")
    desk.write(pay=edited)
    desk.commit()
    desk.ask(row(quote="Pay in 14 days.", answer="14 days"), SHIP_ROW)
    corrected = desk.commit()["pay"]
    assert outcome(corrected) == ("valid", ())
    assert (corrected.anchors[0].units, corrected.anchors[0].fingerprint) == (("Payin14days.",), fingerprint(edited))
    assert key_of(corrected) == key_of(desk.first["pay"])
    desk.ask(row(quote="Pay in 15 days.", answer="15 days"), SHIP_ROW)
    assert desk.rows()["pay"].broken == (("quote_missing", "not in pay.md: Pay in 15 days."),)


def test_a_document_in_quarantine_keeps_its_last_good_version(desk: Desk) -> None:
    desk.write(pay=b"\xff\xfe\x00broken", ship=SHIP + " Or 3.")
    rows = desk.commit()
    assert rows["pay"] == desk.first["pay"]
    assert outcome(rows["ship"]) == ("valid", ("cleared",))


def test_a_row_with_several_pieces_of_evidence_needs_them_all(desk: Desk) -> None:
    evidence = [{"document": "pay.md", "quote": "Ask Ann."}, {"document": "ship.md", "quote": "We ship in 2 days."}]
    desk.ask(row(id="both", question="Who ships, and when?", answer="2 days", evidence=evidence), SHIP_ROW)
    assert len(desk.commit()["both"].documents) == 2
    desk.write(pay=PAY.replace("Ann", "Bob"))
    both = desk.commit()["both"]
    assert (outcome(both), both.now) == (("stale", ()), ("Ask Bob.", ""))
    (desk.folder / "pay.md").unlink()
    desk.write(ship=SHIP.replace("2", "3"))
    assert outcome(desk.rows()["both"]) == ("dangling", ())


def test_an_unanswerable_row_is_stale_once_its_document_may_answer_it(desk: Desk) -> None:
    refund = {"id": "refund", "question": "Is there a refund?", "answerable": False}
    desk.ask(row(), SHIP_ROW, {**refund, "evidence": [{"document": "pay.md"}]})
    assert desk.commit()["refund"].anchors[0].units == ("refund",)
    desk.write(pay=PAY.replace("Ann", "Bob"))
    assert outcome(desk.commit()["refund"]) == ("valid", ("cleared",))
    desk.write(pay=PAY + " A refund takes 3 days.")
    rows = desk.commit()
    assert outcome(rows["refund"]) == ("stale", ())
    assert outcome(rows["pay"]) == ("valid", ("cleared",))


def test_a_set_whose_rows_all_went_stale_is_refused_and_the_next_look_starts_from_the_last_dataset(desk: Desk) -> None:
    desk.write(pay="# Pay", ship="# Ship")
    with pytest.raises(DatasetInvalidError, match="rows is 0"):
        desk.validate()
    desk.write(pay=PAY, ship=SHIP)
    assert desk.rows() == desk.first


WRAPPED = "\n".join(
    [
        *(f"Boat {number} is red and has a name." for number in range(5)),
        "The limit is\nfive boats for\nevery owner who\nhas paid the\nfee of the\nyear.",
        *(f"Boat {number} is mine." for number in range(3)),
    ]
)
"""A paragraph that is cut into chunks inside its sixth sentence; with blue boats the cut is elsewhere."""

TABLE = "| Name | Size |\n|---|---|\n" + "\n".join(f"| part {number} | {number} mm |" for number in range(9))
TWO_TABLES = "| Part | Width |\n|---|---|\n| lid | 2 mm |\n\n| Part | Depth |\n|---|---|\n| lid | 4 mm |"


@pytest.mark.parametrize(
    ("name", "text", "edit", "quote", "expected"),
    [
        ("a.txt", "Contents\n\nFive boats.", ("Contents", "Index"), "Five boats.", ("valid", ("cleared",))),
        ("b.md", WRAPPED, ("red", "blue"), "every owner who has paid the fee", ("valid", ("cleared",))),
        ("c.md", TWO_TABLES, ("Width", "Breadth"), "4 mm", ("valid", ("cleared",))),
        ("d.md", f"{TABLE}\n\nMore.", ("More", "Less"), TABLE, ("valid", ("cleared",))),
        ("e.md", WRAPPED, ("The limit", "No limit"), "every owner who has paid the fee", ("stale", ())),
    ],
)
def test_units_do_not_depend_on_how_their_document_is_cut_into_chunks(
    folder: Path,
    store: FileStore,
    name: str,
    text: str,
    edit: tuple[str, str],
    quote: str,
    expected: tuple[str, tuple[str, ...]],
) -> None:
    desk = open_desk(folder, store, chunking={"max_tokens": 32, "min_tokens": 0})
    (desk.folder / name).write_text(text)
    desk.refresh()
    desk.ask(row(name, quote, answer=quote), SHIP_ROW)
    desk.commit()
    (desk.folder / name).write_text(text.replace(*edit))
    desk.refresh()
    assert outcome(desk.rows()["pay"]) == expected
