"""The key of approvals: where it comes from, what is refused, and that no refusal shows it."""

import os
from pathlib import Path

import pytest

from tests.registry.test_approvals import EXPECTED, KEY, NOW, SECRET, UNSIGNED, everything_shown
from tidegate.core.errors import ApprovalKeyMissingError
from tidegate.registry.approvals import load_key, sign, verify


def key_file(folder: Path, data: bytes, mode: int = 0o600) -> str:
    path = folder / "approval.key"
    path.write_bytes(data)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_the_key_comes_from_the_environment_or_a_private_file(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, f"{SECRET}\n".encode(), mode)
    from_file = load_key({"TIDEGATE_APPROVAL_KEY_FILE": path, "TIDEGATE_APPROVAL_KEY": ""})
    assert from_file == load_key({"TIDEGATE_APPROVAL_KEY": f" {SECRET}\n"}) == KEY
    verify(sign(UNSIGNED, from_file), KEY, EXPECTED, NOW)


@pytest.mark.parametrize(
    ("environment", "what"),
    [
        (
            {},
            (
                "neither TIDEGATE_APPROVAL_KEY nor TIDEGATE_APPROVAL_KEY_FILE is set: "
                "approvals cannot be signed or verified"
            ),
        ),
        (
            {"TIDEGATE_APPROVAL_KEY": SECRET, "TIDEGATE_APPROVAL_KEY_FILE": SECRET},
            "both TIDEGATE_APPROVAL_KEY and TIDEGATE_APPROVAL_KEY_FILE are set",
        ),
        (
            {"TIDEGATE_APPROVAL_KEY": SECRET[:31] + " " * 9},
            "the key of TIDEGATE_APPROVAL_KEY has 31 bytes; at least 32 are needed",
        ),
        (
            {"TIDEGATE_APPROVAL_KEY_FILE": SECRET},
            "TIDEGATE_APPROVAL_KEY_FILE names no file that can be read: No such file or directory",
        ),
        (
            {"TIDEGATE_APPROVAL_KEY_FILE": "/"},
            "TIDEGATE_APPROVAL_KEY_FILE names no file that can be read: Is a directory",
        ),
    ],
)
def test_no_usable_key_says_what_to_do_and_shows_no_key(environment: dict[str, str], what: str) -> None:
    with pytest.raises(ApprovalKeyMissingError) as caught:
        load_key(environment)
    assert caught.value.what == what
    assert SECRET[:31] not in everything_shown(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_a_key_file_that_others_can_get_at_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, SECRET.encode(), mode)
    with pytest.raises(ApprovalKeyMissingError) as caught:
        load_key({"TIDEGATE_APPROVAL_KEY_FILE": path})
    assert caught.value.what == f"the key file {path} has mode {mode:04o}: others than its owner can get at it"
    assert caught.value.next_action.startswith(f"chmod 600 {path}; ")
    assert SECRET not in everything_shown(caught.value)


def test_the_length_of_a_key_file_is_that_without_white_space(tmp_path: Path) -> None:
    path = key_file(tmp_path, b"k" * 31 + b"\r\n\n")
    with pytest.raises(ApprovalKeyMissingError, match="the key of TIDEGATE_APPROVAL_KEY_FILE has 31 bytes"):
        load_key({"TIDEGATE_APPROVAL_KEY_FILE": path})


def test_bytes_that_are_no_text_are_a_key_and_not_an_error() -> None:
    raw = os.fsdecode(b"\xff" * 32)
    assert load_key({"TIDEGATE_APPROVAL_KEY": raw}) == b"\xff" * 32
