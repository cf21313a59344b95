"""Prompts of different lengths as one batch that ends at one place: what is measured happens at their last token.

Padding stands in front, is masked, and is no position, so each prompt gets the numbers it has alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """``ids`` (n, time) int64, ``mask`` of the same shape (1: a token)."""

    ids: Tensor
    mask: Tensor

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]]) -> Batch:
        """Of token ids. Raises ``InvalidInput`` for no prompts or an empty one."""
        if not prompts or not all(prompts):
            raise InvalidInput("prompts: give at least one, none empty")
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        return cls(ids, mask)

    def __len__(self) -> int:
        return len(self.ids)

    def forward(self, lm: CausalLM, **options: Any) -> Any:
        """What the model says of these prompts, logits of the last token alone; the caller holds ``lm.lock``."""
        device, dtype = lm.model.device, lm.model.dtype
        positions = (self.mask.cumsum(1) - 1).clamp(min=0)
        # Padding sees itself: a row that sees nothing would be NaN in some attention functions.
        seen = self.mask.bool()[:, None] | torch.eye(self.mask.shape[1], dtype=torch.bool)
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen.tril(), torch.finfo(dtype).min)
        return lm.model(
            self.ids.to(device),
            attention_mask=mask[:, None].to(device),
            position_ids=positions.to(device),
            use_cache=False,
            logits_to_keep=1,
            **options,
        )


def massive(lm: CausalLM, batch: Batch, *, ratio: float = 100.0) -> list[int]:
    """Channels of the residual that somewhere exceed ``ratio`` times its median size (Sun et al., arXiv 2402.17762)."""
    with lm.lock, torch.no_grad():
        states = batch.forward(lm, output_hidden_states=True).hidden_states
    found = set[int]()
    for state in states[:-1]:  # the last is normalised
        sizes = state[batch.mask.bool().to(state.device)].abs()
        found.update((sizes.amax(0) > ratio * sizes.median()).nonzero()[:, 0].tolist())
    return sorted(found)


@contextmanager
def attentions(lm: CausalLM) -> Iterator[None]:
    """Let the model return its attention patterns for the block; the caller holds ``lm.lock``."""
    before = lm.model.config._attn_implementation
    lm.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        lm.model.set_attn_implementation(before)
