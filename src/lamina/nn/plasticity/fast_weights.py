"""Matrices that are written while a text is read, by Hebb's rule or by their own error: token by token, and in chunks.

With ``b`` the strength of a write and ``a`` the log of what is left of the past,

    hebb:   S_t = exp(a_t) S_{t-1} + b_t k_t v_t^T                                   (Ba et al., arXiv 1610.06258)
    delta:  S_t = exp(a_t) S_{t-1} + b_t k_t (v_t - S_{t-1}^T k_t)^T                 (Schlag et al., arXiv 2102.11174)
    o_t = S_t^T q_t

What is read is read after the write, so that a pair can be asked for at once. The error is taken of the state before it
faded; ``gated_delta_chunk`` takes it after, so values and strengths are given to it in its own terms.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lamina.nn.linear_recurrence import CHUNK, gated_delta_chunk

Rule = Literal["delta", "hebb"]
RULES: tuple[Rule, ...] = ("delta", "hebb")


def fast_weight_steps(
    rule: Rule, q: Tensor, k: Tensor, v: Tensor, b: Tensor, a: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The equations token by token. ``q``, ``k`` ``(..., time, dk)``, ``v`` ``(..., time, dv)``, ``b``, ``a``
    ``(..., time)``, ``state`` ``(..., dk, dv)``; what is read ``(..., time, dv)`` and the last state."""
    reads = []
    for t in range(k.shape[-2]):
        key, value = k[..., t, :], v[..., t, :]
        if rule == "delta":
            value = value - (state * key[..., None]).sum(-2)
        written = key[..., None] * (b[..., t, None] * value)[..., None, :]
        state = a[..., t, None, None].exp() * state + written
        reads.append((state * q[..., t, :, None]).sum(-2))
    return torch.stack(reads, dim=-2), state


def fast_weight_chunks(
    rule: Rule, q: Tensor, k: Tensor, v: Tensor, b: Tensor, a: Tensor, state: Tensor, *, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """The same in chunks of ``chunk`` tokens: time goes by chunks. All in the dtype of ``state``."""
    q, k, v, b, a = (each.to(state.dtype) for each in (q, k, v, b, a))
    if rule == "delta":
        left = a.exp()
        return gated_delta_chunk(q, k, left[..., None] * v, b / left, a, state, chunk=chunk)
    reads = []
    for start in range(0, k.shape[-2], chunk):
        part = slice(start, start + chunk)
        read, state = _hebb_chunk(q[..., part, :], k[..., part, :], v[..., part, :], b[..., part], a[..., part], state)
        reads.append(read)
    return torch.cat(reads, dim=-2), state


def _hebb_chunk(q: Tensor, k: Tensor, v: Tensor, b: Tensor, a: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    total = a.cumsum(-1)  # log of what is left since the chunk began
    earlier = torch.ones(k.shape[-2], k.shape[-2], dtype=torch.bool, device=k.device).tril()
    # Masked before the exponential: of later tokens it would overflow, and 0 * inf is no gradient.
    left = (total[..., :, None] - total[..., None, :]).masked_fill(~earlier, -torch.inf).exp()
    written = b[..., None] * v
    read = total.exp()[..., None] * (q @ state) + ((q @ k.mT) * left) @ written
    last = total[..., -1:, None]
    return read, last.exp() * state + ((last - total[..., None]).exp() * k).mT @ written
