"""Signed approvals: what each refusal says, that no field can be changed, and that the key shows nowhere."""

import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import roll_back
from tests.fakes import FaultStore
from tidegate.core import publishing
from tidegate.core.canonical import canonical_json, sha256_hex
from tidegate.core.errors import (
    ApprovalInvalidError,
    ApprovalStaleError,
    ObjectCorruptError,
    ObjectMissingError,
    TidegateError,
)
from tidegate.core.event_records import parse_time
from tidegate.core.protocols import ArtifactStore
from tidegate.core.records import Approval, Approver
from tidegate.registry.approvals import (
    ApprovalKey,
    ExpectedApproval,
    read_approval,
    sign,
    verify,
    was_used_here,
    write_approval,
)
from tidegate.registry.channel import Channel, Promotion

MakeStore = Callable[[], ArtifactStore]

SECRET = "correct-horse-battery-staple-0123456789"
KEY = ApprovalKey(SECRET.encode())
A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
UNSIGNED = Approval(
    corpus="handbook",
    store="s3://bucket/prefix",
    channel="champion",
    op="promote",
    release=A,
    evaluation=B,
    base_entry=C,
    decision="approve",
    approver=Approver(id="ml_lead", name="ML lead"),
    comment="better on every tag",
    decided_at="2026-11-21T10:00:00Z",
    expires_at="2026-11-23T10:00:00Z",
    run="manual__1",
    signature="",
)
APPROVAL = sign(UNSIGNED, KEY)
EXPECTED = ExpectedApproval(
    corpus="handbook",
    store="s3://bucket/prefix",
    channel="champion",
    op="promote",
    release=A,
    evaluation=B,
    base_entry=C,
    run="manual__1",
    approvers=frozenset({"ml_lead", "second"}),
)
NOW = parse_time("2026-11-21T12:00:00Z")


def approval_with(**fields: Any) -> Approval:
    """Return a well-signed approval that differs in some fields."""
    return sign(UNSIGNED.model_copy(update=fields), KEY)


def expected_with(**fields: Any) -> ExpectedApproval:
    return ExpectedApproval(**{name: getattr(EXPECTED, name) for name in EXPECTED.__slots__} | fields)


def name_of(approval: Approval) -> str:
    return f"approval {approval.digest[:12]}"


def test_an_approval_for_exactly_this_is_accepted() -> None:
    verify(APPROVAL, KEY, EXPECTED, NOW)
    verify(APPROVAL, KEY, expected_with(approvers=frozenset()), NOW)
    first = approval_with(evaluation=None, base_entry=None)
    verify(first, KEY, expected_with(evaluation=None, base_entry=None), NOW)


def test_the_signature_is_the_hmac_that_another_tool_computes() -> None:
    # printf '%s' '{"approver":…,"store":…}' | openssl dgst -sha256 -hmac 'correct-horse-…'
    assert APPROVAL.signature == "83574ae52642e823cbc1bced82b0e7ebcbfb1227538a8c7a233484b8fe9c2d66"
    assert sign(APPROVAL, KEY) == APPROVAL


CHANGED: dict[str, Any] = {
    "format": 2,
    "corpus": "other",
    "store": "s3://bucket/other",
    "channel": "candidate",
    "op": "rollback",
    "release": D,
    "evaluation": None,
    "base_entry": None,
    "decision": "reject",
    "approver": {"id": "second", "name": "ML lead"},
    "comment": "",
    "decided_at": "2026-11-21T10:00:01Z",
    "expires_at": "2036-11-23T10:00:00Z",
    "run": "manual__2",
    "signature": "0" * 64,
}


def refused_as_stored(values: dict[str, Any], expected: ExpectedApproval) -> TidegateError:
    with pytest.raises((ApprovalInvalidError, ObjectCorruptError)) as caught:
        verify(Approval.from_bytes(canonical_json(values), key="x.json"), KEY, expected, NOW)
    return caught.value


@pytest.mark.parametrize("field", sorted(Approval.model_fields))
def test_a_change_of_any_field_is_refused_even_by_a_run_that_expects_it(field: str) -> None:
    values = APPROVAL.model_dump(mode="json") | {field: CHANGED[field]}
    wanted = {field: CHANGED[field]} if field in EXPECTED.__slots__ else {}
    refusal = refused_as_stored(values, expected_with(**wanted))
    told = "is not a valid Approval: " if field in {"format", "op"} else "has a signature that does not fit: "
    assert told in refusal.what


@pytest.mark.parametrize("part", ["id", "name"])
def test_a_change_of_who_approved_is_refused(part: str) -> None:
    values = APPROVAL.model_dump(mode="json")
    values["approver"][part] = "second"
    assert "has a signature that does not fit" in refused_as_stored(values, EXPECTED).what


