"""Heads read off the weights: they attend and write as the model itself does, and as brute-force matrices say."""

from __future__ import annotations

import channel_models
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoConfig, GPTNeoForCausalLM

from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.channels.batches import attentions
from lamina.parameter.head_channels import Component, Heads, HeadSVD


@pytest.fixture(params=channel_models.NAMES)
def lm(request: pytest.FixtureRequest, smollm2: CausalLM) -> CausalLM:
    return channel_models.noise(request.param, smollm2.tokenizer)


def _normed(lm: CausalLM, state: torch.Tensor) -> torch.Tensor:
    """The residual as the norm leaves it before its gain, from the definition."""
    if lm.name == "gpt2":
        state = state - state.mean(-1, keepdim=True)
        return state / (state.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return state / (state.square().mean(-1, keepdim=True) + lm.model.config.rms_norm_eps).sqrt()


def test_the_factors_attend_and_write_as_the_model_does(lm: CausalLM) -> None:
    heads, ids = Heads(lm), torch.tensor([lm.encode("A head reads the residual and writes to it.")])
    written: list[torch.Tensor] = []
    hooks = [heads.writer(layer).register_forward_hook(lambda _m, _i, o: written.append(o)) for layer in range(3)]
    with torch.no_grad(), attentions(lm):
        out = lm.model(ids, output_attentions=True, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    assert lm.model.config._attn_implementation == "sdpa"
    places = torch.arange(ids.shape[1])
    for layer in range(heads.layers):
        x, whole = _normed(lm, out.hidden_states[layer][0]), torch.zeros(ids.shape[1], heads.width).double()
        for head in range(heads.heads):
            factors = heads.factors(layer, head)
            queries, keys = x @ factors.query.T + factors.query_bias, x @ factors.key.T + factors.key_bias
            if heads.rotary is not None:
                queries, keys = heads.rotary.rotate(queries, places), heads.rotary.rotate(keys, places)
            scores = (queries @ keys.T / heads.head_dim**0.5).masked_fill(places[None] > places[:, None], -torch.inf)
            seen = scores.softmax(-1)
            torch.testing.assert_close(seen, out.attentions[layer][0, head], rtol=0, atol=1e-6)
            whole += seen @ (x @ factors.value.T + factors.value_bias) @ factors.output.T
        theirs = written[layer][0] - heads.writer(layer).bias
        if heads.centred:
            theirs = theirs - theirs.mean(-1, keepdim=True)
        torch.testing.assert_close(whole, theirs, rtol=0, atol=1e-6)


def test_components_are_the_singular_vectors_of_the_whole_matrix(lm: CausalLM) -> None:
    svd = HeadSVD(lm)
    for layer, head in [(0, 0), (1, 3), (2, 2)]:
        found, whole = svd.components(layer, head), svd.heads.factors(layer, head).ov
        strengths = torch.linalg.svdvals(whole)
        torch.testing.assert_close(found.s, strengths[:16], rtol=0, atol=1e-10)
        assert float(strengths[16:].abs().max()) < 1e-10
        torch.testing.assert_close(found.a.T @ found.s.diag() @ found.b, whole, rtol=0, atol=1e-10)
        torch.testing.assert_close(found.a @ found.a.T, torch.eye(16).double(), rtol=0, atol=1e-10)
        assert bool((found.a.gather(1, found.a.abs().argmax(1, keepdim=True)) > 0).all())
    assert svd.directions().shape == (3 * 4 * 16, 64)
    for index in (0, 17, 100, 191):
        assert svd.index(svd.name(index)) == index
        assert torch.equal(svd.direction(svd.name(index)), svd.directions()[index])
    assert svd.name(16 * 4 + 16 * 2 + 5) == Component(1, 2, 5)


def test_heads_are_views_of_the_model(lm: CausalLM) -> None:
    heads = Heads(lm)
    view = heads.output_slice(1, 2)
    assert view.untyped_storage().data_ptr() == heads.writer(1).weight.untyped_storage().data_ptr()
    with torch.no_grad():
        view.fill_(3)
    assert bool((heads.output_slice(1, 2) == 3).all()) and not bool((heads.output_slice(1, 1) == 3).any())


def test_what_cannot_be_read_is_refused_by_name(lm: CausalLM, smollm2: CausalLM) -> None:
    with pytest.raises(InvalidInput, match="layers 0-2 and heads 0-3"):
        HeadSVD(lm).components(3, 0)
    config = GPTNeoConfig(vocab_size=64, hidden_size=16, num_layers=1, num_heads=2, attention_types=[[["global"], 1]])
    with pytest.raises(InvalidInput, match=r"GPTNeo.*LlamaAttention"):
        Heads(CausalLM(GPTNeoForCausalLM(config), smollm2.tokenizer, "neo"))
    lm.model.config.num_key_value_heads = 3
    with pytest.raises(InvalidInput, match="4 query heads do not divide among 3"):
        Heads(lm)


def test_quantised_weights_and_norms_without_a_gain_are_refused(smollm2: CausalLM) -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2))
    lm = CausalLM(model, smollm2.tokenizer, "gpt2")
    model.transformer.h[0].attn.c_proj.weight = torch.nn.Parameter(
        torch.zeros(16, 16, dtype=torch.int8), requires_grad=False
    )
    with pytest.raises(InvalidInput, match=r"W_O is \(16, 16\) of torch.int8.*quantised"):
        Heads(lm)
    model.config.quantization_config = {"bits": 4}
    with pytest.raises(InvalidInput, match="is quantised"):
        HeadSVD(lm)
    bare = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2))
    bare.transformer.h[0].ln_1 = torch.nn.LayerNorm(16, elementwise_affine=False)
    with pytest.raises(InvalidInput, match="has no gain"):
        Heads(CausalLM(bare, smollm2.tokenizer, "bare"))
