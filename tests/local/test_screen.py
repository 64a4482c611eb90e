"""The screen of ``make run``: redrawn in place on a terminal, one line per change elsewhere."""

import io

import pytest

from tidegate.local import screen
from tidegate.local.screen import Screen, Stage


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The only time that the screen knows: its last item."""
    now = [100.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: now[-1])
    return now


DETECT = Stage("detect", "done", "documents: 2 added", 1.25)
EMBED = Stage("embed", "running", "3/9 chunks, 1 s left", 62.0)
COMMIT = Stage("commit", "waiting")


def test_a_terminal_is_redrawn_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = Terminal()
    view = Screen(out)
    view.show([DETECT, EMBED, COMMIT])
    drawn = (
        "\x1b[2K  ✓ detect       1.2 s  documents: 2 added\n"
        "\x1b[2K  ▸ embed       62.0 s  3/9 chunks, 1 s left\n"
        "\x1b[2K  · commit              \n"
    )
    assert out.getvalue() == drawn
    view.show([DETECT, EMBED, COMMIT])
    assert out.getvalue() == drawn + "\x1b[3A" + drawn


def test_what_is_said_stays_and_drawing_goes_on_below_it() -> None:
    out = Terminal()
    view = Screen(out)
    view.show([COMMIT])
    view.say("a line\nand another")
    view.show([COMMIT, COMMIT])
    view.show([COMMIT, COMMIT])
    line = "\x1b[2K  · commit              \n"
    assert out.getvalue() == f"{line}a line\nand another\n{line * 2}\x1b[2A{line * 2}"


def test_a_line_never_wraps_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    out = Terminal()
    Screen(out).show([Stage("embed", "running", "x" * 100, 1.0)])
    assert out.getvalue() == "\x1b[2K  ▸ embed        1.0 s  xxxxx\n"


def test_elsewhere_a_stage_is_one_line_per_change_of_state(clock: list[float]) -> None:
    out = io.StringIO()
    view = Screen(out)
    for state, seconds in (("waiting", None), ("running", 0.0), ("running", 1.0), ("done", 2.0), ("done", 2.0)):
        view.show([Stage("detect", state, seconds=seconds), COMMIT])
    assert out.getvalue() == "  ▸ detect       0.0 s  \n  ✓ detect       2.0 s  \n"


def test_elsewhere_progress_is_a_line_every_few_seconds(clock: list[float]) -> None:
    out = io.StringIO()
    view = Screen(out)
    for now, detail in ((100.0, "1/9"), (104.9, "2/9"), (105.1, "3/9"), (106.0, "4/9"), (120.0, "4/9"), (130.0, "4/9")):
        clock.append(now)
        view.show([Stage("embed", "running", detail, now - 100)])
    assert [line.split()[-1] for line in out.getvalue().splitlines()] == ["1/9", "3/9", "4/9"]


@pytest.mark.parametrize(("state", "mark"), [("failed", "✗"), ("skipped", "–"), ("done", "✓"), ("running", "▸")])
def test_every_state_has_its_mark_and_no_escape_code_leaves_a_terminal(
    state: str, mark: str, clock: list[float]
) -> None:
    out = io.StringIO()
    Screen(out).show([Stage("publish", state, "why")])
    assert out.getvalue() == f"  {mark} publish             why\n"
