"""xKV: exact where keys and values are of low rank, the best of its rank where not, and bytes as promised."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kv_models import narrow, numbers, prose, smollm2, tiny
from torch import Tensor

from lamina.activation.attach import attach
from lamina.activation.cross_layer_svd import XKV, XKVCache
from lamina.errors import InvalidInput


def read(lm: Any, policy: XKV, parts: list[Tensor], **options: Any) -> tuple[Tensor, XKVCache]:
    with torch.no_grad(), attach(lm.model, policy):
        cache, logits = None, []
        for part in parts:
            answer = lm.model(part, past_key_values=cache, use_cache=True, **options)
            cache = answer.past_key_values
            logits.append(answer.logits)
    assert isinstance(cache, XKVCache)
    return torch.cat(logits, 1), cache


@pytest.mark.parametrize("group", [1, 2, 3, "auto"])
@pytest.mark.parametrize("sinks", [0, 4])
@pytest.mark.parametrize("sizes", [[120], [60, 40, 20], [80, *[1] * 40], [90, 10, *[1] * 20]])
def test_what_is_of_low_rank_is_read_exactly(group: Any, sinks: int, sizes: list[int]) -> None:
    """In one piece, in chunks, token by token with a tail that is folded in again and again."""
    lm, ids = narrow(), torch.tensor([numbers(120)])
    policy = XKV(rank_k=18, rank_v=18, group=group, sinks=sinks, tail=8)
    logits, cache = read(lm, policy, list(ids.split(sizes, 1)))
    with torch.no_grad():
        wanted = lm.model(ids).logits
    assert torch.allclose(logits, wanted, atol=1e-9)
    folded = {keys.coefficients.shape[1] for keys, _ in cache.factors.values()}
    exact = {layer.keys.shape[-2] for layer in cache.layers}
    assert min(folded) > 60 and max(exact) <= sinks + 8
    assert cache.get_seq_length() == 120


def test_padding_changes_nothing() -> None:
    lm = narrow()
    short, long = numbers(60, 1), numbers(90, 2)
    ids = torch.tensor([[0] * 30 + short, long])
    mask = torch.tensor([[0] * 30 + [1] * 60, [1] * 90])
    with torch.no_grad():
        plain = [lm.model.generate(torch.tensor([row]), attention_mask=torch.ones(1, len(row)), max_new_tokens=12,
                 do_sample=False, pad_token_id=0)[0, len(row):] for row in (short, long)]  # fmt: skip
        with attach(lm.model, XKV(rank_k=12, rank_v=12, group=2, tail=4)) as attached:
            found = lm.model.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert attached.cache.factors
    for row, wanted in zip(found, plain, strict=True):
        length = len(wanted)
        assert row[90 : 90 + length].tolist() == wanted.tolist()


def test_a_lone_query_sees_what_several_would() -> None:
    """The way without rebuilding values against stock attention over rebuilt ones, where neither is exact."""
    lm, ids = tiny(), torch.tensor([numbers(91)])
    policy = XKV(ratio=2.0, group=2)
    _, one = read(lm, policy, [ids[:, :90]])
    _, two = read(lm, policy, [ids[:, :90]])
    query = torch.randn(1, 4, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for layer in range(3):
        assert torch.equal(one._whole(layer)[0], two._whole(layer)[0])
        found = one.attention(layer, query, 0.25)
        keys, values = two._whole(layer)
        wanted = torch.nn.functional.scaled_dot_product_attention(query, keys, values, scale=0.25, enable_gqa=True)
        assert found is not None and torch.allclose(found, wanted, atol=1e-12)


def test_held_keys_are_the_rebuilt_ones_and_stay_within_their_bytes() -> None:
    """For as long as their factors do: past a tail that is folded in, and for no more groups than fit."""
    lm, ids = tiny(), torch.tensor([numbers(130)])
    group = 2 * 2 * 16 * 8 * 96  # bytes of two layers' keys of 96 tokens
    parts = [ids[:, :100], *ids[:, 100:].split(1, 1)]
    wanted, bare = read(lm, XKV(ratio=2.0, group=2, tail=16), parts)
    for room, layers in ((group - 1, {2}), (group, {0, 1}), (2**30, {0, 1, 2})):
        _, cache = read(lm, XKV(ratio=2.0, group=2, tail=16, rebuilt=room), parts[:3])
        before = cache.nbytes - sum(keys.nbytes for keys in cache._rebuilt.values())
        assert set(cache._rebuilt) == layers and 0 < cache.nbytes - before <= room
    found, cache = read(lm, XKV(ratio=2.0, group=2, tail=16, rebuilt=2**30), parts)
    assert torch.allclose(found, wanted, atol=1e-9)
    assert all(cache._rebuilt[n].shape[2] == cache.factors[n // 2][0].count > 96 for n in range(3))
    assert cache.nbytes == bare.nbytes + sum(keys.nbytes for keys in cache._rebuilt.values())


def test_a_group_shares_the_best_basis_of_its_layers_side_by_side() -> None:
    lm, ids = tiny(), torch.tensor([numbers(100)])
    _, cache = read(lm, XKV(rank_k=20, rank_v=25, group=3, sinks=0), [ids])
    with torch.no_grad():
        plain = lm.model(ids, use_cache=True).past_key_values
    places = torch.arange(100)
    bare = [cache.rotary.unrotate(layer.keys[0], places) for layer in plain.layers]
    keys = torch.cat([one.transpose(0, 1).reshape(100, -1) for one in bare], 1)
    values = torch.cat([layer.values[0].transpose(0, 1).reshape(100, -1) for layer in plain.layers], 1)
    for exact, factors, rank in ((keys, cache.factors[0][0], 20), (values, cache.factors[0][1], 25)):
        left, sizes, right = torch.linalg.svd(exact)
        wanted = left[:, :rank] @ torch.diag(sizes[:rank]) @ right[:rank]
        assert torch.allclose(factors.dense()[0], wanted, atol=1e-8)
        assert factors.energy == pytest.approx(float(sizes[:rank].square().sum() / sizes.square().sum()))


@settings(deadline=None, max_examples=15)
@given(st.integers(40, 200), st.floats(1.5, 8.0), st.sampled_from([1, 2, 3, "auto"]), st.integers(0, 6),
       st.sampled_from([None, 8, 4]))  # fmt: skip
def test_any_ratio_any_length_takes_no_more_bytes(
    length: int, ratio: float, group: Any, sinks: int, bits: int | None
) -> None:
    lm, ids = tiny(dtype=torch.float32), torch.tensor([numbers(length)])
    _, cache = read(lm, XKV(ratio=ratio, group=group, sinks=sinks, bits=bits), [ids])
    token = 2 * 2 * 16 * 4
    places = 4 * (length * len(cache.groups) + 3 * sinks)
    if len(cache.factors) == len(cache.groups):
        assert cache.nbytes <= 3 * token * ((length - sinks) / ratio + sinks) + places
    count = max(len(members) for members in cache.groups)
    compressed = sum(k.nbytes + v.nbytes for k, v in cache.factors.values())
    assert cache.peak_nbytes <= compressed + count * (token + 4) * length + 3 * token * sinks + places


def test_a_text_too_short_to_gain_stays_as_it_is_until_it_grows() -> None:
    lm, ids = tiny(), torch.tensor([numbers(110)])
    policy = XKV(rank_k=24, rank_v=24, group=3, tail=16, sinks=0)  # pays from 32 tokens on
    logits, cache = read(lm, policy, [ids[:, :20]])
    with torch.no_grad():
        assert torch.allclose(logits, lm.model(ids[:, :20]).logits, atol=1e-12)
    assert not cache.factors
    with torch.no_grad(), attach(lm.model, policy):
        for place in range(20, 60):
            lm.model(ids[:, place : place + 1], past_key_values=cache)
    assert set(cache.factors) == {0}


def test_keys_are_of_lower_rank_with_their_positions_off() -> None:
    """The premise, on a real model: neighbouring layers are aligned, and positions cost rank."""
    lm = smollm2()
    ids = torch.tensor([prose(200)])
    with torch.no_grad():
        plain = lm.model(ids, use_cache=True).past_key_values
    _, cache = read(lm, XKV(ratio=2.0, group=5, sinks=0), [ids])
    turned = torch.cat([layer.keys[0].transpose(0, 1).reshape(200, -1) for layer in plain.layers[10:15]], 1).double()
    rank = cache.factors[2][0].rank
    sizes = torch.linalg.svdvals(turned).square()
    assert 1 - cache.factors[2][0].energy < 0.8 * float(sizes[rank:].sum() / sizes.sum())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ratio": 2.0, "rank_k": 3},
        {"rank_k": 3},
        {"ratio": 1.0},
        {"ratio": float("nan")},
        {"rank_k": 0, "rank_v": 3},
        {"ratio": 2.0, "group": 0},
        {"ratio": 2.0, "group": 1.5},
        {"ratio": 2.0, "group": "all"},
        {"ratio": 2.0, "tail": 1.5},
        {"ratio": 2.0, "select": True},
        {"ratio": "3"},
        {"ratio": 2.0, "tail": -1},
        {"ratio": 2.0, "select": 0},
        {"ratio": 2.0, "rebuilt": -1},
        {"ratio": 2.0, "select": 64, "rebuilt": 2**20},
    ],
)
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        XKV(**options)
