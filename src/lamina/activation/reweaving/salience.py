"""Salience in Contextual Memory Reweaving: how much a token deserves a slot once it has left the window.

``s_t = z(surprisal_t + w_s . RMSNorm(h_t))``: how unlikely the model found the token one step earlier, so that rare
tokens score high, and a learned direction in the deepest captured state, 0 at first. ``z`` standardises with the mean
and variance of what the text has held so far. A token is scored once, when it is read: its second mention is cheap to
predict and refreshes nothing.

The attention that a token received is no part of it. Fused attention does not tell its weights; and where they were
looked at, in a small model that answers from its window, what would be asked for later had received the least.

Surprise alone does not find every fact. A number of which nothing is known costs its logarithm of choices, and a model
that knows little of the text around it is as surprised by ordinary words: the better it reads, the better it chooses.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EPSILON = 1e-6


def surprisal(hidden: Tensor, logits: Tensor, head: Tensor, ids: Tensor, ahead: Tensor, before: Tensor) -> Tensor:
    """``-log p(x_t | x_<t)`` of each of ``ids`` ``(B, n)``.

    ``hidden`` ``(B, n, d)`` and ``logits`` ``(B, n, V)`` are of this chunk, ``head`` ``(V, d)`` is the matrix between
    them; ``ahead`` ``(B, d)`` and ``before`` ``(B,)``, hidden state and normalizer of the last token of the chunk
    before, say how likely the first token was.
    """
    states = torch.cat([ahead[:, None], hidden[:, :-1]], 1)
    normal = torch.cat([before[:, None], normalizer(logits[:, :-1], before.dtype)], 1)
    return normal - (states.to(before.dtype) * head[ids].to(before.dtype)).sum(-1)


def normalizer(logits: Tensor, dtype: torch.dtype) -> Tensor:
    """Logarithm of the sum of exponentiated ``logits`` over the last axis."""
    return torch.logsumexp(logits.to(dtype), -1)


def standardised(raw: Tensor, sums: Tensor, seen: int) -> tuple[Tensor, Tensor]:
    """``raw`` ``(B, n)`` less the mean of everything up to each, over its deviation; and the new ``sums`` ``(B, 2)``.

    The graph runs through ``raw`` alone.
    """
    fixed = raw.detach().double()
    running = sums[:, None] + torch.stack([fixed, fixed.square()], -1).cumsum(1)
    count = torch.arange(seen + 1, seen + 1 + raw.shape[1], dtype=torch.float64, device=raw.device)
    mean, square = (running / count[:, None]).unbind(-1)
    deviation = (square - mean.square()).clamp_min(0).add(_EPSILON).sqrt()
    return (raw - mean.to(raw.dtype)) / deviation.to(raw.dtype), running[:, -1].clone()
