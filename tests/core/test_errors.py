import re

import pytest

import tidegate.core.errors as errors
from tests.conftest import ROOT
from tidegate.core.documents import QUARANTINE_REASONS
from tidegate.core.errors import SourceMissingError, all_failures, suggest


def test_the_block_says_what_whether_to_rerun_and_what_next() -> None:
    block = SourceMissingError("the folder /x does not exist", document="a.md").block()
    lines = block.splitlines()
    assert lines[1] == "FAILED  source_missing"
    assert lines[2] == "what           the folder /x does not exist"
    assert lines[3] == "document       a.md"
    assert lines[4] == "safe to rerun  yes"
    assert lines[5].startswith("next action    mount or create the folder")
    assert lines[6] == "runbook        docs/runbook.md#source_missing"
    assert set(lines[0]) == set(lines[-1]) == {"─"}


def test_the_runbook_has_a_section_for_every_code_and_no_other() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text()
    sections = re.findall(r"^### `([a-z_0-9]+)`$", text, re.MULTILINE)
    assert sections == sorted(sections)
    assert set(sections) == {failure.code for failure in all_failures()}
    listed = re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE)
    assert set(listed) == set(QUARANTINE_REASONS)


def test_every_failure_has_its_own_code_and_advice() -> None:
    found = [value for value in vars(errors).values() if isinstance(value, type) and value in all_failures()]
    codes = [failure.code for failure in found]
    assert len(codes) == len(set(codes)) == len(all_failures()) >= 20
    assert all(failure.advice and failure.__doc__ for failure in found)


@pytest.mark.parametrize(
    ("received", "expected"),
    [("hanbook", "; did you mean 'handbook'? valid: handbook, wiki"), ("zzz", "; valid: handbook, wiki")],
)
def test_a_suggestion_is_made_only_if_one_is_near(received: str, expected: str) -> None:
    assert suggest(received, ["wiki", "handbook"]) == expected
    assert suggest("x", []) == "; valid: none yet"
