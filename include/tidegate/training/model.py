"""The model while it is trained: base weights, adapter, and the loss of the answers' tokens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.core.errors import TrainingOutOfMemoryError, TrainingSpecInvalidError
from tidegate.training.batches import UNLABELLED
from tidegate.training.spec import LoraShape, TrainSpec

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def device_of_training() -> str:
    """Return the device that trains: the first GPU if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_base_model(spec: TrainSpec, device: str) -> Any:
    """Load the base model, in four bits for QLoRA; raise ``TrainingSpecInvalidError`` where the device cannot."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    options: dict[str, Any] = {"dtype": getattr(torch, spec.recipe.precision), "local_files_only": True}
    if device == "cpu":
        options["attn_implementation"] = "eager"  # a mask of branches: a fifth faster than the fused kernel
    if spec.recipe.lora.quantization == "nf4":
        if device == "cpu":
            raise TrainingSpecInvalidError("training.lora.quantization is nf4, but this worker has no GPU; valid: none")
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    model = AutoModelForCausalLM.from_pretrained(str(spec.base_model), **options)
    model.config.use_cache = False
    return model.to(device) if spec.recipe.lora.quantization == "none" else model


def lora_config(shape: LoraShape, layers: int) -> LoraConfig:
    """Return PEFT's configuration of an adapter for a model of so many layers."""
    from peft import LoraConfig

    return LoraConfig(
        r=shape.r,
        lora_alpha=shape.alpha,
        lora_dropout=shape.dropout,
        target_modules=list(shape.targets),
        layers_to_transform=shape.adapted(layers),
        use_rslora=shape.rslora,
        bias="none",
        task_type="CAUSAL_LM",
    )


def save_adapter(model: Any, base_model_id: str, folder: Path) -> None:
    """Write an adapter in PEFT's form, in the same bytes for the same tensors."""
    import json
    import tempfile

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        model.save_pretrained(scratch, safe_serialization=True)
        config = json.loads((Path(scratch) / CONFIG).read_bytes())
        config |= {"base_model_name_or_path": base_model_id, "target_modules": sorted(config["target_modules"])}
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (Path(scratch) / WEIGHTS).replace(folder / WEIGHTS)


def answer_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the weighted mean loss of the labelled tokens.

    Only the states that predict a label go through the output layer, whose rows are many: a third of a step is saved.
    """
    import torch

    base = model.get_base_model()
    visible = batch.get("attention_mask")
    hidden = base.get_decoder()(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        attention_mask=None if visible is None else _additive(visible, base.get_input_embeddings().weight.dtype),
        use_cache=False,
    ).last_hidden_state
    wanted = batch["labels"][:, 1:] != UNLABELLED
    logits = base.get_output_embeddings()(hidden[:, :-1][wanted]).float()
    losses = torch.nn.functional.cross_entropy(logits, batch["labels"][:, 1:][wanted], reduction="none")
    weights = batch["weights"][:, 1:][wanted]
    return (losses * weights).sum() / weights.sum()


def _additive(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a mask that is added to attention scores: every kernel reads this form alike."""
    import torch

    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)


def out_of_memory(error: RuntimeError, spec: TrainSpec) -> TrainingOutOfMemoryError | None:
    """Return the typed failure if torch ran out of memory, None if it failed for another reason."""
    import torch

    said = str(error)
    if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in said or "out of memory" in said):
        return None
    recipe = spec.recipe
    return TrainingOutOfMemoryError(
        f"out of memory while training with batch_tokens {recipe.batch_tokens}, rank {recipe.lora.r}: {said[:120]}"
    )