@pytest.mark.parametrize("signature", ["", "é", APPROVAL.signature.upper(), APPROVAL.signature[:-1], "0" * 64])
def test_anything_but_the_signature_is_refused(signature: str) -> None:
    forged = UNSIGNED.model_copy(update={"signature": signature})
    with pytest.raises(ApprovalInvalidError) as caught:
        verify(forged, KEY, EXPECTED, NOW)
    assert caught.value.what == (
        f"{name_of(forged)} has a signature that does not fit: one of its fields was changed, or another key signed it"
    )
    assert caught.value.next_action.startswith("give the task that asks and the task that publishes the same approval")


def test_another_key_is_refused() -> None:
    with pytest.raises(ApprovalInvalidError, match="or another key signed it"):
        verify(APPROVAL, ApprovalKey(SECRET.upper().encode()), EXPECTED, NOW)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"corpus": "wiki"}, "was given for corpus wiki, this run publishes to corpus handbook"),
        ({"store": "s3://b/p"}, "was given for store s3://b/p, this run publishes to s3://bucket/prefix"),
        ({"channel": "candidate"}, "was given for channel candidate, this run publishes to champion"),
        ({"release": D}, "was given for release dddddddddddd, this run publishes aaaaaaaaaaaa"),
        (
            {"evaluation": None},
            "was given for evaluation none, this run publishes on evaluation bbbbbbbbbbbb",
        ),
        ({"run": "manual__0"}, "was given in run manual__0, this is run manual__1"),
        ({"expires_at": "2026-11-21T09:00:00Z"}, "expired 3 hours ago (2026-11-21T09:00:00Z)"),
        ({"expires_at": "2026-11-18T11:00:00Z"}, "expired 3 days ago (2026-11-18T11:00:00Z)"),
        ({"expires_at": "2026-11-21T10:01:00Z"}, "expired 119 minutes ago (2026-11-21T10:01:00Z)"),
        ({"expires_at": "tomorrow"}, "cannot be dated: 'tomorrow' is not a time like 2026-11-21T10:00:00Z"),
        (
            {"decided_at": "2026-11-21T10:00:00+00:00"},
            "cannot be dated: '2026-11-21T10:00:00+00:00' is not a time like 2026-11-21T10:00:00Z",
        ),
    ],
)
def test_a_signed_approval_of_something_else_is_refused_and_named(fields: dict[str, Any], told: str) -> None:
    given = approval_with(**fields)
    with pytest.raises(ApprovalInvalidError) as caught:
        verify(given, KEY, EXPECTED, NOW)
    assert caught.value.what == f"{name_of(given)} {told}"
    assert caught.value.next_action == (
        "run promote_release again and answer the form of that run; the champion keeps serving"
    )
    assert not caught.value.retryable


def test_an_approval_of_a_promotion_does_no_rollback() -> None:
    with pytest.raises(ApprovalInvalidError, match="was given for op promote, this run would do rollback"):
        verify(APPROVAL, KEY, expected_with(op="rollback"), NOW)


@pytest.mark.parametrize(
    ("fields", "approvers", "what", "next_action"),
    [
        (
            {"decision": "reject"},
            EXPECTED.approvers,
            "is a reject by 'ml_lead' (ML lead)",
            "nothing: the champion keeps serving, and a changed candidate asks anew",
        ),
        (
            {"approver": Approver(id="eve", name="ml_lead")},
            EXPECTED.approvers,
            "was given by 'eve' (ml_lead), who is no approver; approvers: ml_lead, second",
            "run promote_release again and let one of the approvers answer, or add to promotion.approvers",
        ),
        (
            {"approver": Approver(id="", name="nobody")},
            frozenset(),
            "was given by '' (nobody), who is no approver; approvers: any user of Airflow",
            "run promote_release again and let one of the approvers answer, or add to promotion.approvers",
        ),
    ],
)
def test_who_and_how_it_was_decided_must_be_right(
    fields: dict[str, Any], approvers: frozenset[str], what: str, next_action: str
) -> None:
    given = approval_with(**fields)
    with pytest.raises(ApprovalInvalidError) as caught:
        verify(given, KEY, expected_with(approvers=approvers), NOW)
    assert caught.value.what == f"{name_of(given)} {what}"
    assert caught.value.next_action == next_action


def test_an_approval_ends_with_the_second_in_which_it_expires() -> None:
    end = parse_time(APPROVAL.expires_at)
    verify(APPROVAL, KEY, EXPECTED, end - 0.001)
    for late, ago in ((0, "0 seconds"), (1, "1 second"), (2, "2 seconds")):
        with pytest.raises(ApprovalInvalidError) as caught:
            verify(APPROVAL, KEY, EXPECTED, end + late)
        assert caught.value.what == f"{name_of(APPROVAL)} expired {ago} ago (2026-11-23T10:00:00Z)"


