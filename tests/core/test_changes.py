from tidegate.core.changes import ChangeSet, KnownDocument, diff, suspects
from tidegate.core.documents import ListedDocument, Listing


def listed(*names: str, problem: str = "", hint: str | None = "h") -> tuple[ListedDocument, ...]:
    return tuple(ListedDocument(name, 1, hint, problem) for name in names)


def known(content: str, *, current: bool = True) -> KnownDocument:
    return KnownDocument(content, content, current)


def test_every_kind_of_change_is_found_once() -> None:
    before = {"same": known("1"), "edited": known("2"), "gone": known("3"), "old-name": known("4")}
    listing = Listing(listed("same", "edited", "new", "new-name"))
    changes = diff(listing, before, {"edited": "2b", "new": "5", "new-name": "4"})
    assert changes == ChangeSet(
        added=("new",), modified=("edited",), moved=(("old-name", "new-name"),), deleted=("gone",), unchanged=1
    )


def test_of_two_gone_documents_with_equal_bytes_each_moves_once() -> None:
    before = {"a": known("x"), "b": known("x")}
    changes = diff(Listing(listed("c", "d", "e")), before, {"c": "x", "d": "x", "e": "x"})
    assert changes.moved == (("a", "c"), ("b", "d"))
    assert changes.added == ("e",)
    assert changes.deleted == ()


def test_absence_below_a_folder_that_could_not_be_listed_is_no_deletion() -> None:
    before = {"locked/a": known("1"), "open/b": known("2")}
    assert diff(Listing((), unlisted=("locked/",)), before, {}).deleted == ("open/b",)
    assert diff(Listing((), unlisted=("",)), before, {}).deleted == ()


def test_a_broken_document_is_no_source_of_a_move() -> None:
    before = {"a": KnownDocument(seen="bad", sha256="good", current=True)}
    changes = diff(Listing(listed("b")), before, {"b": "good"})
    assert (changes.moved, changes.added, changes.deleted) == ((), ("b",), ("a",))


def test_only_what_no_hint_vouches_for_is_suspect() -> None:
    before = {"same": known("1"), "touched": known("2"), "racy": known("3"), "outdated": known("4", current=False)}
    listing = Listing(
        (
            *listed("same", "outdated"),
            *listed("touched", hint="h2"),
            *listed("racy", hint=None),
            *listed("new"),
            *listed("huge", problem="too_large"),
        )
    )
    hints = dict.fromkeys(("same", "touched", "racy", "outdated"), "h")
    found = [item.document for item in suspects(listing, before, hints)]
    assert found == ["outdated", "touched", "racy", "new"]


def test_a_document_that_grew_too_large_is_modified_without_being_read() -> None:
    before = {"a": known("1")}
    assert diff(Listing(listed("a", problem="too_large")), before, {}).modified == ("a",)
    again = {"a": KnownDocument("!too_large", "1", current=True)}
    assert diff(Listing(listed("a", problem="too_large")), again, {}).is_empty
