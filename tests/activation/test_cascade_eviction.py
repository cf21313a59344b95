"""CAKE against a naive reading of its paper in float64, and what a budget promises at every moment."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kv_models import numbers, tiny
from torch import Tensor
from transformers import AttentionInterface

from lamina.activation.attach import attach
from lamina.activation.budgeted import shares
from lamina.activation.cascade_eviction import CAKE, CakeCache, pyramidkv, random_eviction, snapkv, streaming_llm
from lamina.errors import BudgetError, InvalidInput
from lamina.tensors.quantize import dequantize, quantize

W = 8
POLICIES = [
    CAKE(tokens=24, window=W),
    CAKE(tokens=24, window=W, tau=(0.5, 2.0), gamma=5.0, pool=3, sinks=2),
    snapkv(tokens=24, window=W),
    pyramidkv(tokens=24, window=W),
    streaming_llm(tokens=24, window=W),
    random_eviction(tokens=24, window=W, seed=3),
]


def read(lm: Any, policy: CAKE, ids: Tensor, chunk: int = 10**9, **options: Any) -> tuple[Tensor, CakeCache]:
    """Logits of all of ``ids``, read in chunks, and the cache behind them."""
    with torch.no_grad(), attach(lm.model, policy):
        cache, logits = None, []
        for part in ids.split(chunk, 1):
            answer = lm.model(part, past_key_values=cache, use_cache=True, **options)
            cache = answer.past_key_values
            logits.append(answer.logits)
    assert isinstance(cache, CakeCache)
    return torch.cat(logits, 1), cache


def attentions(lm: Any, ids: Tensor) -> list[Tensor]:
    """``(H, S, S)`` of each layer, from transformers' own eager attention."""
    lm.model.set_attn_implementation("eager")
    with torch.no_grad():
        found = lm.model(ids, output_attentions=True).attentions
    lm.model.set_attn_implementation("sdpa")
    return [layer[0] for layer in found]


def naive_kept(maps: list[Tensor], policy: CAKE, kv_heads: int) -> list[list[list[int]]]:
    """For each layer and key-value head the kept positions: equations of the paper, in loops, all layers at once."""
    weights, scored = [], []
    for layer in maps:
        heads, length, _ = layer.shape
        last = layer[:, length - W :, : length - W]
        entropy = -sum(float(a * torch.log(a + 1e-10)) for a in last.reshape(-1))
        shift = sum(float(last[h, :, j].var()) for h in range(heads) for j in range(length - W))
        weights.append(entropy ** (1 / policy.tau[0]) * shift ** (1 / policy.tau[1]))
        raw = torch.stack([last[h].mean(0) + policy.gamma * last[h].var(0) for h in range(heads)])
        half = policy.pool // 2
        padded = torch.nn.functional.pad(raw, (half, half))
        pooled = torch.stack([padded[:, j : j + policy.pool].sum(1) / policy.pool for j in range(length - W)], 1)
        groups = heads // kv_heads
        scored.append(torch.stack([pooled[k * groups : (k + 1) * groups].mean(0) for k in range(kv_heads)]))
    assert policy.tokens is not None
    length = maps[0].shape[-1]
    budgets = shares.proportional((policy.tokens - W) * len(maps), weights, [length - W] * len(maps))
    return [
        [
            sorted(sorted(range(length - W), key=lambda j: -float(score[k, j]))[:budget])
            + list(range(length - W, length))
            for k in range(kv_heads)
        ]
        for score, budget in zip(scored, budgets, strict=True)
    ]


