from tidegate.core.documents import ListedDocument, Listing
from tidegate.registry.file_store import FileStore
from tidegate.sources.hints import Hints, hints_of, load_hints, save_hints


def test_hints_come_back(store: FileStore) -> None:
    hints = Hints("s", "t", {"a.md": "1:2", "b.md": None})
    save_hints(store, "k", hints)
    assert load_hints(store, "k") == hints


def test_lost_or_damaged_hints_say_nothing(store: FileStore) -> None:
    assert load_hints(store, "k") == Hints()
    store.put("k", b"garbage")
    assert load_hints(store, "k") == Hints()


def test_a_problem_is_part_of_the_hint() -> None:
    listing = Listing(
        (ListedDocument("a", 1, "h"), ListedDocument("b", 1, "h", "too_large"), ListedDocument("c", 1, None))
    )
    assert hints_of(listing) == {"a": "h", "b": "too_large h", "c": None}
