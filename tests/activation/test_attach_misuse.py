"""What people do with a model while a policy is attached, and what must come of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kv_models import numbers, tiny
from transformers import DynamicCache

from lamina.activation.attach import attach
from lamina.activation.cascade_eviction import CAKE
from lamina.activation.compressed_cube import CompressedCube
from lamina.activation.cross_layer_svd import XKV
from lamina.activation.evicted_bases import EvictedBases
from lamina.activation.policies import parse_policy
from lamina.errors import InvalidInput

WHOLE = CAKE(tokens=4000, window=8)
POLICIES = [
    CAKE(tokens=24, window=8),
    XKV(ratio=1.5, tail=4, group=2),
    XKV(ratio=2.0, tail=4, group=2, bits=8),
    EvictedBases(CAKE(tokens=30, window=8), XKV(ratio=1.5, tail=4, group=2)),
]


def test_a_loop_that_gives_its_own_empty_cache_again_and_again() -> None:
    lm, ids = tiny(), torch.tensor([numbers(40)])

    def written(cache: Any) -> list[int]:
        found, part = [], ids
        for _ in range(8):
            part = lm.model(part, past_key_values=cache).logits[:, -1:].argmax(-1)
            found.append(int(part))
        return found

    with torch.no_grad():
        wanted = written(DynamicCache(config=lm.model.config))
        with attach(lm.model, WHOLE):
            assert written(DynamicCache(config=lm.model.config)) == wanted
            assert written(DynamicCache(config=lm.model.config)) == wanted  # another cache is another text


def test_padding_by_position_is_padding() -> None:
    lm = tiny()
    ids = torch.tensor([[0] * 10 + numbers(30), numbers(40, seed=1)])
    mask = torch.tensor([[0] * 10 + [1] * 30, [1] * 40])
    places = (mask.cumsum(1) - 1).clamp_min(0)
    with torch.no_grad(), attach(lm.model, WHOLE):
        named = lm.model(input_ids=ids, attention_mask=mask, position_ids=places).logits
        assert torch.equal(lm.model(ids, mask, places).logits, named)
        with pytest.raises(InvalidInput, match="inner model"):
            lm.model.model(ids, attention_mask=mask, position_ids=places)


@pytest.mark.parametrize("policy", POLICIES)
def test_rows_that_change_places_take_all_that_is_theirs(policy: Any) -> None:
    lm = tiny()
    ids, more = torch.tensor([numbers(60), numbers(60, seed=1)]), torch.tensor([numbers(12, 2), numbers(12, 3)])

    def read(order: list[int], then: Any) -> torch.Tensor:
        with torch.no_grad(), attach(lm.model, policy):
            cache = lm.model(ids[order], use_cache=True).past_key_values
            then(cache)
            after = more if order == [0, 1] else more.flip(0)
            return torch.cat([lm.model(part, past_key_values=cache).logits for part in after.split(1, 1)], 1)

    plain = read([0, 1], lambda cache: None)
    swapped = read([1, 0], lambda cache: cache.reorder_cache(torch.tensor([1, 0])))
    again = read([1, 0], lambda cache: cache.batch_select_indices(torch.tensor([1, 0])))
    if policy in POLICIES[1:]:
        assert torch.allclose(swapped, again)
    assert swapped.shape == plain.shape
    with torch.no_grad(), attach(lm.model, policy):
        one = lm.model(ids, use_cache=True).past_key_values
        two = lm.model(ids.flip(0), use_cache=True).past_key_values
        two.reorder_cache(torch.tensor([1, 0]))
        for part in more.split(1, 1):
            assert torch.allclose(lm.model(part, past_key_values=one).logits,
                                  lm.model(part, past_key_values=two).logits, atol=1e-5)  # fmt: skip
        one.batch_repeat_interleave(2)
        assert lm.model(more[:, :1].repeat_interleave(2, 0), past_key_values=one).logits.shape[0] == 4


@pytest.mark.parametrize("policy", POLICIES)
def test_a_cache_that_was_reset_reads_as_a_fresh_one(policy: Any) -> None:
    lm, ids = tiny(), torch.tensor([numbers(60)])
    with torch.no_grad(), attach(lm.model, policy):
        cache = lm.model(torch.tensor([numbers(70, seed=5)]), use_cache=True).past_key_values
        cache.reset()
        found = lm.model(ids, past_key_values=cache).logits
        assert torch.equal(found, lm.model(ids, use_cache=True).logits)


@pytest.mark.parametrize("policy", POLICIES[1:])
def test_factors_are_not_read_without_their_policy(policy: Any) -> None:
    lm, ids = tiny(), torch.tensor([numbers(60)])
    with torch.no_grad():
        with attach(lm.model, policy):
            cache = lm.model(ids, use_cache=True).past_key_values
        with pytest.raises(InvalidInput, match="attach block"):
            lm.model(ids[:, :1], past_key_values=cache)


def test_a_short_question_stays_exact() -> None:
    lm, ids = tiny(), torch.tensor([numbers(60)])
    with torch.no_grad(), attach(lm.model, XKV(ratio=2.0, tail=16, group=3)):
        cache = lm.model(ids, use_cache=True).past_key_values
        factored = cache.factors[0][0].count
        lm.model(ids[:, :10], past_key_values=cache)
        assert cache.factors[0][0].count == factored and cache.layers[0].keys.shape[2] == 14
        lm.model(ids[:, :10], past_key_values=cache)
        assert cache.factors[0][0].count == factored + 20


@pytest.mark.parametrize("spec", ["int8", "cake:tokens=24,window=8+int4", "xkv:ratio=2,group=2+int8", "xkv:ratio=2"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_stored_cube_of_a_model_of_16_bits(spec: str, dtype: torch.dtype) -> None:
    lm = tiny(dtype=dtype)
    cube = CompressedCube.build(lm, numbers(50), parse_policy(spec))
    again = CompressedCube.from_payload(cube.to_payload(), lm)
    part = torch.tensor([[5]])
    with torch.no_grad(), cube.attached(lm) as one:
        wanted = lm.model(part, past_key_values=one).logits
    with torch.no_grad(), again.attached(lm) as two:
        assert torch.equal(lm.model(part, past_key_values=two).logits, wanted)
