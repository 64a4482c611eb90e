"""Where the base model is on this machine, and what set-up makes of it once: a folder in the form of transformers."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.core.canonical import canonical_json, digest_of, sha256_hex
from tidegate.core.errors import BaseModelMissingError, ConfigInvalidError
from tidegate.core.records import BaseModelIdentity

IDENTITY = "identity.json"
_CONFIG, _TOKENIZER, _TEMPLATE = "config.json", "tokenizer.json", "chat_template.jinja"
_UNNAMED = ("transformers_version", "_name_or_path", "_model_name_or_path")
"""Keys of a model's configuration that decide nothing."""


@dataclass(frozen=True, slots=True)
class BaseModelFiles:
    """A base model as it was installed, and the folder of what set-up makes of it."""

    name: str
    source: Path
    """A GGUF file, or a folder in the form of transformers."""
    prepared: Path

    @property
    def folder(self) -> Path:
        """The folder that is loaded: weights, configuration, tokenizer and chat template."""
        return self.prepared if self.source.is_file() else self.source

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's definition."""
        return self.folder / _TOKENIZER

    @property
    def is_prepared(self) -> bool:
        """Whether set-up has finished with it: the identity is written last."""
        identity = self.prepared / IDENTITY
        if not identity.is_file():
            return False
        weights = [] if self.source.is_file() else [path.stat().st_mtime_ns for path in self.source.iterdir()]
        return max(weights, default=0) <= identity.stat().st_mtime_ns

    @property
    def identity(self) -> BaseModelIdentity:
        """What decides its answers; raise ``BaseModelMissingError`` before set-up."""
        if not self.is_prepared:
            raise BaseModelMissingError(f"base model {self.name} is not prepared in {self.prepared}")
        return BaseModelIdentity.model_validate_json((self.prepared / IDENTITY).read_bytes())

    @property
    def config(self) -> dict[str, Any]:
        """The model's configuration; raise ``BaseModelMissingError`` before set-up."""
        if not self.is_prepared:
            raise BaseModelMissingError(f"base model {self.name} is not prepared in {self.prepared}")
        return dict(json.loads((self.folder / _CONFIG).read_bytes()))


def find_base_model(spec: str) -> BaseModelFiles:
    """Resolve ``package:<distribution>`` or ``path:<folder>``; raise if the model is not on this machine."""
    scheme, _, name = spec.partition(":")
    if scheme == "package" and name:
        source, build = _in_package(name), importlib.metadata.version(name)
    elif scheme == "path" and name:
        folder = Path(name).expanduser().resolve()
        if not (folder / _CONFIG).is_file():
            raise BaseModelMissingError(f"base_model.model {spec!r}: {folder} holds no config.json")
        source, name, build = folder, folder.name, sha256_hex(str(folder).encode())[:8]
    else:
        raise ConfigInvalidError(
            f"base_model.model {spec!r} is not understood; valid: package:<distribution>, path:<folder>"
        )
    override = os.environ.get("TIDEGATE_MODELS")
    models = Path(override) if override else Path(sys.prefix) / "share" / "tidegate" / "models"
    return BaseModelFiles(name, source, models / f"{name}-{build}")


def require_tokenizer(files: BaseModelFiles) -> Path:
    """Return the tokenizer's definition; raise ``BaseModelMissingError`` if set-up has not made it."""
    if not files.tokenizer.is_file():
        raise BaseModelMissingError(f"the tokenizer of {files.name} is not at {files.tokenizer}")
    return files.tokenizer


def prepare_base_model(files: BaseModelFiles) -> None:
    """Write a GGUF file's weights and tokenizer in the form of transformers, and the model's identity last.

    Do nothing if it is done. Safe to run twice, or twice at once.
    """
    if files.is_prepared:
        return
    if files.source.is_file():
        files.prepared.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=files.prepared.parent, prefix=f".{files.prepared.name}-"))
        try:
            _convert(files.source, scratch)
            files.prepared.mkdir(exist_ok=True)
            for made in sorted(scratch.iterdir()):
                made.replace(files.prepared / made.name)
        finally:
            shutil.rmtree(scratch)
    files.prepared.mkdir(parents=True, exist_ok=True)
    scratch_file = files.prepared / f".{IDENTITY}-{os.getpid()}"
    scratch_file.write_bytes(canonical_json(_identity(files).model_dump(mode="json")))
    scratch_file.replace(files.prepared / IDENTITY)


def _convert(source: Path, folder: Path) -> None:
    """Dequantise a GGUF file into bfloat16, in which it is trained, evaluated and served alike."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    place = {"gguf_file": source.name, "local_files_only": True}
    AutoTokenizer.from_pretrained(str(source.parent), **place).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        str(source.parent), dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True), **place
    )
    model.save_pretrained(folder)


def _identity(files: BaseModelFiles) -> BaseModelIdentity:
    folder = files.folder
    for name in (_CONFIG, _TOKENIZER, _TEMPLATE):
        if not (folder / name).is_file():
            raise BaseModelMissingError(f"base model {files.name}: {folder} holds no {name}")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise BaseModelMissingError(f"base model {files.name}: {folder} holds no *.safetensors; no other form is read")
    config = json.loads((folder / _CONFIG).read_bytes())
    described = {key: value for key, value in config.items() if key not in _UNNAMED}
    return BaseModelIdentity(
        id=files.name,
        digest=digest_of({"config": described, **{path.name: _digest(path) for path in weights}}),
        tokenizer=_digest(folder / _TOKENIZER),
        chat_template=_digest(folder / _TEMPLATE),
    )


def _digest(path: Path) -> str:
    import hashlib

    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _in_package(name: str) -> Path:
    """Return the GGUF file of an installed package, without importing it."""
    try:
        found = importlib.util.find_spec(name.replace("-", "_"))
        importlib.metadata.version(name)
    except (ModuleNotFoundError, ValueError):
        found = None
    places = found.submodule_search_locations if found else None
    files = sorted(Path(places[0]).glob("*.gguf")) if places else []
    if not files:
        raise BaseModelMissingError(f"the package {name!r} of base_model.model is not installed, or holds no GGUF file")
    return files[0]
