"""Answers written in this process by transformers and PEFT: the generator that needs no server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tidegate.core.canonical import sha256_hex
from tidegate.core.errors import GenerationFailedError
from tidegate.core.protocols import Progress
from tidegate.core.records import BaseModelIdentity, DecodingSettings
from tidegate.evaluation.generation import Completion, Engine, Prompt


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
        self.engine = Engine("transformers", f"{version('transformers')}+{_decoder()}", precision, identity.digest)

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
        found: dict[int, Completion] = {}
        for adapter in sorted({prompt.adapter or "" for prompt in prompts}):
            own = [at for at, prompt in enumerate(prompts) if (prompt.adapter or "") == adapter]
            answered = self._answered(
                [prompts[at].tokens for at in own],
                adapter or None,
                decoding,
                _counted(progress, len(found), len(prompts)),
            )
            found |= dict(zip(own, answered, strict=True))
        return [found[at] for at in range(len(prompts))]

    def _answered(
        self,
        prompts: Sequence[Sequence[int]],
        adapter: str | None,
        decoding: DecodingSettings,
        done: Callable[[int], None],
    ) -> list[Completion]:
        from tidegate.evaluation.greedy_decoding import decode

        model, tokenizer = self._opened()
        known = model.generation_config.eos_token_id
        ends = frozenset(known if isinstance(known, list) else [known])
        with self._speaking(model, adapter):
            written = decode(model, prompts, ends, decoding.max_new_tokens, done)
        found = []
        for tokens in written:
            finished = tokens[-1] in ends
            text = tokenizer.decode(tokens[: len(tokens) - finished], skip_special_tokens=True).strip()
            found.append(Completion(text, len(tokens), finished))
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


def _decoder() -> str:
    """Return eight hex digits of the module that chooses tokens, which other answers may depend on."""
    return sha256_hex(Path(__file__).with_name("greedy_decoding.py").read_bytes())[:8]


def _counted(progress: Progress | None, before: int, total: int) -> Callable[[int], None]:
    """Return a function that adds up what was answered and reports it."""
    answered = before

    def done(more: int) -> None:
        nonlocal answered
        answered += more
        if progress:
            progress(answered, total)

    return done
