"""Approvals: a person's decision, signed, bound to what was shown, and good for one entry of a channel.

The signature protects against users of the Airflow UI and API, who can forge a task's state or result but not read the
key. It does not protect against somebody who can deploy code to the worker that holds the key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidegate.core import keys
from tidegate.core.errors import ApprovalInvalidError, ApprovalKeyMissingError, ApprovalStaleError
from tidegate.core.event_records import parse_time
from tidegate.core.protocols import ArtifactStore
from tidegate.core.publishing import create_once
from tidegate.core.records import Approval, Digest, Entry
from tidegate.core.stored_records import read_record

KEY_VARIABLE = "TIDEGATE_APPROVAL_KEY"
KEY_FILE_VARIABLE = "TIDEGATE_APPROVAL_KEY_FILE"
_KEY_BYTES = 32
_CLOCK_SKEW_SECONDS = 60
_UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60))
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_BOUND = {
    "corpus": "this run publishes to corpus",
    "store": "this run publishes to",
    "channel": "this run publishes to",
    "op": "this run would do",
    "release": "this run publishes",
    "evaluation": "this run publishes on evaluation",
}
"""Fields that must equal what is expected, and how the difference is told."""


class ApprovalKey(bytes):
    """A secret that shows in no log, error or representation."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ApprovalKey(hidden)"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class ExpectedApproval:
    """What a run is about to publish: an approval counts only if it was given for exactly that."""

    corpus: str
    store: str
    """URI."""
    channel: str
    op: str
    release: Digest
    evaluation: Digest | None
    base_entry: Digest | None
    """The newest entry of the channel now."""
    run: str
    approvers: frozenset[str]
    """Ids of who may decide; empty: whoever may answer the form."""


def load_key(environment: Mapping[str, str]) -> ApprovalKey:
    """Return the key from ``TIDEGATE_APPROVAL_KEY`` or the file that ``TIDEGATE_APPROVAL_KEY_FILE`` names.

    White space around it is no part of it. Raises ``ApprovalKeyMissingError`` unless exactly one of the two is set, the
    key has at least 32 bytes, and the file can be read by its owner alone.
    """
    text, path = environment.get(KEY_VARIABLE), environment.get(KEY_FILE_VARIABLE)
    if bool(text) == bool(path):
        both = f"both {KEY_VARIABLE} and {KEY_FILE_VARIABLE} are set"
        neither = f"neither {KEY_VARIABLE} nor {KEY_FILE_VARIABLE} is set: approvals cannot be signed or verified"
        raise ApprovalKeyMissingError(
            both if text else neither, next_action="unset one of the two, then run again" if text else None
        )
    source = KEY_FILE_VARIABLE if path else KEY_VARIABLE
    key = (_read_private(path) if path else os.fsencode(text or "")).strip()
    if len(key) < _KEY_BYTES:
        raise ApprovalKeyMissingError(f"the key of {source} has {len(key)} bytes; at least {_KEY_BYTES} are needed")
    return ApprovalKey(key)


