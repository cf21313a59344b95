"""The probe for the memory layer: recall as counted one question at a time, and a layer that finds most is taken."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lamina.activation.retrieval_memory.probing import best_layer, recalls
from lamina.activation.side_retrieval import LongMem
from lamina.errors import InvalidInput

VOCABULARY, LAYERS, HEADS, KV_HEADS, DIM = 23, 4, 4, 2, 8
CHUNK, TOPK = 2, 6


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HEADS * DIM,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).double().eval()


@torch.no_grad()
def test_recall_is_what_one_counts_question_by_question(model: LlamaForCausalLM) -> None:
    text, asked = torch.randint(VOCABULARY, (3, 8)), torch.randint(VOCABULARY, (1, 9))
    measured = recalls(model, text, asked, [1, 3], chunk=CHUNK, topk=TOPK)
    for layer, share in zip((1, 3), measured, strict=True):
        block = model.model.layers[layer]

        def projected(ids: torch.Tensor, name: str, block=block, layer=layer) -> torch.Tensor:
            states = model(ids, output_hidden_states=True).hidden_states[layer]
            return getattr(block.self_attn, name)(block.input_layernorm(states)).view(*ids.shape, -1, DIM)

        keys, queries, hits = projected(text, "k_proj"), projected(asked, "q_proj")[0], []
        for n, token in enumerate(asked[0].tolist()):
            for head in range(HEADS):
                chunks = [(s, t) for s in range(3) for t in range(0, 8, CHUNK)]
                score = {(s, t): float(queries[n, head] @ keys[s, t : t + CHUNK, head // 2].mean(0)) for s, t in chunks}
                found = sorted(chunks, key=lambda c, score=score: -score[c])[: TOPK // CHUNK]
                places = [(s, t + i) for s, t in found for i in range(CHUNK)]
                hits.append(any(t > 0 and int(text[s, t - 1]) == token for s, t in places))
        assert share == sum(hits) / len(hits)
        assert 0 < share < 1


@pytest.mark.parametrize("seeing", [2, 3])
def test_the_layer_whose_keys_tell_the_token_before_is_taken(model: LlamaForCausalLM, seeing: int) -> None:
    """Written by hand: one layer is given what each token is and what the one before it was, the others nothing."""
    width = HEADS * DIM
    with torch.no_grad():
        for layer in model.model.layers:
            for weight in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
                weight.zero_()  # states stay embeddings
            layer.self_attn.q_proj.weight.zero_()
        assert best_layer(model, chunk=CHUNK, topk=TOPK, segment=64) == 3  # none finds more: the nearest to 3/4
    attention = model.model.layers[seeing].self_attn

    with torch.no_grad():
        query = torch.linalg.qr(torch.randn(width, width, dtype=torch.float64))[0][: KV_HEADS * DIM]
        grouped = query.view(KV_HEADS, 1, DIM, width).expand(-1, HEADS // KV_HEADS, -1, -1).reshape(width, width)
        attention.q_proj.weight.copy_(grouped)
    attention.k_proj.register_forward_hook(
        lambda _, given, made: torch.nn.functional.linear(given[0].roll(1, 1), query)
    )
    assert best_layer(model, chunk=CHUNK, topk=TOPK, segment=64) == seeing
    memory = LongMem(model, "auto", chunk=CHUNK, topk=TOPK, capacity=40, segment=64)
    assert memory.memory_layer == seeing
    copied = memory.side.joint.q_proj.weight
    assert torch.equal(copied, attention.q_proj.weight)


def test_another_word_than_auto_is_refused(model: LlamaForCausalLM) -> None:
    with pytest.raises(InvalidInput, match="memory_layer='best'"):
        LongMem(model, "best", chunk=CHUNK, topk=TOPK, capacity=40, segment=64)  # type: ignore[arg-type]
