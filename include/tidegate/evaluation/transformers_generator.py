"""Answers written in this process by transformers and PEFT: the generator that needs no server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tidegate.core.errors import GenerationFailedError
from tidegate.core.protocols import Progress
from tidegate.core.records import BaseModelIdentity, DecodingSettings
from tidegate.evaluation.generation import Completion, Engine, Prompt

_BATCH_TOKENS = 6144
"""Prompt tokens of one batch, padding included."""


class TransformersGenerator:
    """A base model and its adapters, loaded when first asked; greedy decoding only."""

    def __init__(
        self,
        base_model: Path,
        identity: BaseModelIdentity,
        adapters: Mapping[str, Path] | None = None,
        *,
        precision: str,
        threads: int,
    ) -> None:
        """``adapters`` are folders by the name that prompts use; ``precision`` is float32 or bfloat16."""
        self._folder, self._adapters = base_model, dict(adapters or {})
        self._precision, self._threads = precision, threads
        self._loaded: Any = None
        self.engine = Engine("transformers", version("transformers"), precision, identity.digest)

    def generate(
        self, prompts: Sequence[Prompt], decoding: DecodingSettings, progress: Progress | None = None
    ) -> list[Completion]:
        """Return one completion per prompt, in the order given.

        Raises ``GenerationFailedError`` for a sampling temperature, an unknown adapter or an empty prompt.
        """
        if decoding.temperature:
            raise GenerationFailedError(f"temperature {decoding.temperature:g} is not offered here; valid: 0 (greedy)")
        for prompt in prompts:
            if prompt.adapter is not None and prompt.adapter not in self._adapters:
                known = ", ".join(sorted(self._adapters)) or "none"
                raise GenerationFailedError(f"adapter {prompt.adapter!r} is not loaded; valid: {known}")
            if not prompt.tokens:
                raise GenerationFailedError("a prompt has no tokens")
        model, tokenizer = self._opened()
        found: dict[int, Completion] = {}
        for batch in _batches(prompts):
            found |= self._answered(model, tokenizer, prompts, batch, decoding)
            if progress:
                progress(len(found), len(prompts))
        return [found[at] for at in range(len(prompts))]

    def _answered(
        self, model: Any, tokenizer: Any, prompts: Sequence[Prompt], batch: Sequence[int], decoding: DecodingSettings
    ) -> dict[int, Completion]:
        import torch

        end = int(model.generation_config.eos_token_id)
        longest = max(len(prompts[at].tokens) for at in batch)
        tokens = torch.full((len(batch), longest), end)
        seen = torch.zeros_like(tokens)
        for row, at in enumerate(batch):
            own = prompts[at].tokens
            tokens[row, longest - len(own) :] = torch.tensor(own)
            seen[row, longest - len(own) :] = 1
        with torch.inference_mode(), self._speaking(model, prompts[batch[0]].adapter):
            written = model.generate(
                input_ids=tokens.to(model.device),
                attention_mask=seen.to(model.device),
                max_new_tokens=decoding.max_new_tokens,
                do_sample=False,
                pad_token_id=end,
                use_cache=True,
            )[:, longest:].tolist()
        found = {}
        for row, at in enumerate(batch):
            finished = end in written[row]
            own = written[row][: written[row].index(end)] if finished else written[row]
            text = tokenizer.decode(own, skip_special_tokens=True).strip()
            found[at] = Completion(text, len(own) + finished, finished)
        return found

    def _speaking(self, model: Any, adapter: str | None) -> Any:
        """Return the context in which an adapter, or the base model alone, writes."""
        import contextlib

        if adapter is None:
            return model.disable_adapter() if self._adapters else contextlib.nullcontext()
        model.set_adapter(adapter)
        return contextlib.nullcontext()

    def _opened(self) -> tuple[Any, Any]:
        if self._loaded is None:
            import warnings

            import torch
            from peft import PeftModel
            from tokenizers import Tokenizer
            from transformers import AutoModelForCausalLM
            from transformers.utils import logging as transformers_logging

            transformers_logging.disable_progress_bar()
            torch.set_num_threads(self._threads)
            model = AutoModelForCausalLM.from_pretrained(
                str(self._folder), dtype=getattr(torch, self._precision), local_files_only=True
            )
            if torch.cuda.is_available():
                model = model.to("cuda")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # PEFT asks for it
                for at, (name, folder) in enumerate(sorted(self._adapters.items())):
                    if at == 0:
                        model = PeftModel.from_pretrained(
                            model, str(folder), adapter_name=name, autocast_adapter_dtype=False
                        )
                    else:
                        model.load_adapter(str(folder), adapter_name=name, autocast_adapter_dtype=False)
            self._loaded = model.eval(), Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        model, tokenizer = self._loaded
        return model, tokenizer


def _batches(prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """Yield places of prompts of one adapter and like length, as many as fit, longest first."""
    order = sorted(range(len(prompts)), key=lambda at: (prompts[at].adapter or "", -len(prompts[at].tokens), at))
    batch: list[int] = []
    for at in order:
        first = prompts[batch[0]] if batch else None
        full = first and (len(batch) + 1) * len(first.tokens) > _BATCH_TOKENS
        if first and (full or first.adapter != prompts[at].adapter):
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch
