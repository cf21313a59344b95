"""Teaching a reweaver: the model says the next token of texts longer than its window, read in pieces.

``L = L_LM + 0.1 L_rec + 0.01 L_gate``. The language-model loss counts rare tokens twice; ``L_rec`` asks that decoder
and code of every captured layer rebuild the state of the layer that is injected into (without it codes of deep layers
live in the wrong basis); ``L_gate`` is what was read rather than nothing. The gradient runs through the codes in the
buffer to the pieces in which they were written, and ends with the text.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from lamina.activation.reweaving.reweaver import MemoryReweaver
from lamina.activation.state_reweaving import read, reweave
from lamina.errors import InvalidInput
from lamina.train.loop import frozen, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RARE = 2.0  # weight of rare tokens


def text_loss(model: PreTrainedModel, reweaver: MemoryReweaver, ids: Tensor, rare: Tensor | None = None) -> Tensor:
    """The loss of texts ``ids`` ``(B, T)``; ``rare`` bool ``(V,)`` says which tokens count ``RARE`` times."""
    with reweave(model, reweaver, reweaver.empty(len(ids))) as woven:
        logits, _ = read(model, ids, reweaver.window)
        return language_loss(logits, ids, rare) + woven.auxiliary()


def language_loss(logits: Tensor, ids: Tensor, rare: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of each next token, rare ones weighted."""
    found = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    if rare is None:
        return found.mean()
    weights = torch.where(rare[ids[:, 1:].flatten()], RARE, 1.0)
    return (found * weights).sum() / weights.sum()


def rare_tokens(counts: Tensor, mass: float = 0.2) -> Tensor:
    """Bool ``(V,)``: the least frequent tokens, which together are at most ``mass`` of all that was counted."""
    order = counts.argsort(stable=True)
    share = counts[order].double().cumsum(0) / counts.sum()
    return torch.zeros_like(counts, dtype=torch.bool).scatter(0, order, share <= mass)


def fit(
    model: PreTrainedModel,
    reweaver: MemoryReweaver,
    texts: Iterable[Tensor],
    *,
    steps: int,
    lr: float = 1e-3,
    rare: Tensor | None = None,
    freeze_base: bool = True,
) -> list[float]:
    """``steps`` steps of AdamW on batches ``(B, T)`` of token ids from ``texts``, four windows long by preference; the
    loss of each. With ``freeze_base`` no weight of the model changes.

    Warns if a text is no longer than the window: nothing ever leaves it, and nothing is learned. Raises
    ``InvalidInput`` when the texts run out.
    """
    source = iter(texts)

    def loss(step: int) -> Tensor:
        ids = next(source, None)
        if ids is None:
            raise InvalidInput(f"texts ran out in step {step} of {steps}: give one batch a step")
        if ids.shape[1] <= reweaver.window + 1:
            warnings.warn(f"reweaver idle: texts of {ids.shape[1]} tokens never leave window={reweaver.window}; "
                          "give longer ones", stacklevel=2)  # fmt: skip
        return text_loss(model, reweaver, ids, rare)

    learned = list(reweaver.parameters()) + ([] if freeze_base else list(model.parameters()))
    reweaver.train()
    try:
        with frozen(model) if freeze_base else nullcontext():
            return train(learned, loss, steps=steps, lr=lr)
    finally:
        reweaver.eval()
