"""The conversation that a model reads: its exact text, and the digest of all that decides it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tidegate.core.answer_text import holds
from tidegate.core.prompts import Passage, Turn
from tidegate.prompting import windows
from tidegate.prompting.renderer import ADAPTER_PROMPT, BASE_PROMPTS, REFUSAL, Renderer, Shot

PORTS = Passage("ports.md", "Handbook > Ports", "The printer listens on port 9100.")
MAIL = Passage("mail.md", "Mail", "The scanner {sends}\nits files by mail.")
SHOT = Shot("Who?", (Passage("", "People", "Ann does."),), "Ann")


def test_passages_are_numbered_with_their_headings_and_the_question_comes_last() -> None:
    renderer = Renderer("test", "Say {refusal} or answer.", refusal="No {idea}.")
    assert renderer.turns("Which port?", [PORTS, MAIL]) == [
        Turn("system", "Say No {idea}. or answer."),
        Turn(
            "user",
            "[1] Handbook > Ports\nThe printer listens on port 9100.\n\n"
            "[2] Mail\nThe scanner {sends}\nits files by mail.\n\n"
            "Question: Which port?",
        ),
    ]


def test_without_passages_the_prompt_says_so() -> None:
    assert ADAPTER_PROMPT.turns("Which port?", [])[-1] == Turn("user", "No passage was found.\n\nQuestion: Which port?")


def test_worked_examples_stand_between_the_instructions_and_the_question_in_the_same_form() -> None:
    renderer = Renderer("test", "Answer.", shots=(SHOT, replace(SHOT, passages=(), answer=REFUSAL)))
    turns = renderer.turns("Who?", SHOT.passages)
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert turns[1] == turns[5] == Turn("user", "[1] People\nAnn does.\n\nQuestion: Who?")
    assert turns[2:5] == [
        Turn("assistant", "Ann"),
        Turn("user", "No passage was found.\n\nQuestion: Who?"),
        Turn("assistant", REFUSAL),
    ]


def test_questions_about_the_same_passages_share_everything_before_the_question() -> None:
    one, other = (BASE_PROMPTS[-1].turns(question, [PORTS, MAIL]) for question in ("Which port?", "By what?"))
    assert one[:-1] == other[:-1]
    assert one[-1].content.removesuffix("Which port?") == other[-1].content.removesuffix("By what?")


def digest(renderer: Renderer, window_tokens: int = 96, passages: int = 3) -> str:
    return renderer.digest(window_tokens=window_tokens, passages=passages)


def test_the_digest_is_that_of_all_that_decides_a_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = Renderer("test", "Answer.", shots=(SHOT,))
    digests = [
        digest(renderer),
        digest(renderer, window_tokens=95),
        digest(renderer, passages=4),
        digest(replace(renderer, system="Answer!")),
        digest(replace(renderer, refusal="No.")),
        digest(replace(renderer, cites=True)),
        digest(replace(renderer, shots=())),
        digest(replace(renderer, shots=(SHOT, SHOT))),
        digest(replace(renderer, shots=(replace(SHOT, answer="Bob"),))),
        digest(replace(renderer, shots=(replace(SHOT, passages=(PORTS,)),))),
    ]
    assert digest(Renderer("test", "Answer.", shots=(SHOT,))) == digests[0]
    monkeypatch.setattr(windows, "VERSION", windows.VERSION + 1)
    assert len({digest(renderer), *digests}) == len(digests) + 1


def test_a_base_model_has_the_choice_of_three_prompts_one_of_them_with_worked_examples() -> None:
    assert BASE_PROMPTS[0] is ADAPTER_PROMPT
    assert len({renderer.name for renderer in BASE_PROMPTS}) == len({digest(item) for item in BASE_PROMPTS}) >= 3
    assert any(renderer.shots for renderer in BASE_PROMPTS)
    assert not ADAPTER_PROMPT.shots


@pytest.mark.parametrize("renderer", BASE_PROMPTS, ids=lambda renderer: renderer.name)
def test_another_refusal_sentence_takes_the_place_of_the_default_everywhere(renderer: Renderer) -> None:
    turns = replace(renderer, refusal="Nobody knows.").turns("Who?", [])
    assert "Nobody knows." in turns[0].content
    assert [turn for turn in turns if REFUSAL in turn.content] == []


@pytest.mark.parametrize(
    "shot", [shot for renderer in BASE_PROMPTS for shot in renderer.shots], ids=lambda shot: shot.question
)
def test_a_worked_example_is_answered_by_one_of_its_passages_or_refused(shot: Shot) -> None:
    holding = [passage for passage in shot.passages if holds(passage.text, shot.answer)]
    assert len(holding) == (shot.answer not in {"", REFUSAL})
    assert len(shot.passages) > 1
