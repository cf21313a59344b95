"""The side network of LongMem: a half-deep copy that learns a correction to a frozen model and looks into the bank.

Wang et al., arXiv 2306.07174, section 2.2 and 2.3. Layer ``l`` adds its attention and its feed-forward, both of the
same input, and what the frozen model itself adds over its own layers meanwhile: with both of its own parts zero, the
side network is the frozen model. One layer looks, besides at the segment, at tokens found in the bank: two softmaxes,
mixed by a gate of each head. Found tokens have no positions, so neither has the query that finds and weighs them.

Unusual: the two parts keep the two norms that Llama has for them, since each was trained behind its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lamina.activation.retrieval_memory.bank import MemoryBank
from lamina.activation.retrieval_memory.frozen import heads

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK = 128  # positions whose found tokens are in memory at once
Pair = tuple[Tensor, Tensor]


class GatedJointAttention(nn.Module):
    """Causal attention within the segment, with the weights of ``attention`` to begin with, and, if ``topk`` is given,
    over that many tokens of the bank, mixed head by head.

    ``gate`` ``(heads,)``: the share of the bank is its sigmoid, one half to begin with; ``None`` without ``topk``. A
    row with an empty bank attends to its segment alone.
    """

    def __init__(self, attention: Any, topk: int | None) -> None:
        super().__init__()
        self.q_proj, self.k_proj = deepcopy(attention.q_proj), deepcopy(attention.k_proj)
        self.v_proj, self.o_proj = deepcopy(attention.v_proj), deepcopy(attention.o_proj)
        self.head_dim, self.topk = int(attention.head_dim), topk
        weight = self.q_proj.weight
        self.gate = None if topk is None else nn.Parameter(weight.new_zeros(len(weight) // self.head_dim))

    def forward(self, x: Tensor, turns: Pair, past: Pair | None, banks: Sequence[MemoryBank]) -> tuple[Tensor, Pair]:
        """Of ``x`` ``(B, T, d)`` with cosines and sines ``turns``, behind the keys and values ``past``; also the keys
        and values of all so far."""
        queries, keys, values = (
            heads(projection(x), self.head_dim) for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        turned, keys = _turn(queries, turns), _turn(keys, turns)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        mixed = self._mix(queries, _local(turned, keys, values), banks)
        return self.o_proj(mixed.transpose(1, 2).flatten(2)), (keys, values)

    def _mix(self, queries: Tensor, local: Tensor, banks: Sequence[MemoryBank]) -> Tensor:
        if self.gate is None or self.topk is None or not any(len(bank) for bank in banks):
            return local
        found = [
            retrieved_attention(query, bank, self.topk) if len(bank) else here
            for query, here, bank in zip(queries, local, banks, strict=True)
        ]
        return local + torch.sigmoid(self.gate)[:, None, None] * (torch.stack(found) - local)


class SideNetLayer(nn.Module):
    """One layer, with the weights of the frozen layer ``block`` to begin with; ``topk`` only where the bank is read."""

    def __init__(self, block: Any, topk: int | None = None) -> None:
        super().__init__()
        self.self_attn = GatedJointAttention(block.self_attn, topk)
        self.mlp = deepcopy(block.mlp)
        self.input_layernorm = deepcopy(block.input_layernorm)
        self.post_attention_layernorm = deepcopy(block.post_attention_layernorm)

    def forward(
        self, x: Tensor, update: Tensor, turns: Pair, past: Pair | None, banks: Sequence[MemoryBank]
    ) -> tuple[Tensor, Pair]:
        """``x`` and ``update``, what the frozen model added meanwhile, are ``(B, T, d)``."""
        attended, kept = self.self_attn(self.input_layernorm(x), turns, past, banks)
        return x + attended + self.mlp(self.post_attention_layernorm(x)) + update, kept


class SideNet(nn.Module):
    """``layers`` side layers beside ``model``; the one beside its layer ``memory_layer`` reads ``topk`` tokens and
    begins as that layer, the others as the last layer that each stands beside."""

    def __init__(self, model: PreTrainedModel, layers: int, memory_layer: int, topk: int) -> None:
        super().__init__()
        base: Any = model.base_model
        stride = len(base.layers) // layers
        reading = memory_layer // stride
        copied = [stride * n + stride - 1 for n in range(layers)]
        copied[reading] = memory_layer  # the queries that are to find its keys begin as its own
        self.layers = nn.ModuleList(
            SideNetLayer(base.layers[layer], topk if n == reading else None) for n, layer in enumerate(copied)
        )
        self.norm = deepcopy(base.norm)
        self.joint: GatedJointAttention = self.layers[reading].self_attn  # type: ignore[assignment]
        self.requires_grad_(True)

    def forward(
        self, states: Sequence[Tensor], turns: Pair, past: Sequence[Pair] | None, banks: Sequence[MemoryBank]
    ) -> tuple[Tensor, list[Pair]]:
        """Final states ``(B, T, d)`` beside the frozen ``states``, and the keys and values of each layer."""
        x, kept = states[0], []
        for number, layer in enumerate(self.layers):
            before = None if past is None else past[number]
            x, pair = layer(x, states[number + 1] - states[number], turns, before, banks)
            kept.append(pair)
        return self.norm(x), kept


def retrieved_attention(queries: Tensor, bank: MemoryBank, topk: int, block: int = BLOCK) -> Tensor:
    """Attention of ``queries`` ``(heads, T, head_dim)``, without positions, to the ``topk`` tokens each finds.

    Several query heads may share a head of the bank; each finds its own tokens. Positions are taken ``block`` at a
    time, since what they find is ``topk`` times their own size.
    """
    folded = queries.reshape(bank.kv_heads, -1, *queries.shape[1:])  # (kv heads, group, T, head_dim)
    return torch.cat([_attend(part, bank, topk) for part in torch.split(folded, block, 2)], 2).flatten(0, 1)


def _attend(queries: Tensor, bank: MemoryBank, topk: int) -> Tensor:
    asked = queries.flatten(1, 2)
    keys, values, _ = bank.search(asked, topk)
    scores = torch.einsum("hnd,hnkd->hnk", asked, keys) * asked.shape[-1] ** -0.5
    return torch.einsum("hnk,hnkd->hnd", scores.softmax(-1), values).view(queries.shape)


def _local(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    length, total = queries.shape[2], keys.shape[2]
    mask = None
    if 1 < length < total:  # behind a past
        mask = torch.ones(length, total, dtype=torch.bool, device=queries.device).tril(total - length)
    causal = length > 1 and mask is None
    return F.scaled_dot_product_attention(queries, keys, values, mask, is_causal=causal, enable_gqa=True)


def _turn(x: Tensor, turns: Pair) -> Tensor:
    """``x`` ``(B, heads, T, head_dim)`` with positions put on."""
    cos, sin = (table[:, None] for table in turns)
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin
