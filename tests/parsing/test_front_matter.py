import pytest

from tidegate.parsing.front_matter import split_front_matter


def test_scalars_and_lists_of_scalars_become_metadata_as_they_are_written() -> None:
    lines = ['title: "A: b"', "version: 2.10", "updated: 2026-05-14", "draft: true", "tags: [x, 7]", "code: 007"]
    unusable = ["nested: {a: 1}", "none:", "empty: []", "mixed: [a, {b: c}]"]
    metadata, body = split_front_matter("\n".join(["---", *lines, *unusable, "---", "body", ""]))
    assert metadata == {
        "title": "A: b",
        "version": "2.10",
        "updated": "2026-05-14",
        "draft": "true",
        "tags": "x, 7",
        "code": "007",
    }
    assert body == "body\n"


@pytest.mark.parametrize(
    "text", ["no front matter", "---\nno end", "text\n---\na: b\n---\n", "---\n- a\n- list\n---\nbody"]
)
def test_text_without_front_matter_is_left_alone(text: str) -> None:
    assert split_front_matter(text) == ({}, text)


def test_invalid_yaml_still_yields_its_plain_lines() -> None:
    metadata, body = split_front_matter("---\ntitle: A\ntags: [x, y] oops\n  bad: - indent\n---\nbody")
    assert metadata["title"] == "A"
    assert body == "body"


def test_aliases_are_not_expanded() -> None:
    bomb = "---\na: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a]\ntitle: T\n---\nbody"
    metadata, body = split_front_matter(bomb)
    assert metadata["title"] == "T"
    assert sum(len(value) for value in metadata.values()) < 200
    assert body == "body"


@pytest.mark.parametrize(
    "text",
    [
        "---\n\n*Warning*: the limit is 17: never more.\n\n---\n\n# Rest\n",
        "---\nThe limit: value: 99 is odd\n---\n\nbody",
        "---\nNote: see below: here\nThis is a sentence.\n---\nbody",
    ],
)
def test_a_passage_between_two_rules_is_text(text: str) -> None:
    assert split_front_matter(text) == ({}, text)
