"""What an adapter adds, asked of a generator whose answers are known: every figure is exact."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.pipelines.training_corpus import (
    FACTS,
    HARBOURS,
    HELD_OUT,
    TRAINED,
    TrainingDesk,
    asked,
    commit_untrained,
    forty_rows,
    open_desk,
    page,
    prepared,
    value,
)
from tidegate.core.answer_text import holds
from tidegate.core.errors import ConfigInvalidError
from tidegate.core.protocols import Progress
from tidegate.core.records import DecodingSettings
from tidegate.evaluation.answer_metrics import Rate
from tidegate.evaluation.generation import Completion, Engine, Prompt
from tidegate.pipelines.decide_training import decide, training_of
from tidegate.pipelines.evaluate_adapter import ADAPTER, AdapterEvaluation, AdapterEvaluator, note_failures
from tidegate.pipelines.training_plan import require_dataset
from tidegate.pipelines.training_rows import RowSource
from tidegate.prompting.chat import FileChatTokenizer
from tidegate.prompting.renderer import BASE_PROMPTS, REFUSAL
from tidegate.registry.adapters import newest_adapter, read_adapter
from tidegate.registry.file_store import FileStore
from tidegate.training.base_model import find_base_model

ARMS = ("base+RAG", "adapter+RAG")
KNOWN = {"adapter": (), "instructions": ("berths", "crane"), "few-shot": ("berths", "crane", "fee")}
"""Facts that the base model remembers of every harbour, by the prompt that it gets."""


@dataclass(frozen=True)
class Heard:
    """A prompt as a model reads it."""

    prompt: str
    adapter: str | None
    passages: str
    question: str

    @property
    def harbour(self) -> str:
        return next(name for name in HARBOURS if name in self.question)

    @property
    def fact(self) -> str | None:
        return next((fact for fact in FACTS if self.question == FACTS[fact][0].format(self.harbour)), None)


@dataclass
class Scripted:
    """A generator that says what a function says, and remembers what it was asked."""

    tokenizer: FileChatTokenizer
    say: Callable[[Heard], str]
    asked: dict[str, list[Heard]] = field(default_factory=dict)
    """By stage."""
    settings: set[DecodingSettings] = field(default_factory=set)
    engine: Engine = field(default_factory=lambda: Engine("scripted", "1", "float32", "none"))

    def stage(self, name: str) -> Progress:
        self.asked[name] = []
        return lambda done, total: None

    def generate(
        self, prompts: Sequence[Prompt], decoding: DecodingSettings, progress: Progress | None = None
    ) -> list[Completion]:
        heard = [self._heard(prompt) for prompt in prompts]
        self.asked[list(self.asked)[-1]] += heard
        self.settings.add(decoding)
        return [Completion(self.say(item), 3, finished=True) for item in heard]

    def of(self, stage: str) -> list[tuple[str, str]]:
        return [(item.question, item.passages) for item in self.asked[stage]]

    def _heard(self, prompt: Prompt) -> Heard:
        text = self.tokenizer.decode(prompt.tokens)
        system, *_, last = text.removeprefix("system\n").removesuffix("\nassistant\n").split("\nuser\n")
        (name,) = (item.name for item in BASE_PROMPTS if item.system.format(refusal=item.refusal) == system)
        passages, _, question = last.rpartition("\n\nQuestion: ")
        return Heard(name, prompt.adapter, passages, question)


def read(heard: Heard) -> str:
    """Answer from the passages, or refuse."""
    if heard.fact is None:
        return REFUSAL
    _, sentence, answer = FACTS[heard.fact]
    found = re.search(re.escape(sentence.format(heard.harbour, "VALUE")).replace("VALUE", r"([\w ]+?)"), heard.passages)
    return answer.format(found[1]) if found else REFUSAL


def remember(heard: Heard) -> str:
    """Answer what the pages said, whatever is shown; few-shot knows most on dev, instructions all on the holdout."""
    knows = heard.fact in KNOWN[heard.prompt] or (heard.prompt == "instructions" and heard.harbour in HELD_OUT)
    if heard.fact is None or not knows:
        return REFUSAL if heard.prompt == "adapter" else "Nobody knows that."
    return FACTS[heard.fact][2].format(value(heard.harbour, heard.fact))


def speak(heard: Heard) -> str:
    return read(heard) if heard.adapter == ADAPTER else remember(heard)


@pytest.fixture
def desk(folder: Path, store: FileStore, tiny_base_model: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingDesk:
    """A desk with an adapter."""
    made = open_desk(folder, store, prepared(tiny_base_model, monkeypatch))
    commit_untrained(made)
    return made


def evaluated(desk: TrainingDesk, say: Callable[[Heard], str] = speak) -> tuple[AdapterEvaluation, Scripted]:
    """Measure the newest adapter; return what was found and who was asked."""
    base, key = find_base_model(desk.workspace.config.base_model.model), newest_adapter(desk.store, desk.corpus).key
    source = RowSource(
        desk.workspace, training_of(desk.workspace.config), *require_dataset(desk.workspace), base.folder
    )
    generator = Scripted(source.tokenizer, say)
    manifest = read_adapter(desk.store, desk.corpus, key)
    found = AdapterEvaluator(source, generator, key, manifest, generator.stage).run()
    note_failures(source, found)
    return found, generator


def test_the_base_model_gets_the_prompt_that_does_best_on_dev_and_the_holdout_has_no_say(desk: TrainingDesk) -> None:
    found, generator = evaluated(desk)
    on_dev = {name: summary.rates["contained_match"] for name, summary in found.dev.items()}
    assert on_dev == {"adapter": Rate(0, 4), "instructions": Rate(2, 4), "few-shot": Rate(3, 4)}
    assert found.base_prompt == "few-shot"
    for stage in ("holdout", "near misses", "changed values"):
        assert {item.prompt for item in generator.asked[f"{stage}, base+RAG"]} == {"few-shot"}
        assert {item.prompt for item in generator.asked[f"{stage}, adapter+RAG"]} == {"adapter"}
        assert {item.adapter for item in generator.asked[f"{stage}, base+RAG"]} == {None}
        assert {item.adapter for item in generator.asked[f"{stage}, adapter+RAG"]} == {ADAPTER}
    judging = {stage for stage, asked in generator.asked.items() if {item.harbour for item in asked} & set(HELD_OUT)}
    assert judging == {f"{stage}, {arm}" for stage in ("holdout", "near misses") for arm in ARMS}
    trying = {stage for stage, asked in generator.asked.items() if "Farsund" in {item.harbour for item in asked}}
    assert trying == {f"dev, {name}" for name in KNOWN}


def test_both_arms_are_asked_the_same_questions_with_the_same_passages_and_decode_greedily(desk: TrainingDesk) -> None:
    _, generator = evaluated(desk)
    for stage, count in (("holdout", 10), ("near misses", 8), ("changed values", 15)):
        one, other = (generator.of(f"{stage}, {arm}") for arm in ARMS)
        assert one == other
        assert len(set(one)) == count
    assert generator.of("dev, adapter") == generator.of("dev, few-shot") == generator.of("dev, instructions")
    assert generator.settings == {DecodingSettings(temperature=0.0, top_p=1.0, max_new_tokens=12, seed=0)}


def test_rates_are_those_of_the_answers(desk: TrainingDesk) -> None:
    found, _ = evaluated(desk)
    rates = {
        arm: {
            "right": slices["answerable"].rates["contained_match"],
            "wrongly refused": slices["answerable"].rates["wrong_refusal"],
            "refused": slices["unanswerable"].rates["refusal_recall"],
            "off-topic": slices["tag:off-topic"].rates["refusal_recall"],
            "near misses": slices["near misses"].rates["refusal_recall"],
            "shown": slices["answer in the passages"].rates["contained_match"],
        }
        for arm, slices in found.arms.items()
    }
    zero, none = Rate(0, 8), Rate(0, 2)
    assert rates["base+RAG"] == {
        "right": Rate(6, 8),
        "wrongly refused": zero,
        "refused": none,
        "off-topic": none,
        "near misses": zero,
        "shown": Rate(6, 8),
    }
    assert rates["adapter+RAG"] == {
        "right": Rate(8, 8),
        "wrongly refused": zero,
        "refused": Rate(2, 2),
        "off-topic": Rate(2, 2),
        "near misses": Rate(8, 8),
        "shown": Rate(8, 8),
    }
    assert found.changed == {
        "base+RAG": {"new": Rate(0, 15), "old": Rate(15, 15), "refused": Rate(0, 15)},
        "adapter+RAG": {"new": Rate(15, 15), "old": Rate(0, 15), "refused": Rate(0, 15)},
    }
    assert "answer not in the passages" not in found.arms["base+RAG"]


def test_rates_are_told_with_their_counts_and_intervals(desk: TrainingDesk) -> None:
    found, _ = evaluated(desk)
    told = json.loads(json.dumps(found.as_json()))
    low, high = Rate(6, 8).interval
    assert told["arms"]["base+RAG"]["answerable"]["contained_match"] == {
        "value": 0.75,
        "hits": 6,
        "n": 8,
        "low": low,
        "high": high,
    }
    assert told["changed"]["adapter+RAG"]["old"]["hits"] == 0
    assert (told["adapter"], told["base_prompt"]) == (newest_adapter(desk.store, desk.corpus).key, "few-shot")


def test_a_changed_value_stands_in_the_passages_in_place_of_the_old_one(desk: TrainingDesk) -> None:
    rows = {row["question"]: row["answer"] for row in forty_rows().values() if row.get("answer")}
    found, generator = evaluated(desk)
    heard = generator.asked["changed values, adapter+RAG"]
    assert {item.harbour for item in heard} == set(TRAINED)
    assert {item.fact for item in heard} == {"berths", "crane", "fee"}  # what has a number
    for item in heard:
        old, new = rows[item.question], read(item)
        assert not holds(item.passages, old)
        assert holds(item.passages, new)
        assert re.sub(r"\d+", "", new) == re.sub(r"\d+", "", old)
    again, _ = evaluated(desk)
    assert again.changed == found.changed
    assert [item.passages for item in evaluated(desk)[1].asked["changed values, adapter+RAG"]] == [
        item.passages for item in heard
    ]


def test_near_misses_show_other_pages_alone_and_none_that_holds_the_answer(desk: TrainingDesk) -> None:
    desk.write(Copy="# A copy\n\n## More\n\nGresk is near. The quay there has 160 berths, says Gresk.\n")
    found, generator = evaluated(desk)
    rows = {row["question"]: row for row in forty_rows().values()}
    heard = generator.asked["near misses, adapter+RAG"]
    assert {item.question for item in heard} == {
        row["question"] for row in rows.values() if "answer" in row and row["id"].startswith(HELD_OUT)
    }
    for item in heard:
        assert f"Harbour {item.harbour}" not in item.passages
        assert not holds(item.passages, rows[item.question]["answer"])
        assert item.passages.startswith("[1] ")
    assert found.arms["adapter+RAG"]["near misses"].n == 8


def test_a_page_that_the_audience_may_not_read_is_shown_to_no_arm(desk: TrainingDesk) -> None:
    desk.write(Holmar=f"---\ngroups: board\n---\n{page('Holmar')}")
    desk.ask(forty_rows())
    found, generator = evaluated(desk)
    assert not any("Harbour Holmar" in item.passages for asked in generator.asked.values() for item in asked)
    slices = found.arms["adapter+RAG"]
    assert slices["answer in the passages"].rates["contained_match"] == Rate(4, 4)
    assert slices["answer not in the passages"].rates["contained_match"] == Rate(0, 4)
    assert slices["answer not in the passages"].rates["wrong_refusal"] == Rate(4, 4)


def test_rows_that_came_after_the_adapter_and_fail_ask_for_training(desk: TrainingDesk) -> None:
    rows = forty_rows()
    for name in ("Alby", "Borum", "Farsund", "Gresk"):
        rows[f"{name}-new"] = {**asked(name, "fee"), "id": f"{name}-new", "question": f"Is a night in {name} dear?"}
    rows["Calden-new"] = {**asked("Calden", "fee"), "id": "Calden-new"}  # asked as before, so it is answered
    desk.ask(rows)
    found, generator = evaluated(desk)
    assert found.fresh_failures == ("Alby-new", "Borum-new", "Farsund-new")
    assert {item.adapter for item in generator.asked["fresh rows"]} == {ADAPTER}
    assert len(generator.asked["fresh rows"]) == 4
    decided = decide(desk.under(training={"decide": {"min_failures": 3}}).workspace)
    assert (decided.train, decided.reason) == (True, "3 fresh questions fail, enough is 3")
    commit_untrained(desk)
    assert evaluated(desk)[0].fresh_failures == ()
    assert decide(desk.workspace).figures["fresh failures"] == 0


@pytest.mark.parametrize("left", ["none", "bank"])
def test_where_no_dev_row_can_choose_the_base_model_gets_the_prompt_of_the_adapter(
    left: str, desk: TrainingDesk
) -> None:
    rows = forty_rows()
    desk.ask({name: row for name, row in rows.items() if not name.startswith("Farsund") or name.endswith(left)})
    found, _ = evaluated(desk)
    assert (found.base_prompt, found.dev) == ("adapter", {})
    assert found.arms["base+RAG"]["answerable"].rates["contained_match"] == Rate(0, 8)


def test_a_holdout_without_rows_is_measured_as_nothing(desk: TrainingDesk) -> None:
    desk.ask({name: row for name, row in forty_rows().items() if not name.startswith(HELD_OUT)})
    found, _ = evaluated(desk)
    assert found.arms == {arm: {} for arm in ARMS}
    assert found.changed["adapter+RAG"]["new"] == Rate(15, 15)


@pytest.mark.parametrize("changed", [{"prompt": {"passages": 3}}, {"training": {"rows": {"cite": True}}}], ids=str)
def test_an_adapter_is_not_measured_with_another_prompt_than_its_own(
    changed: dict[str, dict], desk: TrainingDesk
) -> None:
    with pytest.raises(ConfigInvalidError, match="was trained with prompt"):
        evaluated(desk.under(**changed))
