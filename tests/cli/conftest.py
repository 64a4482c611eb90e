"""A home of their own for the command line's tests, and three ways to call it."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import settle
from tidegate.cli.main import main
from tidegate.indexing import embedder_onnx

TIDEGATE = Path(sys.executable).parent / "tidegate"
_PR_CAPBSET_DROP = 24
_CAPABILITIES_OVER_MODES = (1, 2)


@dataclass(frozen=True)
class Answer:
    """What one call of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The only object on stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def rows(self) -> list[Any]:
        """One object a line."""
        return [json.loads(line) for line in self.out.split("\n") if line]


Call = Callable[..., Answer]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, which is also the working directory; nothing of the caller's settings is left."""
    folder = tmp_path / "home"
    (folder / "include" / "corpora").mkdir(parents=True)
    for name in [
        name
        for name in os.environ
        if name.startswith(("TIDEGATE_STORE", "TIDEGATE_CORPORA", "AWS_", "PYTHONUNBUFFERED"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TIDEGATE_HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def one_model() -> Iterator[None]:
    """Load the model once for all calls in this process: a second a call otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedder_onnx, "OnnxEmbedder", functools.cache(embedder_onnx.OnnxEmbedder))
        yield


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command line in this process."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        return Answer(code, *capsys.readouterr())

    return call


@pytest.fixture
def process() -> Call:
    """Call the command line as a process of its own, which file modes stop even if root runs the tests."""

    def call(*arguments: object, stdin: str = "", **environment: str) -> Answer:
        done = subprocess.run(
            [TIDEGATE, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            env=os.environ | environment,
            preexec_fn=_obey_modes,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return call


def _obey_modes() -> None:
    for capability in _CAPABILITIES_OVER_MODES:
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def write(folder: Path, documents: dict[str, str | bytes]) -> Path:
    """Write documents into a folder and return it."""
    for name, text in documents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


@dataclass(frozen=True)
class Served:
    """A store with one released corpus, which no test changes."""

    store: Path
    folder: Path

    @property
    def release(self) -> str:
        """What serves."""
        return str(json.loads((self.store / "handbook" / "channels" / "champion" / "HEAD.json").read_text())["release"])


ROLLBACK = "# Rolling back\n\nTo undo a release, pull the brass lever.\n"
RETRIES = "# Retries\n\nA quokka retries: quokka, quokka.\n"


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """Six small documents of three kinds, refreshed once."""
    base = tmp_path_factory.mktemp("served")
    folder = write(
        base / "handbook",
        {
            "guide/rollback.md": f"---\ndoc_type: runbook\nproduct: ledger\n---\n{ROLLBACK}",
            "old/rollback.md": f"---\ndoc_type: archive\n---\n{ROLLBACK}",
            "guide/retries.md": f"---\ndoc_type: runbook\nproduct: cards\n---\n{RETRIES}",
            "animals.txt": "The quokka lives on an island off the coast, like many other small and shy animals.\n",
            "api/errors.html": "<h1>Errors</h1><p>Code E4711 means that the tide was out.</p>",
            "empty.md": b"",
        },
    )
    settle()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDEGATE_HOME", str(base))
        assert main(["refresh", str(folder), "--store", str(base / "store")]) == 0
    return Served(base / "store", folder)


JARGON = ("Traceback", "_positive", "NoneType", "instance of", "tuple", "got {'", "dictionary")


def assert_mistake(answer: Answer, *named: str) -> None:
    """Assert that a call was refused as a person can use it: one line that names all of ``named``, and nothing else."""
    assert (answer.code, answer.out) == (2, ""), answer.err
    assert answer.err.startswith("tidegate")
    assert answer.err.endswith("\n")
    assert len(answer.err.splitlines()) == 1
    assert [word for word in JARGON if word in answer.err] == []
    assert [part for part in named if part not in answer.err] == [], answer.err
