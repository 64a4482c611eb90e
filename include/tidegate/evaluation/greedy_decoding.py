"""Greedy decoding of many prompts with a transformers model: what they share is computed once, and nothing is copied.

The tokens that all prompts begin with go through the model once. Each batch then has one buffer of keys and values with
room for its answers: small groups of rows are read in (a processor's caches are small), all rows write together (a
step costs nearly the same for one row as for many), and rows that have ended leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

_BATCH_TOKENS = 24_576
"""Tokens whose keys and values one batch holds, padding and answers included."""
_GROUP_TOKENS = 2048
"""Tokens that are read in together."""
_LEAVE_SHARE = 0.75
"""A batch is packed anew when fewer of its rows than this are still writing."""

Tokens = Sequence[int]


class _Room(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values at the front of buffers of shape (rows, heads, capacity, dimension)."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        super().__init__()
        self._buffers = keys, values
        self._show(length)
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Append states of shape (rows, heads, tokens, dimension); return all keys and values so far."""
        start, stop = self._length, self._length + key_states.shape[-2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., start:stop, :] = states
        self._show(stop)
        return self.keys, self.values

    def group(self, first: int, last: int, length: int) -> _Room:
        """Return some rows of the same buffers, ``length`` tokens of which are taken."""
        keys, values = self._buffers
        return _Room(keys[first:last], values[first:last], length)

    def select(self, rows: torch.Tensor) -> _Room:
        """Return a copy that holds some rows."""
        keys, values = self._buffers
        return _Room(keys[rows], values[rows], self._length)

    def at(self, length: int) -> _Room:
        """Return the same buffers with ``length`` tokens taken."""
        return _Room(*self._buffers, length)

    def _show(self, length: int) -> None:
        self._length = length
        self.keys, self.values = (buffer[..., :length, :] for buffer in self._buffers)


def decode(
    model: Any, prompts: Sequence[Tokens], ends: Collection[int], limit: int, done: Callable[[int], None]
) -> list[list[int]]:
    """Return what ``model`` writes after each prompt, the end token included, at most ``limit`` tokens.

    ``done`` is called with the number of further prompts that were answered.
    """
    with torch.inference_mode():
        shared = _shared(prompts)
        prefix = _read_prefix(model, prompts[0][:shared])
        written: dict[int, list[int]] = {}
        for batch in _batches(prompts, limit):
            rows = [prompts[at][shared:] for at in batch]
            written |= dict(zip(batch, _decode_batch(model, prefix, rows, ends, limit), strict=True))
            done(len(batch))
    return [written[at] for at in range(len(prompts))]


def _shared(prompts: Sequence[Tokens]) -> int:
    """Return how many tokens all prompts begin with; each keeps at least one of its own."""
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))
    room = min(len(first), len(last), *(len(prompt) for prompt in prompts)) - 1
    return next((at for at in range(room) if first[at] != last[at]), room)


def _batches(prompts: Sequence[Tokens], limit: int) -> Iterator[list[int]]:
    """Yield places of prompts of like length, longest first, as many as the buffers hold."""
    order = sorted(range(len(prompts)), key=lambda at: (-len(prompts[at]), at))
    while order:
        fitting = max(1, _BATCH_TOKENS // (len(prompts[order[0]]) + limit))
        yield order[:fitting]
        order = order[fitting:]


def _read_prefix(model: Any, tokens: Tokens) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return keys and values of each layer for the shared tokens, [] if there are none."""
    if not tokens:
        return []
    cache = DynamicCache()
    model.get_decoder()(input_ids=torch.tensor([list(tokens)], device=model.device), past_key_values=cache)
    return [(layer.keys, layer.values) for layer in cache.layers]


def _decode_batch(
    model: Any, prefix: list[tuple[torch.Tensor, torch.Tensor]], rows: list[Tokens], ends: Collection[int], limit: int
) -> list[list[int]]:
    shared = prefix[0][0].shape[-2] if prefix else 0
    width = max(map(len, rows))
    seen = torch.zeros(len(rows), shared + width + limit, dtype=torch.long, device=model.device)
    seen[:, :shared] = 1
    for at, row in enumerate(rows):
        seen[at, shared + width - len(row) :] = 1
    layers = _buffers(model, prefix, len(rows), shared + width + limit)
    logits = []
    for first, last in _groups(rows):
        own = max(map(len, rows[first:last]))
        start = shared + width - own
        cache = Cache(layers=[layer.group(first, last, start) for layer in layers])
        tokens = torch.tensor([[0] * (own - len(row)) + list(row) for row in rows[first:last]], device=model.device)
        places = (seen[first:last, : shared + width].cumsum(-1) - 1).clamp(min=0)[:, start:]
        logits.append(_next(model, tokens, seen[first:last, : shared + width], places, cache))
    cache = Cache(layers=[layer.at(shared + width) for layer in layers])
    return _write(model, cache, torch.cat(logits), seen, ends)


def _groups(rows: list[Tokens]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of the rows that are read in together; they come longest first."""
    first = 0
    while first < len(rows):
        last = min(len(rows), first + max(1, _GROUP_TOKENS // len(rows[first])))
        yield first, last
        first = last


def _buffers(model: Any, prefix: list[tuple[torch.Tensor, torch.Tensor]], rows: int, capacity: int) -> list[_Room]:
    """Return each layer's room, the shared tokens copied to its front."""
    config = model.config
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers = []
    for layer in range(config.num_hidden_layers):
        keys, values = (
            torch.zeros(rows, heads, capacity, size, dtype=model.dtype, device=model.device) for _ in range(2)
        )
        length = 0
        if prefix:
            length = prefix[layer][0].shape[-2]
            keys[..., :length, :], values[..., :length, :] = prefix[layer]
        layers.append(_Room(keys, values, length))
    return layers


def _next(model: Any, tokens: torch.Tensor, seen: torch.Tensor, places: torch.Tensor, cache: Cache) -> torch.Tensor:
    """Return the most likely next token of each row, shape (rows,).

    Only the last states go through the output layer, as one block: given a view, torch copies the layer for every row.
    """
    states = model.get_decoder()(
        input_ids=tokens, attention_mask=seen, position_ids=places, past_key_values=cache, use_cache=True
    ).last_hidden_state
    return torch.as_tensor(model.get_output_embeddings()(states[:, -1].contiguous()).argmax(-1))


def _write(
    model: Any, cache: Cache, chosen: torch.Tensor, seen: torch.Tensor, ends: Collection[int]
) -> list[list[int]]:
    """Return the tokens written in each row, beginning with those ``chosen``; ``seen`` has a column for each."""
    length = cache.get_seq_length()
    written: list[list[int]] = [[] for _ in chosen]
    alive = list(range(len(written)))
    places = seen[:, :length].sum(-1, keepdim=True)
    while True:
        for row, token in zip(alive, chosen.tolist(), strict=True):
            if not written[row] or written[row][-1] not in ends:
                written[row].append(token)
        going = [at for at, row in enumerate(alive) if written[row][-1] not in ends]
        if not going or length == seen.shape[1] - 1:
            return written
        if len(going) < _LEAVE_SHARE * len(alive):
            kept = torch.tensor(going, device=chosen.device)
            alive = [alive[at] for at in going]
            cache = Cache(layers=[layer.select(kept) for layer in cache.layers])
            chosen, seen, places = chosen[kept], seen[kept], places[kept]
        length += 1
        seen[:, length - 1] = 1
        chosen = _next(model, chosen[:, None], seen[:, :length], places, cache)
        places = places + 1
