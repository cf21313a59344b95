"""Memories added to a trained Llama: nothing changes at first, then they learn and it does not."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from lamina.errors import InvalidInput
from lamina.nn.memory_beside import add_memories
from lamina.train.loop import parameter_groups, train
from lamina.train.optim.row_sparse import RowSparseAdamW

SMALL = {"num_keys": 16, "top_m": 8, "sparse_grad": True}


def _llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=50, num_key_value_heads=2, **sizes)).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # as it was drawn it says next to nothing, and it stays
    return model


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_it_says_what_it_said_and_then_learns_in_the_memories_alone(share: float) -> None:
    model = _llama()
    ids = torch.randint(0, 50, (3, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(ids).logits
    trained = {name: each.clone() for name, each in model.named_parameters()}
    memories = add_memories(model, share=share, **SMALL)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, before)
    assert len({id(memory.table) for memory in memories}) == (1 if share else 2)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".memory." in name)
    model.train()
    groups = [
        {**group, "params": kept}
        for group in parameter_groups(model, 1e-2)
        if (kept := [each for each in group["params"] if each.requires_grad])
    ]
    losses = train(groups, lambda _: model(ids, labels=ids).loss, steps=60, lr=1e-2, optimizer=RowSparseAdamW)
    assert losses[-1] < losses[0] - 1
    after = {name.replace("mlp.block.", "mlp."): each for name, each in model.named_parameters()}
    assert all(torch.equal(after[name], each) for name, each in trained.items())


def test_says_what_is_wrong() -> None:
    model = _llama()
    with pytest.raises(InvalidInput, match="balance"):
        add_memories(model, balance=0.1, **SMALL)
    with pytest.raises(InvalidInput, match="GPT2LMHeadModel"):
        add_memories(GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2)))
    add_memories(model, **SMALL)
    with pytest.raises(InvalidInput, match="without memories"):
        add_memories(model, **SMALL)
