"""Every failure that a person may meet: a code, what happened, whether a re-run is safe, and what to do next.

The codes are the section names of docs/runbook.md (a test compares the two, both ways). ``retryable`` tells an
orchestrator whether the same task may succeed when tried again; ``usage`` marks a mistake in the input, which the
command line reports in one line with exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

_RULE = "─" * 78


class TidegateError(Exception):
    """Base of all typed failures.

    :param what: one sentence that names the value or object that is wrong.
    :param document: the document or replica concerned, if one is.
    :param next_action: overrides the class's own advice where the place of failure knows better.
    """

    code: ClassVar[str] = "unexpected"
    retryable: ClassVar[bool] = False
    usage: ClassVar[bool] = False
    safe_to_rerun: ClassVar[bool] = True
    advice: ClassVar[str] = "read the traceback above; if it names no cause you can mend, report it with this log"

    def __init__(self, what: str, *, document: str | None = None, next_action: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.document = document
        self.next_action = next_action or self.advice

    def as_record(self) -> dict[str, str | bool | None]:
        """Return the failure as it stands in run records and ``tidegate status``."""
        return {
            "code": self.code,
            "what": self.what,
            "document": self.document,
            "safe_to_rerun": self.safe_to_rerun,
            "next_action": self.next_action,
        }

    def block(self) -> str:
        """Return the failure block: the last thing in a task log."""
        rows = [
            ("what", self.what),
            ("document", self.document or "none"),
            ("safe to rerun", "yes" if self.safe_to_rerun else "no"),
            ("next action", self.next_action),
            ("runbook", f"docs/runbook.md#{self.code}"),
        ]
        lines = [one_line(line) for name, value in rows for line in f"{name:<14} {value}".split("\n")]
        return "\n".join([_RULE, f"FAILED  {self.code}", *lines, _RULE])


class ConfigInvalidError(TidegateError):
    """A corpus file or a command has a key, type or value that is not allowed."""

    code = "config_invalid"
    usage = True
    advice = "correct the value; docs/configuration.md lists every key with its type and default"


class CorpusUnknownError(TidegateError):
    """No corpus of that name is configured or stored."""

    code = "corpus_unknown"
    usage = True
    advice = "use one of the names above, or add include/corpora/<name>.yaml"


class SourceMissingError(TidegateError):
    """The folder of a source does not exist or is not a folder."""

    code = "source_missing"
    usage = True
    advice = "mount or create the folder, or correct source.path; nothing was changed"


class SourceIncompleteError(TidegateError):
    """Part of the source could not be listed; nothing below it was deleted."""

    code = "source_incomplete"
    retryable = True
    advice = "restore access to the part named above and run again; what could be read is already indexed"


class SourceEmptyError(TidegateError):
    """The source listed no document although the index holds some."""

    code = "source_empty"
    advice = "check the mount or path; if it is meant to be empty set source.allow_empty: true and run again"


class QuarantineExceededError(TidegateError):
    """More documents failed to parse than the corpus allows; nothing was published."""

    code = "quarantine_exceeded"
    advice = "repair the documents listed above or raise quarantine.max_new or quarantine.max_share, then run again"


class EmbedderMissingError(TidegateError):
    """The embedding model or its ONNX export is not on this machine."""

    code = "embedder_missing"
    usage = True
    advice = "correct embedder.model, or run 'tidegate setup' on this machine (it exports the model), then run again"


class StoreUriError(TidegateError):
    """The store's URI has an unknown scheme or lacks a part."""

    code = "store_uri_invalid"
    usage = True
    advice = "use file:///absolute/folder, a plain folder path, or s3://bucket/prefix"


class StoreUnavailableError(TidegateError):
    """The store did not answer, or answered 5xx: a write may or may not have been applied."""

    code = "store_unavailable"
    retryable = True
    advice = "check the store's endpoint and the network; the next run reads back what was applied"


class StoreDeniedError(TidegateError):
    """The store refused the credentials or the permission."""

    code = "store_denied"
    advice = "give this role read, list and put on the prefix (docs/guarantees.md lists the roles), then run again"


class StoreFullError(TidegateError):
    """No space is left where the store or the scratch folder lives."""

    code = "store_full"
    advice = "free space on the device named above, then run again; no half-written object is visible"


class ObjectMissingError(TidegateError):
    """An object that a committed record names is not in the store."""

    code = "object_missing"
    safe_to_rerun = False
    advice = "run 'tidegate verify' to see how far it goes, and restore the object from a copy of the store"


class ObjectCorruptError(TidegateError):
    """An object's bytes do not have the digest that its record names."""

    code = "object_corrupt"
    safe_to_rerun = False
    advice = "run 'tidegate verify' to see how far it goes, and restore the object from a copy of the store"


class SnapshotInvalidError(TidegateError):
    """A new snapshot failed its own checks before it was committed; the previous one stays."""

    code = "snapshot_invalid"
    advice = "the previous snapshot still serves; run again, and report it with this log if it repeats"


class CommitLostError(TidegateError):
    """Another run moved the head first; this run's work was not published."""

    code = "commit_lost"
    advice = "run again from the first task: it starts from the newer state and repeats only what is missing"


class CommitUnknownError(TidegateError):
    """The store did not say whether the commit was applied, and could not be read back."""

    code = "commit_unknown"
    retryable = True
    advice = "run again once the store answers: a commit that was applied is recognised, not repeated"


class ApprovalKeyMissingError(TidegateError):
    """There is no usable key to sign or verify approvals with."""

    code = "approval_key_missing"
    usage = True
    advice = (
        "put the output of 'openssl rand -hex 32' into a file of mode 0600, and its path into "
        "TIDEGATE_APPROVAL_KEY_FILE, the same key wherever promote_release asks and publishes; nothing was published"
    )


class ApprovalInvalidError(TidegateError):
    """An approval does not allow what a run is about to publish."""

    code = "approval_invalid"
    advice = "run promote_release again and answer the form of that run; the champion keeps serving"


class ApprovalStaleError(TidegateError):
    """The champion moved after the decision was made."""

    code = "approval_stale"
    advice = "run promote_release again for a new evaluation against the new champion, which keeps serving"


class ReleaseHeldError(TidegateError):
    """The release was rolled back before; only a person may promote it again."""

    code = "release_held"
    advice = "the rolled-back state keeps serving until a changed snapshot is released"


class ReleaseMissingError(TidegateError):
    """Nothing has been promoted for this corpus yet."""

    code = "release_missing"
    usage = True
    advice = "run 'tidegate refresh <folder or corpus>' first"


class ReleaseUnknownError(TidegateError):
    """No release, or more than one, is meant by what was given."""

    code = "release_unknown"
    usage = True
    advice = "give one of the choices above by its version or by more digits of its id; 'tidegate releases' lists them"


class NotApproverError(TidegateError):
    """Someone who is not among the approvers of a corpus asked for what they decide."""

    code = "not_approver"
    advice = "let one of the approvers named above do it; the champion keeps serving"


class StageMissingError(TidegateError):
    """The plan or a shard of this run is not in the store."""

    code = "stage_missing"
    advice = "clear the run from its first task (detect); committed work is not repeated"


class QuestionsInvalidError(TidegateError):
    """A file of questions has a line that is not a question."""

    code = "questions_invalid"
    usage = True
    advice = 'give one JSON object a line with at least {"question": "..."}'


class DatasetInvalidError(TidegateError):
    """A Q&A set breaks a rule over the whole set; the previous dataset stays."""

    code = "dataset_invalid"
    advice = "correct the rows listed above in the Q&A source, or the threshold that the rule names, then run again"


class DatasetMissingError(TidegateError):
    """No dataset has been committed for this corpus yet."""

    code = "dataset_missing"
    usage = True
    advice = "run 'tidegate qa validate --qa FILE' first, or set qa.path in the corpus file"


class ValidationIncompleteError(TidegateError):
    """The rules were not all evaluated over all rows, or a rule could not fail."""

    code = "validation_incomplete"
    advice = "the rules or Great Expectations are at fault, not the rows; nothing was stored: report it with this log"


class BaseModelMissingError(TidegateError):
    """The base model, or what set-up makes of it, is not on this machine."""

    code = "base_model_missing"
    usage = True
    advice = "correct base_model.model, or run 'tidegate setup' on this machine, then run again"


class TrainingSpecInvalidError(TidegateError):
    """A training setting does not fit the base model, the device, the serving pool or the rows."""

    code = "training_invalid"
    usage = True
    advice = "correct the setting under training: in the corpus file; nothing was trained"


class BudgetExceededError(TidegateError):
    """The estimate of a training run is over the budget of the corpus file."""

    code = "over_budget"
    advice = "raise training.budget, or train on fewer tokens (training.rows, training.epochs); nothing was spent"


class TrainingStoppedError(TidegateError):
    """The training process ended before it was done."""

    code = "training_stopped"
    retryable = True
    advice = "run again: it goes on from the last checkpoint; if it repeats, read the trainer's last lines above"


class TrainingDivergedError(TidegateError):
    """The loss became infinite, not a number, nothing, or far larger than at the start."""

    code = "training_diverged"
    advice = "lower training.learning_rate, or look at the rows of the step named above; nothing was published"


class TrainingOutOfMemoryError(TidegateError):
    """The device ran out of memory; the same settings would meet it again."""

    code = "training_out_of_memory"
    advice = "lower training.batch_tokens or set training.gradient_checkpointing: true, then run again"


class AdapterInvalidError(TidegateError):
    """A trained adapter cannot be served: its files, shapes, numbers or base model are wrong."""

    code = "adapter_invalid"
    advice = "correct what is named above and train again; nothing was published"


class AdapterMissingError(TidegateError):
    """No adapter has been committed for this corpus yet."""

    code = "adapter_missing"
    usage = True
    advice = "run 'tidegate adapters train' or the DAG refresh_adapter first"


class GenerationFailedError(TidegateError):
    """An engine refused a prompt, does not know a model or adapter, or did not answer."""

    code = "generation_failed"
    retryable = True
    advice = "check the endpoint named above and its log, then run again"


class EmbedderMismatchError(TidegateError):
    """The vectors of a snapshot were made by another embedder than the one at hand."""

    code = "embedder_mismatch"
    usage = True
    advice = "install the embedder that the snapshot names, or refresh the corpus with the one configured"


class ResourceExhaustedError(TidegateError):
    """The process ran out of memory."""

    code = "out_of_memory"
    advice = "give the worker more memory or lower embedder.batch_tokens, then run again; a retry alone would not help"


class LocalAirflowError(TidegateError):
    """The Airflow that ``make run`` starts on this machine did not start, or stopped."""

    code = "local_airflow_failed"
    advice = "read the log named above; 'make clean-airflow' starts over with a new metadata database"


class LocalVllmError(TidegateError):
    """The vLLM that runs on this machine did not start, stopped, or refused an adapter."""

    code = "local_vllm_failed"
    advice = "read the log named above; 'make setup-serving' installs vLLM anew"


class UnexpectedError(TidegateError):
    """A failure that has no code of its own: a defect."""

    code = "unexpected"


def one_line(text: str) -> str:
    """Return text that cannot break a line or steer a terminal: what is not printable stands escaped."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def all_failures() -> tuple[type[TidegateError], ...]:
    """Return every typed failure, sorted by code."""
    return tuple(sorted(TidegateError.__subclasses__(), key=lambda kind: kind.code))


def suggest(received: str, valid: Iterable[str], *, shown: int = 40) -> str:
    """Return ``"; did you mean 'x'? valid: a, b, x"`` for an unknown name (without the guess if none is near)."""
    names = sorted(valid)
    near = difflib.get_close_matches(received, names, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ";"
    more = f", … ({len(names)} in all)" if len(names) > shown else ""
    return f"{guess} valid: {', '.join(names[:shown]) or 'none yet'}{more}"
