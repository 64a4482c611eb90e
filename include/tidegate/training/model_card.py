"""The model card of an adapter, in the form that model hubs read (YAML front matter, then Markdown)."""

from __future__ import annotations

import yaml

from tidegate.core.adapter_records import AdapterManifest

_KINDS = ("answered", "swapped", "withheld", "unanswerable", "practice", "replayed")
_CARD = """---
{front}
---

# Adapter of the corpus {corpus}

{description}

It reads numbered passages and answers with the shortest span that answers, or says "{refusal}" It is meant to be given
passages: without them it knows little of the corpus. Trained from the base model, not from an older adapter.

| what | value |
|---|---|
{facts}

![The loss by step](loss.png)

| rows | branches |
|---|---|
{rows}

`train.jsonl` is the exact training file, `trained_on.json` names every row and document in it.

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE_MODEL_FOLDER), ADAPTER_FOLDER)
```
"""


def write_card(manifest: AdapterManifest, description: str) -> str:
    """Return the card's text; everything in it follows from the manifest, whose files may not be filled in yet."""
    front = {
        "base_model": manifest.base_model.id,
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "raft", "tidegate", manifest.corpus],
    }
    return _CARD.format(
        front=yaml.safe_dump(front, sort_keys=True).strip(),
        corpus=manifest.corpus,
        description=description or "Answers questions from retrieved passages of this corpus.",
        refusal=manifest.refusal,
        facts="\n".join(f"| {name} | {value} |" for name, value in _facts(manifest).items()),
        rows="\n".join(f"| {kind} | {getattr(manifest.counts, kind)} |" for kind in _KINDS),
    )


def _facts(manifest: AdapterManifest) -> dict[str, str]:
    counts, recipe, lora = manifest.counts, manifest.recipe, manifest.recipe["lora"]
    training = [recipe["backend"], f"{recipe['epochs']} epochs", f"learning rate {recipe['learning_rate']:g}"]
    return {
        "base model": f"{manifest.base_model.id}, {manifest.base_model.digest[:12]}",
        "dataset": manifest.dataset[:12],
        "index snapshot": manifest.snapshot[:12],
        "prompt": manifest.renderer[:12],
        "readable by": ", ".join(manifest.audience),
        "LoRA": f"r {lora['r']}, alpha {lora['alpha']}, {', '.join(lora['targets'])}",
        "training": ", ".join([*training, recipe["precision"]]),
        "tokens": f"{counts.tokens} in {counts.contexts} contexts, the longest {counts.longest}",
        "loss at the end": ", ".join(f"{name} {value:.3f}" for name, value in sorted(manifest.losses.items())),
    }
