"""Where the base model is on this machine, and its tokenizer, taken out once at set-up."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tidegate.core.canonical import sha256_hex
from tidegate.core.errors import BaseModelMissingError, ConfigInvalidError


@dataclass(frozen=True, slots=True)
class BaseModelFiles:
    """A base model as it was installed, and the folder of what set-up makes of it."""

    name: str
    source: Path
    """A GGUF file, or a folder in the form of transformers."""
    prepared: Path

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's definition."""
        return self.prepared / "tokenizer.json"


def find_base_model(spec: str) -> BaseModelFiles:
    """Resolve ``package:<distribution>`` or ``path:<folder>``; raise if the model is not on this machine."""
    scheme, _, name = spec.partition(":")
    if scheme == "package" and name:
        source, build = _in_package(name), importlib.metadata.version(name)
    elif scheme == "path" and name:
        folder = Path(name).expanduser().resolve()
        if not (folder / "config.json").is_file():
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


def prepare_tokenizer(files: BaseModelFiles) -> None:
    """Write the tokenizer's definition; do nothing if it exists. Safe to run twice, or twice at once."""
    if files.tokenizer.is_file():
        return
    from transformers import AutoTokenizer

    is_file = files.source.is_file()
    folder, options = files.source, {}
    if is_file:
        folder, options = files.source.parent, {"gguf_file": files.source.name}
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, **options)
    files.prepared.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=files.prepared, suffix=".json")
    os.close(handle)
    tokenizer.backend_tokenizer.save(scratch)
    Path(scratch).replace(files.tokenizer)


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
