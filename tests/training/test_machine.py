"""What a job computes with: asked for, or what the processor at hand multiplies in."""

from __future__ import annotations

import os

import pytest

from tidegate.training import machine


@pytest.mark.parametrize(
    ("wanted", "flags", "expected"),
    [
        ("auto", {"fpu", "avx512_bf16"}, "bfloat16"),
        ("auto", {"amx_bf16"}, "bfloat16"),
        ("auto", {"fpu", "bf16"}, "bfloat16"),
        ("auto", {"fpu", "avx512f"}, "float32"),
        ("auto", set(), "float32"),
        ("bfloat16", set(), "bfloat16"),
        ("float32", {"amx_bf16"}, "float32"),
    ],
)
def test_auto_is_bfloat16_only_where_the_processor_multiplies_in_it(
    monkeypatch: pytest.MonkeyPatch, wanted: str, flags: set[str], expected: str
) -> None:
    monkeypatch.setattr(machine, "_flags", lambda: frozenset(flags))
    assert machine.fitting_precision(wanted) == expected


def test_all_processors_are_those_that_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    assert machine.processors() == len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert machine.processors() == 1
    finally:
        os.sched_setaffinity(0, allowed)
