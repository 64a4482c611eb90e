"""Load a finished adapter as a server would, from its files, and see that it answers and differs from its base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tidegate.core.errors import AdapterInvalidError

PROBES = "probes.json"
_MOST = 4
_NEW_TOKENS = 24


def probe(base: Any, folder: Path, dev: Path, tokenizer: Path) -> list[dict[str, Any]]:
    """Return what adapter and base answer to a few dev questions, greedily.

    ``base`` is the loaded base model without an adapter. Raises ``AdapterInvalidError`` if the adapter changes nothing.
    """
    import torch
    from peft import PeftModel
    from tokenizers import Tokenizer

    words = Tokenizer.from_file(str(tokenizer))
    model = PeftModel.from_pretrained(base, str(folder), autocast_adapter_dtype=False).eval()
    found = []
    with torch.inference_mode():
        for line in dev.read_text(encoding="utf-8").splitlines()[:_MOST]:
            context = json.loads(line)
            branch = context["branches"][0]
            prompt = [*context["prefix"], *branch["prompt"]]
            end = branch["completion"][-1]
            with_adapter = _greedy(model, prompt, end)
            with model.disable_adapter():
                without = _greedy(model, prompt, end)
            found.append(
                {
                    "row": branch["row"],
                    "question": branch["question"],
                    "expected": branch["answer"],
                    "prompt": prompt,
                    "adapter": words.decode(with_adapter),
                    "base": words.decode(without),
                }
            )
    if found and all(item["adapter"] == item["base"] for item in found):
        raise AdapterInvalidError(f"the adapter answers {len(found)} probes exactly as its base model does")
    return found


def _greedy(model: Any, prompt: list[int], end: int) -> list[int]:
    import torch

    tokens = torch.tensor([prompt], device=next(model.parameters()).device)
    made = model.generate(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=_NEW_TOKENS,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
        use_cache=True,
    )
    return [int(token) for token in made[0, len(prompt) :] if int(token) != end]
