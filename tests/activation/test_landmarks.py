"""Selective reconstruction: what is read is attention to the chosen tokens alone, and the right ones are chosen."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from kv_models import numbers, tiny
from torch import Tensor

from lamina.activation.attach import attach
from lamina.activation.cross_layer_svd import XKV, XKVCache

TOKENS, SELECT, OUTLIERS = 203, 64, 2  # round(24 * 64 / 1024)


def left(policy: XKV, rows: int = 1, padding: int = 0) -> XKVCache:
    lm = tiny()
    ids = torch.tensor([numbers(TOKENS, seed) for seed in range(rows)])
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    with torch.no_grad(), attach(lm.model, policy):
        cache = lm.model(ids, attention_mask=mask, use_cache=True).past_key_values
    assert isinstance(cache, XKVCache)
    return cache


def asking(rows: int = 1) -> Tensor:
    return 3 * torch.randn(rows, 4, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def chosen_by_hand(keys: Tensor, query: Tensor, valid: list[bool]) -> set[int]:
    """Factored tokens of one head that are read, from rotated ``keys (n, d)`` and scaled ``query (g, d)``, by loops."""
    count = len(keys) // 8
    means, worst = [], []
    for chunk in range(count):
        own = [keys[n] for n in range(8 * chunk, 8 * chunk + 8) if valid[n]]
        means.append(sum(own) / len(own) if own else None)
        worst.append(min((float(k @ means[-1] / k.norm() / means[-1].norm()) for k in own), default=1.0))
    local = set(range(count - 4, count))
    odd = set(sorted(set(range(count)) - local, key=lambda chunk: worst[chunk])[:OUTLIERS])
    others = [chunk for chunk in range(count) if chunk not in local | odd and means[chunk] is not None]
    weight = dict.fromkeys(others, 0.0)
    for one in query:
        scores = {chunk: math.exp(float(one @ means[chunk])) for chunk in others}
        weight = {chunk: max(weight[chunk], scores[chunk] / sum(scores.values())) for chunk in others}
    best = set(sorted(others, key=lambda chunk: -weight[chunk])[: SELECT // 8])
    return {8 * chunk + n for chunk in best | odd | local for n in range(8)} | set(range(8 * count, len(keys)))


@pytest.mark.parametrize(("rows", "padding"), [(1, 0), (2, 0), (2, 37)])
def test_it_is_attention_to_the_chosen_tokens(rows: int, padding: int) -> None:
    """Chosen and attended to by loops over chunks and heads."""
    cache = left(XKV(ratio=2.0, group=2, select=SELECT), rows, padding)
    query = asking(rows)
    for layer in range(3):
        found = cache.attention(layer, query, 0.25)
        assert found is not None
        keys, values = cache._whole(layer)
        kept, count = cache.kept(layer), cache.places[layer // 2].shape[1]
        for row in range(rows):
            for head in range(4):
                own, of_head = keys[row, head // 2], 0.25 * query[row, head // 2 * 2 : head // 2 * 2 + 2, 0]
                valid = (kept[row, 4 : 4 + count] >= 0).tolist()
                read = {0, 1, 2, 3} | {4 + n for n in chosen_by_hand(own[4 : 4 + count], of_head, valid)}
                at = torch.tensor([n for n in sorted(read) if kept[row, n] >= 0])
                weights = (0.25 * own[at] @ query[row, head, 0]).softmax(0)
                assert torch.allclose(found[row, head, 0], weights @ values[row, head // 2][at], atol=1e-9)


def test_what_is_all_there_is_is_read_whole() -> None:
    some, every = left(XKV(ratio=2.0, group=2, select=160)), left(XKV(ratio=2.0, group=2))
    query = asking()
    for layer in range(3):
        ours, whole = some.attention(layer, query, 0.25), every.attention(layer, query, 0.25)
        assert ours is not None and whole is not None and torch.equal(ours, whole)
    assert some.nbytes == every.nbytes


def test_landmarks_are_charged_and_follow_the_factors() -> None:
    lm: Any = tiny()
    policy = XKV(ratio=2.0, group=2, select=SELECT, tail=8)
    cache = left(policy)
    before = cache.nbytes
    with torch.no_grad(), attach(lm.model, policy):
        for token in numbers(30, seed=5):
            lm.model(torch.tensor([[token]]), past_key_values=cache)
    chunks = cache.factors[0][0].count // 8
    assert chunks > (TOKENS - 4) // 8
    for marks in cache._landmarks.values():
        assert marks is not None and marks.means.shape == (1, 2, chunks, 16)
    assert cache.nbytes > before + 3 * 2 * chunks * 16 * 8