@pytest.mark.parametrize("policy", [POLICIES[0], CAKE(tokens=20, window=W, tau=(0.5, 2.0), gamma=5.0, pool=3)])
def test_the_cascade_keeps_what_the_paper_keeps_at_once(policy: CAKE) -> None:
    lm, ids = tiny(num_hidden_layers=5), torch.tensor([numbers(70)])
    _, cache = read(lm, policy, ids)
    wanted = naive_kept(attentions(lm, ids), policy, kv_heads=2)
    assert [cache.kept(layer)[0].tolist() for layer in range(5)] == wanted
    assert sum(cache.allocation()) == policy.tokens * 5
    assert len(set(cache.allocation())) > 1  # layers differ, or the test shows nothing


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("chunk", [1, 5, 30])
def test_reading_on_equals_attention_to_the_kept_tokens_alone(
    policy: CAKE, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, prompt = tiny(), torch.tensor([numbers(60)])
    more = torch.tensor([numbers(30, seed=1)])[:, :chunk]
    _, cache = read(lm, policy, prompt)
    kept: list[Tensor] = []

    def noted(layer: int) -> Tensor | None:  # what is there when the layer attends: earlier ones may cut it before
        kept.append(cache.kept(layer)[0, :, :-chunk].clone())
        return None

    monkeypatch.setattr(cache, "seen_by", noted)
    with torch.no_grad(), attach(lm.model, policy):
        found = lm.model(more, past_key_values=cache).logits
    expected = _masked(lm, torch.cat([prompt, more], 1), kept, 60)
    assert torch.allclose(found, expected[:, 60:], atol=1e-10)


def _masked(lm: Any, ids: Tensor, kept: list[Tensor], prompt: int) -> Tensor:
    """The whole text at once, where tokens behind ``prompt`` see of it only what each layer and head kept."""
    total = ids.shape[1]

    def masked(module: Any, query: Tensor, key: Tensor, value: Tensor, _: Any, **options: Any) -> tuple[Tensor, None]:
        seen = torch.ones(total, total, dtype=torch.bool).tril().expand(key.shape[1], total, total).clone()
        for head in range(key.shape[1]):
            hidden = torch.ones(prompt, dtype=torch.bool)
            hidden[kept[module.layer_idx][head].long()] = False
            seen[head, prompt:, :prompt] &= ~hidden
        groups = query.shape[1] // key.shape[1]
        keys, values = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = query @ keys.transpose(-1, -2) * options["scaling"]
        weights = scores.masked_fill(~seen.repeat_interleave(groups, 0), -torch.inf).softmax(-1)
        return (weights @ values).transpose(1, 2), None

    AttentionInterface.register("masked_reference", masked)
    lm.model.set_attn_implementation("masked_reference")
    with torch.no_grad():
        logits: Tensor = lm.model(ids, use_cache=False).logits
    lm.model.set_attn_implementation("sdpa")
    return logits


def test_with_room_for_everything_it_is_the_model_itself() -> None:
    lm, ids = tiny(), torch.tensor([numbers(50)])
    with torch.no_grad():
        wanted = lm.model(ids).logits
        text = lm.model.generate(ids, max_new_tokens=12, do_sample=False)
        with attach(lm.model, CAKE(tokens=100, window=W)):
            assert torch.equal(lm.model.generate(ids, max_new_tokens=12, do_sample=False), text)
    for chunk in (1, 7, 50):
        logits, cache = read(lm, CAKE(tokens=100, window=W), ids, chunk)
        assert torch.allclose(logits, wanted, atol=1e-12)
        assert cache.kept(1).tolist() == [[list(range(50))] * 2]


@settings(deadline=None, max_examples=20)
@given(
    st.integers(10, 40),
    st.integers(1, 60),
    st.integers(6, 60),
    st.sampled_from(["cake", "uniform", "pyramid"]),
    st.sampled_from(["cake", "snapkv", "recent", "random"]),
    st.integers(1, 2),
)
def test_any_budget_any_length_any_chunk_any_batch(
    tokens: int, length: int, chunk: int, allocation: Any, indicator: Any, rows: int
) -> None:
    lm = tiny()
    ids = torch.tensor([numbers(length + 4, seed) for seed in range(rows)])
    policy = CAKE(tokens=tokens, window=W, allocation=allocation, indicator=indicator)
    _, cache = read(lm, policy, ids[:, :length], chunk)
    for step in range(5):
        assert sum(cache.allocation()) <= tokens * 3
        assert cache.get_seq_length() == length + step
        for layer in range(3):
            kept = cache.kept(layer)
            assert bool((kept[..., 1:] > kept[..., :-1]).all())  # in order, none twice
            newest = min(W, length + step)
            assert kept[..., -newest:].tolist() == [[list(range(length + step - newest, length + step))] * 2] * rows
        if step < 4:
            with torch.no_grad(), attach(lm.model, policy):
                lm.model(ids[:, length + step : length + step + 1], past_key_values=cache)


def test_decoding_lets_one_token_of_each_head_go() -> None:
    lm, ids = tiny(), torch.tensor([numbers(61)])
    policy = CAKE(tokens=20, window=W, every=1)
    _, cache = read(lm, policy, ids[:, :60])
    before, sizes = [cache.kept(layer).clone() for layer in range(3)], cache.allocation()
    with torch.no_grad(), attach(lm.model, policy):
        lm.model(ids[:, 60:], past_key_values=cache)
    assert cache.allocation() == sizes
    for layer in range(3):
        for head in range(2):
            old, new = set(before[layer][0, head].tolist()), set(cache.kept(layer)[0, head].tolist())
            assert new - old == {60} and len(old - new) == 1


def test_several_may_go_at_once_and_the_layer_grows_again() -> None:
    lm, ids = tiny(), torch.tensor([numbers(72)])
    policy = snapkv(tokens=20, window=W, every=4)
    _, cache = read(lm, policy, ids[:, :60])
    sizes = []
    for place in range(60, 72):
        with torch.no_grad(), attach(lm.model, policy):
            lm.model(ids[:, place : place + 1], past_key_values=cache)
        sizes.append(cache.allocation()[0])
    assert sizes == [17, 18, 19, 20] * 3


def test_padding_changes_nothing() -> None:
    """A row of a padded batch reads, keeps and says what it does alone."""
    lm = tiny()
    short, long = numbers(35, 1), numbers(50, 2)
    ids = torch.tensor([[0] * 15 + short, long])
    mask = torch.tensor([[0] * 15 + [1] * 35, [1] * 50])
    policy = snapkv(tokens=24, window=W)
    with torch.no_grad(), attach(lm.model, policy) as attached:
        text = lm.model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=0)
        together = attached.cache
        alone = lm.model.generate(
            torch.tensor([short]), attention_mask=mask[:1, 15:], max_new_tokens=6, do_sample=False, pad_token_id=0
        )
    assert text[0, 50:].tolist() == alone[0, 35:].tolist()
    for layer in range(3):
        assert together.kept(layer)[0].tolist() == attached.cache.kept(layer)[0].tolist()


