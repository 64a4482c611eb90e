"""What an adapter is shown by: its card, whose front matter hubs read, and the picture of its loss."""

from __future__ import annotations

import io
from typing import Any

import yaml
from PIL import Image

from tidegate.core.adapter_records import AdapterCounts, AdapterManifest
from tidegate.core.records import BaseModelIdentity
from tidegate.training.loss_curve import draw_losses
from tidegate.training.model_card import write_card


def manifest(**changes: Any) -> AdapterManifest:
    """Return the manifest of an adapter with files that are not filled in."""
    lora = {"r": 16, "alpha": 32, "targets": ["k_proj", "q_proj"]}
    recipe = {"backend": "trl", "epochs": 2, "learning_rate": 0.0005, "precision": "bfloat16", "lora": lora}
    counts = {kind: at for at, kind in enumerate(AdapterCounts.model_fields, 101)}
    values = {
        "corpus": "handbook",
        "seq": 1,
        "parent": None,
        "op_id": "0" * 64,
        "base_model": BaseModelIdentity(id="tiny: llama", digest="1" * 64, tokenizer="2" * 64, chat_template="3" * 64),
        "dataset": "4" * 64,
        "snapshot": "5" * 64,
        "settings": "6" * 64,
        "renderer": "7" * 64,
        "refusal": "The documents do not say.",
        "audience": ("sales", "support"),
        "recipe": recipe,
        "versions": {"torch": "2"},
        "rank": 16,
        "counts": AdapterCounts(**counts),
        "losses": {"train": 0.12345, "dev": 0.5},
        "files": {},
    }
    return AdapterManifest(**(values | changes))


def test_the_front_matter_is_what_hubs_read() -> None:
    front = yaml.safe_load(write_card(manifest(), "").split("---\n")[1])
    assert front == {
        "base_model": "tiny: llama",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "raft", "tidegate", "handbook"],
    }


def test_the_card_says_what_the_adapter_was_trained_on_and_how() -> None:
    card = write_card(manifest(), "Answers for sales.")
    table = dict(line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| "))
    assert table["dataset"] == "4" * 12
    assert table["index snapshot"] == "5" * 12
    assert table["prompt"] == "7" * 12
    assert table["base model"] == "tiny: llama, " + "1" * 12
    assert table["readable by"] == "sales, support"
    assert table["LoRA"] == "r 16, alpha 32, k_proj, q_proj"
    assert table["training"] == "trl, 2 epochs, learning rate 0.0005, bfloat16"
    assert table["loss at the end"] == "dev 0.500, train 0.123"
    assert "\nAnswers for sales.\n" in card
    assert 'says "The documents do not say."' in card


def test_the_card_counts_every_kind_of_row() -> None:
    counts = manifest().counts.model_dump()
    card = write_card(manifest(), "")
    kinds = counts.keys() - {"contexts", "tokens", "longest"}
    assert {f"| {kind} | {counts[kind]} |" for kind in kinds} <= set(card.splitlines())
    assert f"{counts['tokens']} in {counts['contexts']} contexts, the longest {counts['longest']}" in card


def test_the_same_losses_draw_the_same_picture_and_others_another() -> None:
    losses, dev = [(5, 2.0), (10, 1.0)], [(10, 1.5)]
    picture = draw_losses(losses, dev, "handbook")
    assert Image.open(io.BytesIO(picture)).format == "PNG"
    assert draw_losses(losses, dev, "handbook") == picture
    assert draw_losses(losses, [], "handbook") != picture
    assert draw_losses([(5, 2.0), (10, 0.5)], dev, "handbook") != picture
