"""Which layer's queries find what its keys say: a probe for the layer that a memory keeps.

A text of random tokens is read; then its tokens are read again in another order, and each looks, with the layer's own
queries and without positions, for a place that follows the same token in the text: what a model that copies must find.
Wang et al., arXiv 2306.07174, take the layer at 17/24 of the depth and give no reason; which layer's keys tell tokens
apart differs from model to model, and the side network can learn better queries but never better keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lamina.activation.retrieval_memory import frozen

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TEXT = 2048  # tokens that the probe looks through
_CENTRE = 3 / 4  # of the depth: the middle of the layers that are probed


def best_layer(model: PreTrainedModel, *, chunk: int, topk: int, segment: int) -> int:
    """Of the upper half of the layers the one with the highest recall, of equals the one nearest 3/4 of the depth."""
    depth = int(model.config.num_hidden_layers)
    layers = range(depth // 2, depth)
    generator = torch.Generator().manual_seed(0)
    length = max(chunk, min(segment, 128) // chunk * chunk)
    text = torch.randint(int(model.config.vocab_size), (max(1, _TEXT // length), length), generator=generator)
    asked = text.flatten()[torch.randperm(text.numel(), generator=generator)[:length]][None]
    shares = recalls(model, text.to(model.device), asked.to(model.device), list(layers), chunk=chunk, topk=topk)
    return max(zip(shares, layers, strict=True), key=lambda each: (each[0], -abs(each[1] - _CENTRE * depth)))[1]


@torch.no_grad()
def recalls(
    model: PreTrainedModel, text: Tensor, asked: Tensor, layers: list[int], *, chunk: int, topk: int
) -> list[float]:
    """For each of ``layers`` the share of tokens of ``asked`` (1, n), over all heads, whose ``topk`` found tokens hold
    one that follows the same token in a segment of ``text`` (segments, length), a multiple of ``chunk`` long."""
    base: Any = model.base_model
    attentions = [frozen.attention(model, layer) for layer in layers]
    with frozen.outputs([own.k_proj for own in attentions]) as keys:
        base(input_ids=text, use_cache=False)
    with frozen.outputs([own.q_proj for own in attentions]) as queries:
        base(input_ids=asked, use_cache=False)
    before = torch.cat([torch.full_like(text[:, :1], -1), text[:, :-1]], 1).view(-1, chunk)
    follows = (before[None] == asked[0][:, None, None]).any(-1)  # (n, chunks)
    shares = []
    for own, key, query in zip(attentions, keys, queries, strict=True):
        means = key.reshape(-1, chunk, key.shape[-1] // own.head_dim, own.head_dim).mean(1).transpose(0, 1)
        wanted = frozen.heads(query, own.head_dim)[0]
        means = means.repeat_interleave(len(wanted) // len(means), 0)
        found = (wanted @ means.transpose(1, 2)).topk(min(topk // chunk, means.shape[1]), dim=-1).indices
        shares.append(float(follows.expand(len(found), -1, -1).gather(2, found).any(-1).double().mean()))
    return shares