def test_bytes_are_held_at_every_moment_and_really_freed() -> None:
    """30 layers: never more than the budget and one whole layer, counted from live storages."""
    lm = tiny(dtype=torch.float32, num_hidden_layers=30, max_position_embeddings=1200)
    ids = torch.tensor([numbers(1024)])
    whole = 30 * 1024 * 2 * 2 * 16 * 4
    policy = CAKE("480KiB", window=W)
    _, cache = read(lm, policy, ids)
    one_layer = 1024 * (2 * 2 * 16 * 4 + 2 * (4 + 4))
    assert cache.nbytes <= 480 * 1024
    assert cache.peak_nbytes <= 480 * 1024 + one_layer < 0.2 * whole
    gc.collect()
    found = {
        part.untyped_storage().data_ptr(): part.untyped_storage().nbytes()
        for part in gc.get_objects()
        if isinstance(part, Tensor) and part.dim() == 4 and part.shape[-1] == 16 and part.shape[1] == 2
    }
    assert sum(found.values()) <= 480 * 1024  # nobody else holds on to keys and values


def test_named_policies_are_what_their_papers_say() -> None:
    lm, ids = tiny(num_hidden_layers=4), torch.tensor([numbers(90)])
    _, stream = read(lm, streaming_llm(tokens=24, window=W, sinks=4), ids)
    assert stream.kept(2).tolist() == [[[0, 1, 2, 3, *range(70, 90)]] * 2]
    _, snap = read(lm, snapkv(tokens=24, window=W), ids)
    assert snap.allocation() == [24] * 4
    _, steps = read(lm, pyramidkv(tokens=24, window=W), ids)
    assert steps.allocation() == sorted(steps.allocation(), reverse=True) and sum(steps.allocation()) == 96
    assert steps.allocation()[0] > steps.allocation()[-1]
    _, chance = read(lm, random_eviction(tokens=24, window=W, seed=1), ids)
    _, again = read(lm, random_eviction(tokens=24, window=W, seed=1), ids)
    _, other = read(lm, random_eviction(tokens=24, window=W, seed=2), ids)
    assert torch.equal(chance.kept(0), again.kept(0)) and not torch.equal(chance.kept(0), other.kept(0))


