"""Evict, then factorise: the same tokens in all layers of a group, bytes as promised, exact where rank allows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kv_models import narrow, numbers, tiny
from torch import Tensor

from lamina.activation.attach import attach
from lamina.activation.cascade_eviction import CAKE, pyramidkv, snapkv
from lamina.activation.cross_layer_svd import XKV
from lamina.activation.evicted_bases import EvictedBases, EvictedBasesCache
from lamina.errors import BudgetError, InvalidInput

W = 8


def read(lm: Any, policy: EvictedBases, parts: list[Tensor]) -> tuple[Tensor, EvictedBasesCache]:
    with torch.no_grad(), attach(lm.model, policy):
        cache, logits = None, []
        for part in parts:
            answer = lm.model(part, past_key_values=cache, use_cache=True)
            cache = answer.past_key_values
            logits.append(answer.logits)
    assert isinstance(cache, EvictedBasesCache)
    return torch.cat(logits, 1), cache


def test_what_is_kept_is_read_exactly_where_rank_allows() -> None:
    """All layers in one group, of full rank: attention to the kept tokens alone, by transformers under a mask."""
    lm, ids, more = narrow(), torch.tensor([numbers(90)]), torch.tensor([numbers(6, seed=1)])
    policy = EvictedBases(CAKE(tokens=40, window=W), XKV(ratio=1.05, group=3, tail=16))
    _, cache = read(lm, policy, [ids])
    assert cache.factors[0][0].rank >= 18  # or the factors are not exact, and the test shows nothing
    kept = cache.kept(0)[0].tolist()
    assert len(kept) == 44 and set(range(4)) | set(range(82, 90)) <= set(kept)
    with torch.no_grad(), attach(lm.model, policy):
        found = torch.cat([lm.model(more[:, n : n + 1], past_key_values=cache).logits for n in range(6)], 1)
        hidden = torch.ones(96, 96, dtype=torch.bool).tril()
        for place in set(range(90)) - set(kept):
            hidden[90:, place] = False
    with torch.no_grad():
        wanted = lm.model(torch.cat([ids, more], 1), attention_mask=hidden[None, None]).logits[:, 90:]
    assert torch.allclose(found, wanted, atol=1e-9)


def test_a_text_that_fits_is_what_xkv_makes_of_it() -> None:
    lm, ids = tiny(), torch.tensor([numbers(80)])
    factor = XKV(ratio=2.0, group=2, tail=16)
    ours, cache = read(lm, EvictedBases(CAKE(tokens=80, window=W), factor), [ids])
    with torch.no_grad(), attach(lm.model, factor) as attached:
        wanted = lm.model(ids, use_cache=True).logits
    assert torch.equal(ours, wanted)
    for layer in range(3):
        assert torch.equal(cache._whole(layer)[0],
                           attached.cache._whole(layer)[0])  # fmt: skip


def test_layers_of_a_group_keep_the_same_and_groups_their_shares() -> None:
    lm, ids = tiny(num_hidden_layers=6), torch.tensor([numbers(120)])
    _, cache = read(lm, EvictedBases(CAKE(tokens=30, window=W), XKV(ratio=1.5, group=2)), [ids])
    counts = [cache.factors[number][0].count for number in range(3)]
    assert sum(counts) == 90 and len(set(counts)) > 1
    assert cache.allocation() == [4 + count for count in counts for _ in range(2)]
    for first in (0, 2, 4):
        assert torch.equal(cache.kept(first), cache.kept(first + 1))
        assert cache.kept(first)[0].tolist() == sorted(set(cache.kept(first)[0].tolist()))
    _, even = read(lm, EvictedBases(snapkv(tokens=30, window=W), XKV(ratio=1.5, group=2)), [ids])
    assert even.allocation() == [34] * 6


@settings(deadline=None, max_examples=12)
@given(
    st.integers(100, 200),
    st.integers(24_000, 60_000),
    st.floats(1.3, 3.0),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([None, 8, 4]),
    st.sampled_from([[1.0], [0.5, 0.5], [0.3, 0.7]]),
)
def test_the_budget_is_never_passed_when_a_text_was_read(
    length: int, budget: int, ratio: float, group: int, bits: int | None, parts: list[float]
) -> None:
    lm, ids = tiny(dtype=torch.float32), torch.tensor([numbers(length)])
    policy = EvictedBases(CAKE(budget, window=W), XKV(ratio=ratio, group=group, tail=8, bits=bits))
    sizes = [int(length * part) for part in parts[:-1]]
    _, cache = read(lm, policy, list(ids.split([*sizes, length - sum(sizes)], 1)))
    assert cache.nbytes <= budget
    dense = 2 * 2 * 16 * 4
    assert cache.peak_nbytes <= budget + group * length * (dense + 4) + 3 * 4 * length
    with torch.no_grad(), attach(lm.model, policy):
        for token in numbers(30, seed=2):
            lm.model(torch.tensor([[token]]), past_key_values=cache)
            assert cache.nbytes <= budget + 3 * (dense + 4)  # the token that fills the tail, until it is folded in


def test_rows_of_a_batch_keep_their_own() -> None:
    lm = tiny()
    short, long = numbers(60, 1), numbers(90, 2)
    ids, mask = torch.tensor([[0] * 30 + short, long]), torch.tensor([[0] * 30 + [1] * 60, [1] * 90])
    policy = EvictedBases(CAKE(tokens=30, window=W), XKV(ratio=1.2, group=3, tail=8))
    with torch.no_grad(), attach(lm.model, policy) as attached:
        found = lm.model.generate(ids, attention_mask=mask, max_new_tokens=20, do_sample=False, pad_token_id=0)
    assert found.shape[1] > 90
    kept = attached.cache.kept(0)
    assert not torch.equal(kept[0], kept[1])
    assert bool((kept[1] >= 0).all())


def test_nonsense_is_refused() -> None:
    with pytest.raises(InvalidInput, match="give a ratio"):
        EvictedBases(CAKE(tokens=40), XKV(rank_k=3, rank_v=3))
    with pytest.raises(InvalidInput, match="pyramid"):
        EvictedBases(pyramidkv(tokens=40), XKV(ratio=2.0))
    with pytest.raises(InvalidInput, match="bits to the factors"):
        EvictedBases(CAKE(tokens=40, bits=8), XKV(ratio=2.0))
    lm = tiny()
    with pytest.raises(BudgetError, match=r"budget=20000 bytes.*take \d+.*shorter tail"):
        read(lm, EvictedBases(CAKE(20_000), XKV(ratio=2.0)), [torch.tensor([numbers(50)])])
