"""Attaching a policy to a model, and that nothing of it stays behind."""

from __future__ import annotations

import pytest
import torch
from kv_models import numbers, smollm2, tiny
from transformers import DynamicCache, MistralConfig, MistralForCausalLM

from lamina.activation.attach import attach
from lamina.activation.cascade_eviction import CAKE
from lamina.errors import InvalidInput

POLICY = CAKE(tokens=20, window=8)


def test_the_model_is_itself_again_after_the_block() -> None:
    lm, ids = tiny(), torch.tensor([numbers(40)])
    with torch.no_grad():
        before = lm.model(ids).logits
        with pytest.raises(RuntimeError, match="within"), attach(lm.model, POLICY):
            lm.model(ids)
            raise RuntimeError("within")
        assert "forward" not in vars(lm.model)
        assert lm.model.config._attn_implementation == "sdpa"
        assert isinstance(lm.model(ids, use_cache=True).past_key_values, DynamicCache)
        assert torch.equal(lm.model(ids).logits, before)


def test_without_a_cache_the_model_reads_as_ever_padding_included() -> None:
    lm = tiny()
    ids = torch.tensor([[0] * 10 + numbers(20), numbers(30, 1)])
    mask = torch.tensor([[0] * 10 + [1] * 20, [1] * 30])
    with torch.no_grad():
        wanted = lm.model(ids, attention_mask=mask, use_cache=False).logits
        with attach(lm.model, POLICY) as attached:
            found = lm.model(ids, attention_mask=mask, use_cache=False).logits
    assert torch.allclose(found[mask.bool()], wanted[mask.bool()], atol=1e-12)
    assert attached.cache is None


def test_each_text_begins_with_an_empty_cache() -> None:
    lm = tiny()
    with torch.no_grad(), attach(lm.model, POLICY) as attached:
        first = lm.model(torch.tensor([numbers(30)]), use_cache=True).past_key_values
        second = lm.model(torch.tensor([numbers(12)]), use_cache=True).past_key_values
    assert first is not second and attached.cache is second
    assert (first.get_seq_length(), second.get_seq_length()) == (30, 12)


def test_what_does_not_fit_is_refused() -> None:
    lm = tiny()
    sliding = MistralConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=16,
    )
    with torch.no_grad(), attach(lm.model, POLICY):
        with pytest.raises(InvalidInput, match="attached to it already"), attach(lm.model, POLICY):
            pass
        filled = DynamicCache(config=lm.model.config)
        filled.update(torch.zeros(1, 2, 3, 16), torch.zeros(1, 2, 3, 16), 0)
        with pytest.raises(InvalidInput, match="holds 3 tokens of no policy"):
            lm.model(torch.tensor([numbers(3)]), past_key_values=filled)
        with pytest.raises(InvalidInput, match="give one of \\(batch, tokens\\)"):
            lm.model(torch.tensor([numbers(3)]), attention_mask=torch.zeros(1, 1, 3, 3))
    with pytest.raises(InvalidInput, match="Sliding"), attach(MistralForCausalLM(sliding), POLICY):
        pass


def test_a_real_model_keeps_its_wits_with_half_of_its_tokens() -> None:
    lm = smollm2()
    ids = torch.tensor([lm.encode("The capital of France is Paris. " * 12 + "The capital of France is")])
    with torch.no_grad(), attach(lm.model, CAKE(tokens=ids.shape[1] // 2)) as attached:
        text = lm.model.generate(ids, max_new_tokens=1, do_sample=False)
    assert lm.tokenizer.decode(text[0, -1:].tolist()).strip() == "Paris"
    assert sum(attached.cache.allocation()) <= ids.shape[1] // 2 * 30
