"""Evaluations: the first writer wins, and its predictions are never another's."""

import multiprocessing
from collections.abc import Callable

import pytest

from tests.fakes import FaultStore
from tidegate.core import publishing
from tidegate.core.errors import CommitUnknownError, ObjectCorruptError
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import Evaluation, EvaluationInputs
from tidegate.registry.evaluations import (
    read_evaluation,
    read_report,
    write_evaluation,
    write_report,
)

MakeStore = Callable[[], ArtifactStore]

INPUTS = EvaluationInputs(bundle="a" * 64, champion_bundle=None, dataset="b" * 64, settings="c" * 64, seed=0)


def evaluation(correct: float) -> Evaluation:
    return Evaluation(inputs=INPUTS, arms={"base+RAG": {"correct": correct}}, verdict="better", rules=())


FIRST, SECOND = evaluation(0.5), evaluation(0.25)
KEY = FIRST.key
FOLDER = f"handbook/evaluations/{KEY}"


def predictions(store: ArtifactStore, found: Evaluation) -> bytes:
    return store.read(f"{FOLDER}/predictions-{found.digest}.jsonl").data


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_FIRST_WAIT_SECONDS", 0.0)


def test_an_evaluation_comes_back_with_its_predictions(any_store: MakeStore) -> None:
    store = any_store()
    assert read_evaluation(store, "handbook", KEY) is None
    assert write_evaluation(store, "handbook", FIRST, b"first") == FIRST
    assert read_evaluation(store, "handbook", KEY) == FIRST
    assert predictions(store, FIRST) == b"first"
    assert store.read(f"{FOLDER}/results.json").data == FIRST.to_bytes()
    assert read_evaluation(store, "wiki", KEY) is None


def test_a_second_writer_reads_what_the_first_wrote(any_store: MakeStore) -> None:
    store, other = any_store(), any_store()
    write_evaluation(store, "handbook", FIRST, b"first")
    found = write_evaluation(other, "handbook", SECOND, b"second")
    assert found == FIRST
    assert predictions(other, found) == b"first"
    assert write_evaluation(other, "handbook", FIRST, b"other answers, equal results") == FIRST
    assert predictions(other, FIRST) == b"first"


def test_a_writer_that_died_before_its_results_does_not_win(any_store: MakeStore) -> None:
    store = FaultStore(any_store(), dict.fromkeys(range(2, 6), "before"))
    with pytest.raises(CommitUnknownError, match=f"{FOLDER}/results.json may or may not be committed"):
        write_evaluation(store, "handbook", FIRST, b"first")
    assert [key.rpartition("/")[2] for key in dict.fromkeys(store.mutations)] == [
        f"predictions-{FIRST.digest}.jsonl",
        "results.json",
    ]
    store.faults = {}
    assert read_evaluation(store, "handbook", KEY) is None
    assert write_evaluation(store, "handbook", SECOND, b"second") == SECOND
    assert predictions(store, SECOND) == b"second"


@pytest.mark.parametrize(
    "faults", [{1: "after", 2: "after"}, {1: "before", 3: "before"}, {1: "conflict", 2: "after", 3: "conflict"}]
)
def test_a_lost_answer_changes_nothing(any_store: MakeStore, faults: dict[int, str]) -> None:
    store = FaultStore(any_store(), faults)
    assert write_evaluation(store, "handbook", FIRST, b"first") == FIRST
    assert predictions(store, FIRST) == b"first"


def _write(make: MakeStore, number: int, barrier: object, results: object) -> None:
    store = make()
    barrier.wait()
    found = write_evaluation(store, "handbook", evaluation(number / 4), str(number).encode())
    results.put((found.arms["base+RAG"]["correct"], predictions(store, found)))


def test_of_many_writers_all_return_the_one_that_was_first(any_store: MakeStore) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    writers = [context.Process(target=_write, args=(any_store, number, barrier, results)) for number in range(4)]
    for writer in writers:
        writer.start()
    found = {results.get(timeout=60) for _ in writers}
    for writer in writers:
        writer.join()
    assert len(found) == 1
    assert found <= {(number / 4, str(number).encode()) for number in range(4)}


def test_results_of_other_inputs_and_damaged_ones_are_refused(any_store: MakeStore) -> None:
    store = any_store()
    other = FIRST.model_copy(update={"inputs": INPUTS.model_copy(update={"seed": 1})})
    store.put(f"{FOLDER}/results.json", other.to_bytes())
    with pytest.raises(ObjectCorruptError) as caught:
        read_evaluation(store, "handbook", KEY)
    assert caught.value.what == (
        f"{FOLDER}/results.json in {store.uri} holds the evaluation of other inputs: {other.key[:12]}"
    )
    store.put(f"{FOLDER}/results.json", FIRST.to_bytes()[:50])
    with pytest.raises(ObjectCorruptError, match=f"{FOLDER}/results.json is not a valid Evaluation"):
        write_evaluation(store, "handbook", FIRST, b"first")


def test_reports_lie_beside_the_results_and_are_overwritten(any_store: MakeStore) -> None:
    store = any_store()
    assert read_report(store, "handbook", KEY, "report.html") is None
    write_evaluation(store, "handbook", FIRST, b"first")
    for name in ("report.json", "report.html", "approval.md", "timings.json"):
        write_report(store, "handbook", KEY, name, b"old")
        write_report(store, "handbook", KEY, name, name.encode())
        assert read_report(store, "handbook", KEY, name) == name.encode()
        assert store.read(f"{FOLDER}/{name}").data == name.encode()
    assert read_evaluation(store, "handbook", KEY) == FIRST


@pytest.mark.parametrize("name", ["results.json", f"predictions-{FIRST.digest}.jsonl", "../x", "report.txt", ""])
def test_nothing_but_the_files_of_a_report_is_written_or_read(store: ArtifactStore, name: str) -> None:
    valid = "is no file of a report; valid: report.json, report.html, approval.md, timings.json"
    with pytest.raises(ValueError, match=valid):
        write_report(store, "handbook", KEY, name, b"x")
    with pytest.raises(ValueError, match=valid):
        read_report(store, "handbook", KEY, name)
    assert list(store.list_keys("")) == []
