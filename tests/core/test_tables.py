"""Where the heads of Markdown tables are."""

from __future__ import annotations

import pytest

from tidegate.core.tables import TABLE_HEAD, body_lines

HEAD = "| device | port |\n|---|---|"


def test_lines_of_a_body_leave_out_heads_and_blank_lines() -> None:
    text = f"Ports:\n\n{HEAD}\n| printer | 9100 |\n\nEnd."
    assert body_lines(text) == {"Ports:", "| printer | 9100 |", "End."}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{HEAD}\n| a | b |", [HEAD]),
        ("  | a |\n  | :-: |", ["  | a |\n  | :-: |"]),
        (f"{HEAD}\n| a | b |\n\n{HEAD}", [HEAD, HEAD]),
        ("| a | b |\n| c | d |", []),
        ("a - b\n---", []),
    ],
)
def test_a_head_is_a_row_with_a_rule_below_it(text: str, found: list[str]) -> None:
    assert TABLE_HEAD.findall(text) == found
