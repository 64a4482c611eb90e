"""Training rows as batches: which rows share an optimizer step, and the tensors that a model reads.

A row is a context with its branches in one line of tokens: the shared tokens first, then each branch. A branch counts
positions on from the shared tokens and sees these and itself alone, so that its tokens, positions and attention are
exactly those of the question asked by itself. Rows of one step have like lengths; nothing is truncated.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

UNLABELLED = -100
_SHARED, _PADDING = 0, -1
_PAD_TOKEN = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A context with its branches as one line of tokens; all lists are equally long."""

    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    branches: tuple[int, ...]
    """Number of the branch that a token belongs to, from 1; 0 for the shared ones."""
    labels: tuple[int, ...]
    """The token itself where it is to be learnt, else ``UNLABELLED``."""
    weights: tuple[float, ...]
    """Weight of a label: 1 / sqrt(length of its answer), so that long answers do not outweigh short ones."""


def row_of(line: Mapping[str, Any]) -> Row:
    """Return a line of a training file as a row."""
    shared = list(line["prefix"])
    tokens, positions, numbers = list(shared), list(range(len(shared))), [_SHARED] * len(shared)
    labels, weights = [UNLABELLED] * len(shared), [0.0] * len(shared)
    for number, branch in enumerate(line["branches"], 1):
        prompt, completion = branch["prompt"], branch["completion"]
        own = len(prompt) + len(completion)
        tokens += [*prompt, *completion]
        positions += range(len(shared), len(shared) + own)
        numbers += [number] * own
        labels += [*[UNLABELLED] * len(prompt), *completion]
        weights += [*[0.0] * len(prompt), *[len(completion) ** -0.5] * len(completion)]
    return Row(tuple(tokens), tuple(positions), tuple(numbers), tuple(labels), tuple(weights))


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a training file."""
    with path.open(encoding="utf-8") as lines:
        return [row_of(json.loads(line)) for line in lines]


def plan_steps(lengths: Sequence[int], *, batch_tokens: int, epochs: int, seed: int) -> list[list[int]]:
    """Return the rows of every optimizer step: each row once an epoch, rows of like length together.

    A step holds as many rows as fit into ``batch_tokens`` with padding, and at least one. Equal arguments give equal
    plans: a run that goes on after a kill skips the steps that are done.
    """
    order = sorted(range(len(lengths)), key=lambda at: (-lengths[at], at))
    buckets: list[list[int]] = []
    for at in order:
        if not buckets or (len(buckets[-1]) + 1) * lengths[buckets[-1][0]] > batch_tokens:
            buckets.append([])
        buckets[-1].append(at)
    steps = []
    for epoch in range(epochs):
        shuffled = list(buckets)
        random.Random(f"{seed}/{epoch}").shuffle(shuffled)  # noqa: S311 - reproducible, not secret
        steps += shuffled
    return steps


def collate(rows: Sequence[Row], *, packed: bool = False) -> dict[str, torch.Tensor]:
    """Return tensors of shape (rows, longest row), and the attention mask (rows, 1, longest row, longest row).

    ``packed``: all rows in one line without padding and without a mask; positions that start anew tell the model where
    a row begins, so rows must have a single branch.
    """
    import torch

    if packed:
        whole = [list(field) for field in zip(*(_as_single(row) for row in rows), strict=True)]
        tokens, positions, labels, weights = ([value for part in field for value in part] for field in whole)
        return {
            "input_ids": torch.tensor([tokens]),
            "position_ids": torch.tensor([positions]),
            "labels": torch.tensor([labels]),
            "weights": torch.tensor([weights]),
        }
    longest = max(len(row.tokens) for row in rows)

    def padded(name: str, fill: float) -> torch.Tensor:
        return torch.tensor([[*getattr(row, name), *[fill] * (longest - len(row.tokens))] for row in rows])

    return {
        "input_ids": padded("tokens", _PAD_TOKEN),
        "position_ids": padded("positions", 0),
        "labels": padded("labels", UNLABELLED),
        "weights": padded("weights", 0.0),
        "attention_mask": _visible(padded("branches", _PADDING)),
    }


def _visible(branches: torch.Tensor) -> torch.Tensor:
    """Return which tokens each token sees: itself, those before it in its branch, and the shared ones."""
    import torch

    size = branches.shape[1]
    before = torch.tril(torch.ones(size, size, dtype=torch.bool))
    own = branches[:, :, None] == branches[:, None, :]
    shared = (branches[:, None, :] == _SHARED) & (branches[:, :, None] != _PADDING)
    return ((own | shared) & before)[:, None]


def _as_single(row: Row) -> tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[float]]:
    if max(row.branches) > 1:
        raise ValueError("a row with several questions cannot be packed")
    return row.tokens, row.positions, row.labels, row.weights