def test_beams_and_selected_rows_take_their_tokens_along() -> None:
    lm, policy = tiny(), CAKE(tokens=20, window=W)
    ids = torch.tensor([numbers(40, 1), numbers(40, 2)])
    _, cache = read(lm, policy, ids)
    _, alone = read(lm, policy, ids[1:])
    cache.reorder_cache(torch.tensor([1, 0]))
    before = cache.kept(0)[0].clone()
    cache.batch_select_indices(torch.tensor([0]))
    assert cache.kept(0)[0].tolist() == before.tolist()
    assert cache.layers[0].keys.shape[0] == alone.layers[0].keys.shape[0] == 1
    with torch.no_grad(), attach(lm.model, policy):
        found = lm.model.generate(ids, num_beams=3, max_new_tokens=5, do_sample=False)
    assert found.shape == (2, 45)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"budget": 10, "tokens": 3},
        {"budget": "lots"},
        {"tokens": 32},
        {"tokens": 99, "pool": 4},
        {"tokens": 99, "window": 0},
        {"tokens": 99, "tau": (0.0, 1.0)},
        {"tokens": 99, "gamma": -1.0},
    ],
)
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        CAKE(**options)


def test_a_budget_under_the_window_says_what_is_needed() -> None:
    with pytest.raises(BudgetError, match=r"give at least .* KiB"):
        read(tiny(), CAKE("1KiB"), torch.tensor([numbers(40)]))


def test_what_was_evicted_cannot_come_back() -> None:
    _, cache = read(tiny(), CAKE(tokens=20, window=W), torch.tensor([numbers(40)]))
    with pytest.raises(InvalidInput, match="cannot go back"):
        cache.crop(-3)


@pytest.mark.parametrize("bits", [8, 4])
def test_rounded_tokens_are_read_as_their_rounding_says(bits: int) -> None:
    """The cache of a text, rounded afterwards by hand, against one that was rounded as it was read."""
    lm, ids, more = tiny(), torch.tensor([numbers(60)]), torch.tensor([numbers(5, seed=1)])
    _, plain = read(lm, CAKE(tokens=24, window=W), ids)
    _, cache = read(lm, CAKE(tokens=24, window=W, bits=bits), ids)
    for layer in range(3):
        assert torch.equal(cache.kept(layer), plain.kept(layer))
        held = plain.layers[layer]
        held.keys, held.values = (dequantize(quantize(part, bits)).to(part.dtype) for part in (held.keys, held.values))
    policy = CAKE(tokens=10**6, window=W)
    object.__setattr__(plain, "policy", policy)
    with torch.no_grad(), attach(lm.model, policy):
        found = lm.model(more, past_key_values=cache).logits
        wanted = lm.model(more, past_key_values=plain).logits
    assert torch.allclose(found[:, :1], wanted[:, :1], atol=1e-9)
    exact = read(lm, CAKE(tokens=10**6, window=W), torch.cat([ids, more], 1))[0][:, 60:61]
    assert not torch.allclose(found[:, :1], exact, atol=1e-4)


@settings(deadline=None, max_examples=10)
@given(st.integers(40, 120), st.integers(24_000, 60_000), st.sampled_from([2, 4, 8]), st.sampled_from([10**9, 30]))
def test_rounded_tokens_are_more_within_the_same_budget(length: int, budget: int, bits: int, chunk: int) -> None:
    lm, ids = tiny(dtype=torch.float32), torch.tensor([numbers(length)])
    _, exact = read(lm, CAKE(budget, window=W), ids, chunk)
    _, cache = read(lm, CAKE(budget, window=W, bits=bits), ids, chunk)
    with torch.no_grad(), attach(lm.model, cache.policy):
        lm.model(ids[:, :1], past_key_values=cache)
    assert cache.nbytes <= budget
    assert sum(cache.allocation()) >= sum(exact.allocation())
    assert all(layer.keys.numel() == 0 for layer in cache.layers)  # no exact copy stays behind


def test_rounded_beams_follow_their_tokens() -> None:
    lm, ids = tiny(), torch.tensor([numbers(50)])
    with torch.no_grad(), attach(lm.model, CAKE(tokens=30, window=W, bits=8)) as attached:
        found = lm.model.generate(ids, num_beams=3, max_new_tokens=8, do_sample=False, pad_token_id=0)
    assert found.shape[1] > 50 and attached.cache.layers[0].rounded[0].codes.shape[0] == 3


def test_bits_that_fill_no_byte_are_refused() -> None:
    with pytest.raises(InvalidInput, match="bits=3"):
        CAKE(tokens=64, bits=3)
