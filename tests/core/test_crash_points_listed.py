"""The crash points K1 to K27 by name: killed for real in the code, an order of events, or not yet covered."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

ALL = {f"K{number}" for number in range(1, 28)}

KILLED_IN = {
    **dict.fromkeys(("K1", "K2", "K4", "K5", "K6", "K7", "K8", "written"), "pipelines/test_crash_points.py"),
    "K9": "pipelines/test_evaluate_release_kills.py",
    **dict.fromkeys(("K10", "K13", "K14", "read-back"), "registry/test_protocol_kills.py"),
    **dict.fromkeys(("adapter-written", "adapter-committed"), "registry/test_protocol_kills.py"),
    **dict.fromkeys(("dataset-written", "dataset-committed"), "pipelines/test_validate_qa_kills.py"),
    **dict.fromkeys(("checkpoint-copied", "checkpoint-kept"), "pipelines/test_refresh_adapter_kills.py"),
    **dict.fromkeys(("checkpoint-file", "checkpoint-written"), "training/test_checkpoints.py"),
}
"""Failpoint → the test module that sends SIGKILL to a process there, by name or at every point that it passes."""

NOT_YET_KILLED: dict[str, str] = {}

ORDERS = {
    "K11": "airflow/test_approval_refused.py",
    "K15": "registry/test_channel.py",
    "K16": "registry/test_channel.py",
    "K21": "registry/test_channel.py",
    "K22": "pipelines/test_rollback_retries.py",
    "K23": "registry/test_channel.py",
    "K24": "registry/test_channel.py",
}
"""Answers and orders of events, which no place in the code stands for → the test module whose test names carry them."""

CANNOT_OCCUR = {"K3": "every object is one request, so there is no half of a multipart upload"}

NOT_YET_COVERED = {
    "K12": "replicas that load a candidate: no serving process yet",
    "K17": "replicas behind the head: no serving process yet",
    "K18": "a replica that dies while it downloads: no serving process yet",
    "K19": "a replica that dies between adapter and index: no serving process yet",
    "K20": "a replica that dies while it unloads: no serving process yet",
    "K25": "garbage collection between mark and delete: nothing is collected yet",
    "K26": "garbage collection half done: nothing is collected yet",
    "K27": "an erasure that is noted and not rebuilt: no deny-list yet",
}


def failpoints() -> set[str]:
    """Return the names of the failpoints in the code."""
    code = [path for path in (ROOT / "include" / "tidegate").rglob("*.py") if path.name != "failpoints.py"]
    return {name for path in code for name in re.findall(r'\breach\("([\w-]+)"\)', path.read_text())}


def documented() -> set[str]:
    """Return the crash points that the guarantees name, in the table and below it."""
    section = (ROOT / "docs" / "guarantees.md").read_text().partition("## Crash points")[2].partition("\n## ")[0]
    return set(re.findall(r"\bK\d+\b", section)) | set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE))


def named_in_tests() -> set[str]:
    """Return the crash points that the name of some test carries."""
    names = [
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    ]
    return {point.upper() for name in names for point in re.findall(r"(?<=_)k\d+(?=_)", name)}


def test_every_crash_point_is_in_exactly_one_list() -> None:
    listed = [*(KILLED_IN.keys() & ALL), *NOT_YET_KILLED, *ORDERS, *CANNOT_OCCUR, *NOT_YET_COVERED]
    assert sorted(listed) == sorted(ALL)


def test_every_failpoint_of_the_code_is_killed_for_real_or_listed_as_not_yet() -> None:
    assert failpoints() == KILLED_IN.keys() | NOT_YET_KILLED.keys()


@pytest.mark.parametrize("module", sorted(set(KILLED_IN.values())))
def test_the_modules_that_are_said_to_kill_do(module: str) -> None:
    text = (ROOT / "tests" / module).read_text()
    assert re.search(r"SIGKILL|=kill", text)
    places = {name for name, place in KILLED_IN.items() if place == module}
    everywhere = re.search(r"#\{(number|point)\}=kill", text)
    assert everywhere or all(re.search(rf"\b{name}=kill", text) for name in places)


def test_what_is_listed_as_not_yet_covered_is_nowhere_and_the_rest_is_somewhere() -> None:
    covered = (failpoints() | named_in_tests()) & ALL
    assert covered & NOT_YET_COVERED.keys() == set(), "covered by now: take it off the list"
    assert ALL - covered == NOT_YET_COVERED.keys() | CANNOT_OCCUR.keys()


@pytest.mark.parametrize(("point", "module"), sorted(ORDERS.items()))
def test_every_order_of_events_has_a_test_of_its_name(point: str, module: str) -> None:
    assert re.search(rf"def test_\w*{point.lower()}_|\"{point} ", (ROOT / "tests" / module).read_text())


def test_the_guarantees_name_what_is_covered_and_nothing_else() -> None:
    assert documented() == failpoints() | ORDERS.keys() | CANNOT_OCCUR.keys()
