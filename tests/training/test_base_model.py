"""Where a base model is found, and the identity that decides whether an adapter fits it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.core.canonical import sha256_hex
from tidegate.core.errors import BaseModelMissingError, ConfigInvalidError
from tidegate.core.records import BaseModelIdentity
from tidegate.training.base_model import find_base_model, prepare_base_model, require_tokenizer


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what set-up makes."""
    monkeypatch.setenv("TIDEGATE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def folder(tiny_base_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model."""
    return Path(shutil.copytree(tiny_base_model, tmp_path / "llama"))


def prepared(folder: Path) -> BaseModelIdentity:
    files = find_base_model(f"path:{folder}")
    prepare_base_model(files)
    return files.identity


def test_the_identity_names_the_digests_of_all_that_decides_answers(folder: Path) -> None:
    identity = prepared(folder)
    assert identity.id == "llama"
    assert identity.tokenizer == sha256_hex((folder / "tokenizer.json").read_bytes())
    assert identity.chat_template == sha256_hex((folder / "chat_template.jinja").read_bytes())
    assert prepared(folder) == identity


def test_a_folder_is_used_as_it_is_and_nothing_is_written_into_it(folder: Path, models: Path) -> None:
    before = sorted(path.name for path in folder.iterdir())
    files = find_base_model(f"path:{folder}")
    prepare_base_model(files)
    assert files.folder == folder
    assert sorted(path.name for path in folder.iterdir()) == before
    assert [path.name for path in models.rglob("*") if path.is_file()] == ["identity.json"]


def set_config(folder: Path, key: str, value: object) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))


def flip_weight(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (flip_weight, "digest"),
        (lambda folder: set_config(folder, "rms_norm_eps", 0.5), "digest"),
        (lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"), "chat_template"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer"),
    ],
)
def test_what_decides_answers_changes_the_identity_of_a_copy(
    folder: Path, tmp_path: Path, change: Callable[[Path], object], field: str
) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "copies" / "llama"))
    change(other)
    one, changed = prepared(folder).model_dump(), prepared(other).model_dump()
    assert {key for key in one if one[key] != changed[key]} == {field}


def test_names_and_versions_in_the_configuration_decide_nothing(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "copies" / "llama"))
    set_config(other, "transformers_version", "0.0")
    set_config(other, "_name_or_path", "elsewhere")
    assert prepared(other) == prepared(folder)


def test_weights_replaced_in_place_get_another_identity(folder: Path) -> None:
    before = prepared(folder)
    flip_weight(folder)
    assert prepared(folder).digest != before.digest


def test_before_set_up_there_is_no_identity(folder: Path) -> None:
    files = find_base_model(f"path:{folder}")
    assert not files.is_prepared
    with pytest.raises(BaseModelMissingError, match="llama is not prepared"):
        _ = files.identity
    with pytest.raises(BaseModelMissingError, match="llama is not prepared"):
        _ = files.config
    prepare_base_model(files)
    assert files.config["max_position_embeddings"] == 1024
    assert require_tokenizer(files) == folder / "tokenizer.json"


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "model.safetensors"])
def test_a_folder_that_lacks_a_part_is_refused_by_its_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    files = find_base_model(f"path:{folder}")
    with pytest.raises(BaseModelMissingError, match=name.replace("model.", r"\*.")):
        prepare_base_model(files)
    assert not files.is_prepared


@pytest.mark.parametrize("spec", ["hub:org/model", "package:", "path:", "llama", ""])
def test_a_spec_of_no_known_form_is_refused_with_the_valid_ones(spec: str) -> None:
    with pytest.raises(ConfigInvalidError, match="is not understood; valid: package:<distribution>, path:<folder>"):
        find_base_model(spec)


@pytest.mark.parametrize("spec", ["package:no-such-distribution", "package:json", "package:pytest"])
def test_a_package_that_holds_no_model_is_refused(spec: str) -> None:
    with pytest.raises(BaseModelMissingError, match=spec.removeprefix("package:")):
        find_base_model(spec)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseModelMissingError, match=r"holds no config\.json"):
        find_base_model(f"path:{tmp_path}")
