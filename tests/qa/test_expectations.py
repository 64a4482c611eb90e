"""Great Expectations as the judge of rows: exact row numbers, no empty passes, rules that can fail, Data Docs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tidegate.qa import expectations
from tidegate.qa.expectations import Rule, ValidationIncompleteError, validate

SECRET = Rule("secret", "secret", "absent")
ID = Rule("duplicate_id", "id", "unique")
LENGTH = Rule("question_length", "tokens", "between", low=3, high=90)


@pytest.mark.parametrize(
    ("rule", "values", "failing"),
    [
        (Rule("secret", "c", "absent"), [None, None], ()),
        (Rule("secret", "c", "absent"), [None, "a key", None, "", "None", "a \ud800 key"], (1, 3, 4, 5)),
        (Rule("question_missing", "c", "present"), ["a", "", 0, False], ()),
        (Rule("question_missing", "c", "present"), ["a", None, 1, None], (1, 3)),
        (Rule("question_length", "c", "between", low=3, high=90), [3, None, 90, 45], ()),
        (Rule("question_length", "c", "between", low=3, high=90), [2, None, 91, 3, 2.999, 2**70], (0, 2, 4, 5)),
        (Rule("question_length", "c", "between", low=3), [10**9, 2], (1,)),
        (Rule("question_length", "c", "between", high=3), [-5, 4], (1,)),
        (Rule("duplicate_id", "c", "unique"), ["a", None, "b", None, "A"], ()),
        (Rule("duplicate_id", "c", "unique"), ["a", "b", None, "a", None, "c", "a"], (0, 3, 6)),
    ],
)
def test_each_kind_of_rule_names_exactly_the_rows_that_break_it(
    rule: Rule, values: list[object], failing: tuple[int, ...]
) -> None:
    outcome = validate("handbook", {"c": values, "other": values}, [rule])
    assert outcome.failed == ({rule.name: failing} if failing else {})
    assert (outcome.expected, outcome.evaluated) == (1, 1)


def test_rules_of_one_name_are_merged_and_may_share_a_column() -> None:
    rules = [
        Rule("question_length", "tokens", "present"),
        Rule("question_length", "tokens", "between", low=3),
        Rule("duplicate_id", "tokens", "unique"),
        Rule("question_length", "detail", "absent"),
    ]
    columns = {"tokens": [1, 7, None, 7, 4], "detail": [None, None, None, "odd", None]}
    outcome = validate("handbook", columns, rules)
    assert outcome.failed == {"question_length": (0, 2, 3), "duplicate_id": (1, 3)}
    assert (outcome.expected, outcome.evaluated) == (4, 4)
    assert outcome.statistics == {
        "great_expectations": "1.24.1",
        "expectations": [
            summary("question_length", "tokens", "not_be_null", 5, 1),
            summary("question_length", "tokens", "be_between", 5, 1),
            summary("duplicate_id", "tokens", "be_unique", 5, 2),
            summary("question_length", "detail", "be_null", 5, 1),
        ],
    }


def summary(rule: str, column: str, kind: str, rows: int, failing: int) -> dict[str, object]:
    return {
        "rule": rule,
        "column": column,
        "expectation": f"expect_column_values_to_{kind}",
        "element_count": rows,
        "unexpected_count": failing,
        "success": failing == 0,
    }


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [(SECRET, "a key", None), (LENGTH, 2, 5), (ID, "same", None), (Rule("answer_missing", "id", "present"), None, "a")],
)
def test_three_hundred_failing_rows_are_all_named(rule: Rule, bad: object, good: object) -> None:
    outcome = validate("handbook", {rule.column: [good, bad] * 300}, [rule])
    assert outcome.failed == {rule.name: tuple(range(1, 600, 2))}


@pytest.mark.parametrize(
    ("columns", "rules", "what"),
    [
        ({"secret": [None]}, [], "the suite of 'handbook' has no rules"),
        ({"secret": []}, [SECRET], "the set 'handbook' has no rows"),
        ({}, [SECRET], "the set 'handbook' has no rows"),
        ({"secret": [None] * 3, "id": ["a"]}, [SECRET, ID], "the column 'id' of 'handbook' has 1 values for 3 rows"),
        ({"id": ["a"]}, [SECRET, ID], "the rule 'secret' over 'secret' was not evaluated: .*does not exist"),
        ({"tokens": [5, "x"]}, [LENGTH], "the rule 'question_length' over 'tokens' was not evaluated: .*same type"),
    ],
)
def test_nothing_to_evaluate_is_a_failure_and_never_a_pass(
    columns: dict[str, list[object]], rules: list[Rule], what: str
) -> None:
    with pytest.raises(ValidationIncompleteError, match=what):
        validate("handbook", columns, rules)


@pytest.mark.parametrize(
    "tame",
    [
        {"type": "expect_column_values_to_be_null", "kwargs": {"column": "secret", "mostly": 0.0}},
        {"type": "expect_column_value_lengths_to_be_between", "kwargs": {"column": "secret", "min_value": 0}},
        {"type": "expect_column_values_to_be_null", "kwargs": {"column": "id"}},
        {"type": "expect_column_to_exist", "kwargs": {"column": "secret"}},
    ],
)
def test_a_suite_with_an_expectation_that_cannot_fail_is_refused(
    tame: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    build = expectations._expectation

    def built(rule: Rule, number: int) -> object:
        if rule != SECRET:
            return build(rule, number)
        return ExpectationConfiguration(**tame, meta={"number": number}).to_domain_obj()

    monkeypatch.setattr(expectations, "_expectation", built)
    with pytest.raises(ValidationIncompleteError, match="the rule 'secret' over 'secret'"):
        validate("handbook", {"secret": [None, None], "id": ["a", "b"]}, [ID, SECRET])


@pytest.mark.parametrize("low", [None, float("-inf")])
def test_a_rule_without_a_real_bound_is_refused(low: float | None) -> None:
    with pytest.raises(ValidationIncompleteError, match=r"the rule 'answer_length'.* fail"):
        validate("handbook", {"tokens": [5]}, [Rule("answer_length", "tokens", "between", low=low)])


def test_an_expectation_that_was_not_evaluated_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = expectations._evaluate

    def forgetful(batches: object, suite: object, columns: dict[str, list[object]]) -> object:
        result = evaluate(batches, suite, columns)
        del result.results[0]
        return result

    monkeypatch.setattr(expectations, "_evaluate", forgetful)
    with pytest.raises(ValidationIncompleteError, match="1 of 2 expectations were evaluated; missing: secret"):
        validate("handbook", {"secret": [None], "id": ["a"]}, [SECRET, ID])


def test_a_row_that_great_expectations_did_not_see_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = expectations._evaluate

    def cut(batches: object, suite: object, columns: dict[str, list[object]]) -> object:
        return evaluate(batches, suite, {column: values[:8] for column, values in columns.items()})

    monkeypatch.setattr(expectations, "_evaluate", cut)
    with pytest.raises(ValidationIncompleteError, match="the rule 'secret' over 'secret' saw 8 of 9 rows"):
        validate("handbook", {"secret": [None] * 9}, [SECRET])


def test_the_data_docs_show_rules_and_failing_values_and_no_canary(tmp_path: Path) -> None:
    docs = tmp_path / "data $docs"
    detail = "password <script>alert(1)</script> in $PARAMETER & {{ id }} of row"
    columns = {"secret": [None, *[f"{detail} {row}" for row in range(1, 31)]], "tokens": [2, *[50] * 30]}
    for _ in range(2):
        validate("handbook", columns, [SECRET, LENGTH], docs)
    (result,) = (docs / "validations" / "handbook").rglob("*.html")
    assert result.name == "handbook.html"
    page = result.read_text(encoding="utf-8")
    for row in range(1, 31):
        assert f"password &lt;script&gt;alert(1)&lt;/script&gt; in $PARAMETER &amp; {{{{ id }}}} of row {row}<" in page
    assert "<script>alert" not in page
    assert "canary" not in page
    rules = (docs / "expectations" / "handbook.html").read_text(encoding="utf-8")
    for text in (page, rules):
        assert "secret: fails where the row holds a credential" in text
        assert "too many of the base model's tokens; at least 3; at most 90" in text


def test_the_pages_lead_to_each_other_without_scripts_or_a_network(tmp_path: Path) -> None:
    validate("handbook", {"secret": [None, "a key"]}, [SECRET], tmp_path)
    (result,) = (tmp_path / "validations").rglob("*.html")
    assert links(tmp_path / "index.html") >= {result, tmp_path / "expectations" / "handbook.html"}
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    pages = {path for path in files if path.suffix == ".html"}
    assert len(pages) == 3
    assert {target for page in pages for target in links(page)} == pages
    assert files - pages == {tmp_path / "static" / "images" / "favicon.ico"}


def links(page: Path) -> set[Path]:
    """Return the pages that a page leads to by its markup, without its scripts."""
    markup = re.sub("<script.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {(page.parent / target).resolve() for target in re.findall(r'href="(?!https?:)([^"]+\.html)"', markup)}


def test_the_module_is_imported_without_great_expectations_and_pandas() -> None:
    code = "import sys, tidegate.qa.expectations; print({'great_expectations', 'pandas'} & set(sys.modules))"
    assert python("-c", code) == "set()\n"


def test_a_validation_says_nothing_and_writes_only_the_data_docs(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    code = (
        "from pathlib import Path; from tidegate.qa.expectations import Rule, validate;"
        "print(validate('handbook', {'c': ['x']}, [Rule('secret', 'c', 'absent')], Path('docs')).failed)"
    )
    assert python("-c", code, cwd=here, HOME=str(here), TMPDIR=str(here)) == "{'secret': (0,)}\n"
    assert [path.name for path in here.iterdir()] == ["docs"]


def python(*arguments: str, cwd: Path | None = None, **environment: str) -> str:
    """Run Python; return all that it printed."""
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment or None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout
