"""``tidegate``: parse the command line and run one command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from tidegate import __version__

_EPILOG = """examples:
  tidegate refresh ./docs                     index a folder, or update what changed in it
  tidegate refresh handbook                   the same for a corpus in include/corpora/handbook.yaml
  tidegate search "how do I roll back?"       ranked passages from the release that serves
  tidegate qa validate --qa qa.jsonl          check questions against the documents, split them, keep them
  tidegate evaluate retrieval --qa qa.jsonl   hit, recall, MRR and nDCG of each search mode
  tidegate status                             what serves, what is in quarantine, how the last run went
  tidegate releases diff v3 champion          what changed: documents, rows, metrics, settings
  tidegate rollback --reason "worse answers"  let the release before serve again

The store is --store, else $TIDEGATE_STORE, else .tidegate/store of the project; it takes file:///folder and
s3://bucket/prefix (credentials from the usual AWS chain). Exit codes: 0 done, 1 failed, 2 a mistake in the input.
"""


if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction["_Parser"]


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose options have one name."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        said = message.encode("unicode_escape").decode() if not message.isprintable() else message
        sys.stderr.write(f"{self.prog}: {said} (see {self.prog} --help)\n")
        raise SystemExit(2)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="tidegate",
        description="Keep a retrieval index fresh from changing documents, and search what was released.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tidegate {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_refresh(commands)
    _add_search(commands)
    _add_evaluate(commands)
    status = _command(commands, "status", "What each corpus serves, its quarantine, and how its last run went.")
    status.set_defaults(run="status")
    _add_releases(commands)
    verify = _command(
        commands, "verify", "Read everything back and check it: digests, counts, ids. Exit 1 if anything is off."
    )
    verify.set_defaults(run="verify")
    _add_qa(commands)
    _add_adapters(commands)
    setup = commands.add_parser(
        "setup",
        help="Prepare the models of this machine (once).",
        description="Export the embedding models of the configured corpora to ONNX, and write their base models in "
        "the form of transformers, once per machine.",
    )
    setup.set_defaults(run="setup")
    return parser


def _add_refresh(commands: _Commands) -> None:
    refresh = _command(
        commands,
        "refresh",
        "Index a folder or a configured corpus: only what changed is read, embedded and written.",
        "A document that cannot be indexed is put in quarantine with its reason and keeps its last good version.",
    )
    refresh.add_argument(
        "target", metavar="FOLDER|CORPUS", help="a folder of documents, or a corpus of include/corpora"
    )
    refresh.set_defaults(run="refresh")


def _add_search(commands: _Commands) -> None:
    search = _command(
        commands, "search", "Ranked passages from the release that serves.", "Give one QUESTION, or a file of them."
    )
    search.add_argument("question", nargs="?", metavar="QUESTION")
    search.add_argument(
        "--queries", metavar="FILE.jsonl", help='one {"question": ...} a line, answered as one batch; - reads stdin'
    )
    search.add_argument(
        "--top-k", type=_positive, metavar="K", help="passages per question (default: the release's, 10)"
    )
    search.add_argument("--mode", choices=("hybrid", "dense", "sparse"), help="default: the release's, hybrid")
    search.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="metadata, e.g. doc_type=runbook; again to narrow, same key again to widen",
    )
    search.set_defaults(run="search")


def _add_evaluate(commands: _Commands) -> None:
    evaluate = commands.add_parser("evaluate", help="Measure what serves against known answers.")
    what = evaluate.add_subparsers(dest="what", required=True, metavar="WHAT", parser_class=_Parser)
    retrieval = _command(
        what,
        "retrieval",
        "hit, recall, MRR and nDCG of each search mode, by document.",
        'Rows need "question" and "evidence": [{"document": path}]; a path may be given by its unambiguous end.',
    )
    retrieval.add_argument("--qa", required=True, metavar="FILE.jsonl", help="questions with their evidence")
    retrieval.set_defaults(run="evaluate_retrieval")
    adapter = _command(
        what,
        "adapter",
        "Base model and newest adapter on the same passages: holdout, near misses, values that changed.",
        "The base model gets the prompt that does best on dev. Minutes on two cores.",
    )
    adapter.add_argument("--adapter", metavar="KEY", help="another one than the newest, by the beginning of its key")
    adapter.add_argument("--answers", metavar="FILE.jsonl", help="write every answer with its passages")
    adapter.set_defaults(module="adapter_commands", run="evaluate")


def _add_releases(commands: _Commands) -> None:
    releases = _command(commands, "releases", "The promotions and rollbacks of a corpus, newest first.")
    releases.add_argument("--limit", type=_positive, default=20, metavar="N", help="entries to show (default 20)")
    releases.set_defaults(module="release_commands", run="releases")
    diff = _command(
        releases.add_subparsers(dest="what", metavar="[diff]", parser_class=_Parser),
        "diff",
        "What release B has otherwise than release A: documents, rows, metrics, settings.",
        "A release is given by the beginning of its id, as v12, or as champion or candidate (the newest that has not "
        "served).",
        argument_default=argparse.SUPPRESS,  # an option given before diff stays
    )
    diff.add_argument("first", metavar="A")
    diff.add_argument("second", metavar="B")
    diff.set_defaults(run="difference")
    events = _command(
        commands,
        "events",
        "The decisions about a corpus, newest first: who, what, why, when.",
        "With --json also the evidence of each, by digest, and its run.",
    )
    events.add_argument("--limit", type=_positive, default=20, metavar="N", help="events to show (default 20)")
    events.set_defaults(module="release_commands", run="events")
    promote = _command(
        commands,
        "promote",
        "Measure what is newest, hold it against the gate, and promote it if the policy lets it.",
        "Where the policy asks for an approval, the DAG promote_release asks for it.",
    )
    promote.add_argument(
        "--reconsider", action="store_true", help="propose the newest adapter although it was refused before"
    )
    promote.set_defaults(module="release_commands", run="promote")
    rollback = _command(
        commands,
        "rollback",
        "Let an earlier release serve again, index and adapter as a pair; nothing is computed or copied.",
        "A release that was rolled back is promoted again by a person only.",
    )
    rollback.add_argument("--to", metavar="RELEASE", help="the beginning of its id, or v12 (default: the one before)")
    rollback.add_argument("--reason", required=True, metavar="TEXT", help="why; it stays in the history")
    rollback.set_defaults(module="release_commands", run="rollback")


def _add_qa(commands: _Commands) -> None:
    parser = commands.add_parser("qa", help="Questions with known answers: validate, review, grow a set.")
    what = parser.add_subparsers(dest="what", required=True, metavar="WHAT", parser_class=_Parser)
    validate = _command(
        what,
        "validate",
        "Check a Q&A set against the newest snapshot, split it and keep it as a dataset.",
        "Failing rows are left out and named; a set that breaks a threshold is refused, and the last dataset stays.",
    )
    validate.add_argument("--qa", metavar="FILE|FOLDER", help="the set (default: qa.path of the corpus file)")
    validate.set_defaults(module="qa_commands", run="validate")
    stale = _command(
        what, "stale", "Rows whose evidence changed or is gone since they were tied to it, with old and new passage."
    )
    stale.add_argument("--qa", metavar="FILE|FOLDER", help="the set (default: qa.path of the corpus file)")
    stale.add_argument("--export", metavar="FILE.jsonl", help="write them as a review file")
    stale.set_defaults(module="qa_commands", run="stale")
    review = _command(
        what,
        "review",
        "Take in a review file: rows with decision keep come back as they are written there, those with drop go.",
    )
    review.add_argument("file", metavar="FILE.jsonl", help="an edited review file")
    review.add_argument("--qa", metavar="FILE|FOLDER", help="the set (default: qa.path of the corpus file)")
    review.set_defaults(module="qa_commands", run="review")
    asked = _command(
        what, "unanswered", "Questions that users asked and that were answered badly, as a review file without answers."
    )
    asked.add_argument("log", metavar="LOG.jsonl", help="the answer service's log of questions")
    asked.add_argument("--export", metavar="FILE.jsonl", help="write them as a review file")
    asked.set_defaults(module="qa_commands", run="unanswered")


def _add_adapters(commands: _Commands) -> None:
    adapters = commands.add_parser("adapters", help="The adapters of a corpus.")
    what = adapters.add_subparsers(dest="what", required=True, metavar="WHAT", parser_class=_Parser)
    train = _command(what, "train", "Train an adapter on the newest dataset and snapshot, if that pays.")
    train.add_argument("--anyway", action="store_true", help="train although nothing is to be gained")
    train.set_defaults(module="adapter_commands", run="train")
    place = _command(what, "place", "Write the two files of an adapter that PEFT and vLLM load into a folder.")
    place.add_argument("folder", metavar="FOLDER", help="a new or empty folder")
    place.add_argument("--adapter", metavar="KEY", help="another one than the newest, by the beginning of its key")
    place.set_defaults(module="adapter_commands", run="place")
    affected = _command(what, "affected", "Adapters trained on rows that went stale since, or on a document to forget.")
    affected.add_argument(
        "--document", action="append", default=[], metavar="PATH", help="a document that must be forgotten; repeatable"
    )
    affected.set_defaults(module="qa_commands", run="affected")


def _command(commands: _Commands, name: str, summary: str, more: str = "", **settings: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary, description=f"{summary} {more}".strip(), **settings)
    parser.add_argument(
        "--store", metavar="URI", help="where the artifacts are (default: $TIDEGATE_STORE, else .tidegate/store)"
    )
    parser.add_argument("--corpus", type=_name, metavar="NAME", help="which corpus, where a store holds several")
    parser.add_argument("--json", action="store_true", help="print JSON, one object a line")
    return parser


def _positive(text: str) -> int:
    if not text.lstrip("-").isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 1 and 1000")
    return int(text)


def _name(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; also the console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a narrow terminal loses characters, not the answer
    try:
        try:
            return _run(_options(arguments))
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of stdout went away (`tidegate ... | head`): nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = build_parser()
    options, more = parser.parse_known_args(arguments)
    if more and options.command == "search" and not any(word.startswith("-") for word in more):
        parser.error(f"unexpected words {' '.join(more)!r}: put the QUESTION in quotes")
    return parser.parse_args(arguments) if more else options


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(
        level=logging.INFO if sys.stderr.isatty() else logging.WARNING, format="%(message)s", stream=sys.stderr
    )
    from tidegate.core.errors import ResourceExhaustedError, TidegateError, UnexpectedError, one_line

    try:
        module = importlib.import_module(f"tidegate.cli.{getattr(options, 'module', 'commands')}")
        return int(getattr(module, options.run)(options))
    except BrokenPipeError:
        raise
    except MemoryError:
        failure: TidegateError = ResourceExhaustedError(f"out of memory in tidegate {options.command}")
    except TidegateError as typed:
        failure = typed
    except Exception as error:  # noqa: BLE001 - a defect: its traceback is what a report needs, and a block ends it
        traceback.print_exc()
        failure = UnexpectedError(f"{type(error).__name__}: {error}"[:500])
    said = one_line(f"tidegate: {failure.what}; {failure.next_action}") if failure.usage else failure.block()
    sys.stderr.write(f"{said}\n")
    return 2 if failure.usage else 1