def test_clocks_may_differ_by_a_minute_and_no_more() -> None:
    decided = parse_time(APPROVAL.decided_at)
    verify(APPROVAL, KEY, EXPECTED, decided - 60)
    with pytest.raises(ApprovalInvalidError) as caught:
        verify(APPROVAL, KEY, EXPECTED, decided - 61)
    assert caught.value.what == f"{name_of(APPROVAL)} was decided 61 seconds in the future (2026-11-21T10:00:00Z)"
    assert caught.value.next_action.startswith("set the clocks of Airflow and the store right")


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        (C, D, "was decided against entry cccccccccccc, now it is at dddddddddddd"),
        (None, D, "was decided against entry none, now it is at dddddddddddd"),
        (C, None, "was decided against entry cccccccccccc, now it is at none"),
    ],
)
def test_an_approval_dies_when_the_champion_moves(was: str | None, now: str | None, told: str) -> None:
    given = approval_with(base_entry=was)
    with pytest.raises(ApprovalStaleError) as caught:
        verify(given, KEY, expected_with(base_entry=now), NOW)
    assert caught.value.what == f"the champion moved: {name_of(given)} {told}"
    assert caught.value.next_action == (
        "run promote_release again for a new evaluation against the new champion, which keeps serving"
    )
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "fields", [{"run": "manual__0"}, {"decision": "reject"}, {"expires_at": "2026-11-21T11:00:00Z"}]
)
def test_only_an_approval_that_is_otherwise_valid_asks_for_a_new_evaluation(fields: dict[str, Any]) -> None:
    with pytest.raises(ApprovalInvalidError):
        verify(approval_with(**fields), KEY, expected_with(base_entry=D), NOW)


def test_an_approval_is_stored_once_under_its_digest(any_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_FIRST_WAIT_SECONDS", 0.0)
    store = FaultStore(any_store(), {1: "before", 2: "after"})
    digest = write_approval(store, APPROVAL)
    assert digest == APPROVAL.digest
    assert [item.key for item in store.list_keys("")] == [f"handbook/approvals/{digest}.json"]
    assert read_approval(any_store(), "handbook", digest) == APPROVAL
    assert write_approval(any_store(), APPROVAL) == digest
    with pytest.raises(ObjectMissingError, match=f"handbook/approvals/{D}.json is not in"):
        read_approval(store, "handbook", D)


def test_an_approval_that_was_edited_in_the_store_is_refused_before_its_signature(any_store: MakeStore) -> None:
    store = any_store()
    digest = write_approval(store, APPROVAL)
    edited = canonical_json(APPROVAL.model_dump(mode="json") | {"expires_at": "2036-11-23T10:00:00Z"})
    store.put(f"handbook/approvals/{digest}.json", edited)
    with pytest.raises(ObjectCorruptError, match="does not have the digest"):
        read_approval(store, "handbook", digest)
    store.put(f"handbook/approvals/{sha256_hex(edited)}.json", edited)
    with pytest.raises(ApprovalInvalidError, match="has a signature that does not fit"):
        verify(read_approval(store, "handbook", sha256_hex(edited)), KEY, EXPECTED, NOW)


def test_an_approval_is_good_for_one_entry(any_store: MakeStore) -> None:
    channel = Channel(any_store(), "handbook")
    channel.apply(Promotion("promote", D, None, policy="f" * 64))
    base = channel.read().entry
    digest = approval_with(base_entry=base).digest
    assert not was_used_here(channel.history(), digest, A, base)

    channel.apply(Promotion("promote", A, base, approval=digest))
    entry = channel.read().entry
    roll_back(channel, D, "worse")
    assert was_used_here(channel.history(), digest, A, base)

    now = channel.read().entry
    for release, onto in ((A, now), (B, base)):
        with pytest.raises(ApprovalInvalidError) as caught:
            was_used_here(channel.history(), digest, release, onto)
        assert caught.value.what == (
            f"approval {digest[:12]} was used by entry {entry[:12]} for release aaaaaaaaaaaa on entry {base[:12]}, "
            f"this run publishes {release[:12]} on {onto[:12]}"
        )


def test_the_key_shows_in_no_text_log_or_traceback(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("any").warning("%s %r %s", KEY, KEY, {"key": KEY})
    shown = [caplog.text, str(KEY), repr(KEY), f"{KEY} {KEY!r} {[KEY]}", repr(APPROVAL)]
    refused = approval_with(run="manual__0"), approval_with(base_entry=D), UNSIGNED
    for given in refused:
        with pytest.raises((ApprovalInvalidError, ApprovalStaleError)) as caught:
            verify(given, KEY, EXPECTED, NOW)
        shown += [everything_shown(caught.value), locals_shown(caught.value)]
        assert "ApprovalKey(hidden)" in shown[-1]
    assert "ApprovalKey(hidden)" in caplog.text
    assert SECRET not in "\n".join(shown)


def everything_shown(error: TidegateError) -> str:
    """Return all that a log holds of an error: traceback, block, record and what it came from."""
    told = "".join(traceback.format_exception(error))
    return "\n".join([told, error.block(), repr(error.as_record()), repr(error.__context__), repr(error.__cause__)])


def locals_shown(error: TidegateError) -> str:
    """Return the variables of the code's own frames, which some loggers show too."""
    stack = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    return repr([frame.locals for frame in stack if frame.filename.endswith("registry/approvals.py")])