def _read_private(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & _OTHERS:
                raise ApprovalKeyMissingError(
                    f"the key file {path} has mode {mode:04o}: others than its owner can get at it",
                    next_action=f"chmod 600 {path}; if others could read it, make a new key; then run again",
                )
            return file.read()
    except OSError as error:
        reason = error.strerror
    # Neither the path nor the error that holds it is shown: it may be the key itself, put into the wrong variable.
    raise ApprovalKeyMissingError(f"{KEY_FILE_VARIABLE} names no file that can be read: {reason}")


def sign(approval: Approval, key: bytes) -> Approval:
    """Return the approval with its signature, whatever ``signature`` was before."""
    return approval.model_copy(update={"signature": _signature(approval, key)})


def write_approval(store: ArtifactStore, approval: Approval) -> Digest:
    """Store a signed approval and return its digest; writing it again is no change."""
    create_once(store, keys.approval(approval.corpus, approval.digest), approval.to_bytes())
    return approval.digest


def read_approval(store: ArtifactStore, corpus: str, digest: Digest) -> Approval:
    """Return an approval by its digest. It proves nothing before :func:`verify`."""
    return read_record(store, keys.approval(corpus, digest), Approval, digest)


def verify(approval: Approval, key: bytes, expected: ExpectedApproval, now: float) -> None:
    """Refuse an approval that does not allow what is expected at ``now`` (seconds since the epoch, the store's clock).

    Raises ``ApprovalInvalidError``; where nothing but the champion has changed since, ``ApprovalStaleError``.
    """
    name = f"approval {approval.digest[:12]}"
    if not hmac.compare_digest(_signature(approval, key).encode(), approval.signature.encode()):
        raise ApprovalInvalidError(
            f"{name} has a signature that does not fit: one of its fields was changed, or another key signed it",
            next_action="give the task that asks and the task that publishes the same approval key and run "
            "promote_release again; if they have it, look in Airflow's audit log for who wrote this approval",
        )
    _require_same(name, approval, expected)
    _require_approver(name, approval, expected.approvers)
    _require_in_time(name, approval, now)
    if approval.base_entry != expected.base_entry:
        raise ApprovalStaleError(
            f"the champion moved: {name} was decided against entry {_shown(approval.base_entry)}, "
            f"now it is at {_shown(expected.base_entry)}"
        )


def was_used_here(
    history: Iterable[tuple[Digest, Entry]], approval: Digest, release: Digest, base_entry: Digest | None
) -> bool:
    """Tell whether an approval has done exactly this promotion already: ``release`` on ``base_entry``.

    Ask it before :func:`verify`: the promotion itself has moved the champion. Raises ``ApprovalInvalidError`` if the
    approval was used for anything else: one approval, one entry.
    """
    use = next(((digest, entry) for digest, entry in history if entry.approval == approval), None)
    if use is None:
        return False
    digest, entry = use
    if (entry.release, entry.prev) == (release, base_entry):
        return True
    raise ApprovalInvalidError(
        f"approval {approval[:12]} was used by entry {digest[:12]} for release {_shown(entry.release)} on entry "
        f"{_shown(entry.prev)}, this run publishes {_shown(release)} on {_shown(base_entry)}"
    )


def _require_same(name: str, approval: Approval, expected: ExpectedApproval) -> None:
    for field, told in _BOUND.items():
        given, wanted = getattr(approval, field), getattr(expected, field)
        if given != wanted:
            raise ApprovalInvalidError(f"{name} was given for {field} {_shown(given)}, {told} {_shown(wanted)}")
    if approval.run != expected.run:
        raise ApprovalInvalidError(f"{name} was given in run {approval.run}, this is run {expected.run}")


def _require_approver(name: str, approval: Approval, approvers: frozenset[str]) -> None:
    who = f"{approval.approver.id!r} ({approval.approver.name})"
    if approval.decision != "approve":
        raise ApprovalInvalidError(
            f"{name} is a {approval.decision} by {who}",
            next_action="nothing: the champion keeps serving, and a changed candidate asks anew",
        )
    if not approval.approver.id or (approvers and approval.approver.id not in approvers):
        allowed = ", ".join(sorted(approvers)) or "any user of Airflow"
        raise ApprovalInvalidError(
            f"{name} was given by {who}, who is no approver; approvers: {allowed}",
            next_action="run promote_release again and let one of the approvers answer, or add to promotion.approvers",
        )


def _require_in_time(name: str, approval: Approval, now: float) -> None:
    try:
        decided, expires = parse_time(approval.decided_at), parse_time(approval.expires_at)
    except ValueError as error:
        raise ApprovalInvalidError(f"{name} cannot be dated: {error}") from error
    if decided > now + _CLOCK_SKEW_SECONDS:
        raise ApprovalInvalidError(
            f"{name} was decided {_span(decided - now)} in the future ({approval.decided_at})",
            next_action="set the clocks of Airflow and the store right, then run promote_release again",
        )
    if expires <= now:
        raise ApprovalInvalidError(f"{name} expired {_span(now - expires)} ago ({approval.expires_at})")


def _signature(approval: Approval, key: bytes) -> str:
    return hmac.new(key, approval.signed_bytes(), hashlib.sha256).hexdigest()


def _shown(value: str | None) -> str:
    """Return a digest by its first 12 digits, anything else whole."""
    is_digest = value is not None and len(value) == 64 and set(value) <= set("0123456789abcdef")
    return "none" if value is None else value[:12] if is_digest else value


def _span(seconds: float) -> str:
    """Return a span in the largest unit of which it holds two."""
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return "1 second" if int(seconds) == 1 else f"{int(seconds)} seconds"
