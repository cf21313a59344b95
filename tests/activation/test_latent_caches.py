"""Caches of latent attention (MLA): latents of neighbouring layers factored, rotated keys as they were."""

from __future__ import annotations

import pytest
import torch
from kv_models import numbers, smollm2
from torch import Tensor
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM, DynamicCache

from lamina.activation.attach import attach
from lamina.activation.cascade_eviction import CAKE
from lamina.activation.compressed_cube import CompressedCube
from lamina.activation.cross_layer_svd import XKV, XKVCache
from lamina.activation.evicted_bases import EvictedBases
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM

LATENT, TURNED, LAYERS = 32, 8, 4
SHAPE = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": None, "kv_lora_rank": LATENT,
    "qk_nope_head_dim": 16, "qk_rope_head_dim": TURNED, "v_head_dim": 16, "max_position_embeddings": 256,
    "first_k_dense_replace": LAYERS, "initializer_range": 0.3, "eos_token_id": 96,
}  # fmt: skip


def latent(version: int = 3, rank: int | None = None) -> CausalLM:
    """Of random weights in float64; ``rank`` of its latents, if not all."""
    torch.manual_seed(0)
    kind, config = {
        2: (DeepseekV2ForCausalLM, DeepseekV2Config),
        3: (DeepseekV3ForCausalLM, DeepseekV3Config),
    }[version]
    model = kind(config(**SHAPE)).double().eval()
    for layer in model.model.layers if rank else ():
        weight = layer.self_attn.kv_a_proj_with_mqa.weight.data
        left, sizes, right = torch.linalg.svd(weight[:LATENT], full_matrices=False)
        sizes[rank:] = 0
        weight[:LATENT] = left @ (sizes[:, None] * right)
    return CausalLM(model, smollm2().tokenizer, "latent")


def read(lm: CausalLM, policy: XKV, parts: list[Tensor]) -> tuple[Tensor, XKVCache]:
    with torch.no_grad(), attach(lm.model, policy):
        cache, logits = None, []
        for part in parts:
            answer = lm.model(part, past_key_values=cache, use_cache=True)
            cache = answer.past_key_values
            logits.append(answer.logits)
    assert isinstance(cache, XKVCache)
    return torch.cat(logits, 1), cache


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("sizes", [[120], [60, 40, 20], [90, *[1] * 30]])
@pytest.mark.parametrize("rebuilt", [0, 2**20])
def test_latents_of_low_rank_are_read_exactly(version: int, sizes: list[int], rebuilt: int) -> None:
    """At once, in chunks, and token by token with a tail that is folded in."""
    lm, ids = latent(version, rank=6), torch.tensor([numbers(120)])
    policy = XKV(rank_k=12, rank_v=1, group=2, tail=8, rebuilt=rebuilt)
    found, cache = read(lm, policy, list(ids.split(sizes, 1)))
    with torch.no_grad():
        wanted = lm.model(ids).logits
    assert torch.allclose(found, wanted, atol=1e-4)  # its norms, before latents are cached, are of float32
    assert cache.factors[1][0].count > 60 and len(cache.factors[1]) == 1
    assert max(layer.keys.shape[2] for layer in cache.layers) <= 4 + 8


def test_it_reads_on_as_behind_the_best_latents_of_that_rank() -> None:
    """Against singular value decompositions by torch, put into an ordinary cache of transformers."""
    lm, ids, more = latent(), torch.tensor([numbers(100)]), torch.tensor([numbers(5, seed=1)])
    _, cache = read(lm, XKV(rank_k=20, rank_v=1, group=2, sinks=0), [ids])
    plain = DynamicCache(config=lm.model.config)
    with torch.no_grad():
        lm.model(ids, past_key_values=plain)
    naive = DynamicCache(config=lm.model.config)
    for first in range(0, LAYERS, 2):
        pair = [plain.layers[first + n] for n in range(2)]
        left, sizes, right = torch.linalg.svd(torch.cat([one.keys[0, 0] for one in pair], 1))
        best = left[:, :20] @ torch.diag(sizes[:20]) @ right[:20]
        assert torch.allclose(cache.factors[first // 2][0].dense()[0], best, atol=1e-9)
        for n, part in enumerate(best.split(LATENT, 1)):
            naive.update(part[None, None], pair[n].values, first + n)
    with torch.no_grad(), attach(lm.model, cache.policy):
        found = torch.cat([lm.model(one, past_key_values=cache).logits for one in more.split([1, 1, 3], 1)], 1)
    with torch.no_grad():
        wanted = lm.model(more, past_key_values=naive).logits
        exact = lm.model(more, past_key_values=plain).logits
    assert torch.allclose(found, wanted, atol=1e-6)
    assert (found - exact).abs().max() > 1e-3  # or the rank was enough, and the test shows nothing


@pytest.mark.parametrize("bits", [None, 8])
def test_the_ratio_holds_for_latents_and_rotated_keys_together(bits: int | None) -> None:
    lm, ids = latent(), torch.tensor([numbers(200)])
    _, cache = read(lm, XKV(ratio=2.0, group=2, bits=bits), [ids])
    whole = LAYERS * 200 * (LATENT + TURNED) * 8
    beside = 4 * (LAYERS * 4 + LAYERS // 2 * 196)  # places
    assert cache.nbytes - beside <= whole / 2 + LAYERS * 4 * (LATENT + TURNED) * 8
    assert cache.nbytes > 0.35 * whole
    with pytest.raises(InvalidInput, match=r"ratio=6.*give less than 5"):
        read(lm, XKV(ratio=6.0, group=2), [ids])


def test_padding_changes_nothing() -> None:
    lm = latent(rank=6)
    short, long = numbers(60, 1), numbers(90, 2)
    ids, mask = torch.tensor([[0] * 30 + short, long]), torch.tensor([[0] * 30 + [1] * 60, [1] * 90])
    with torch.no_grad():
        plain = [lm.model.generate(torch.tensor([row]), attention_mask=torch.ones(1, len(row)), max_new_tokens=12,
                 do_sample=False, pad_token_id=0)[0, len(row):] for row in (short, long)]  # fmt: skip
        with attach(lm.model, XKV(rank_k=12, rank_v=1, group=2, tail=4)) as attached:
            found = lm.model.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert attached.cache.factors
    for row, wanted in zip(found, plain, strict=True):
        assert row[90 : 90 + len(wanted)].tolist() == wanted.tolist()


def test_a_stored_cache_goes_on() -> None:
    lm, ids, more = latent(), numbers(90), torch.tensor([numbers(6, seed=1)])
    cube = CompressedCube.build(lm, ids, XKV(ratio=2.0, group=2))
    again = CompressedCube.from_payload(cube.to_payload(), lm)
    with torch.no_grad(), cube.attached(lm) as cache:
        wanted = lm.model(more, past_key_values=cache).logits
    with torch.no_grad(), again.attached(lm) as cache:
        assert torch.equal(lm.model(more, past_key_values=cache).logits, wanted)


def test_evicting_of_latents_is_refused() -> None:
    with pytest.raises(InvalidInput, match="give XKV alone"):
        read(latent(), EvictedBases(CAKE(tokens=40), XKV(ratio=2.0)), [torch.tensor([numbers(50)])])
