"""The compressor: branches equal merged weights and leave nothing behind; padding changes nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lamina.activation.documents.compressor import Compressor, LowRank, padded
from lamina.bench.experiments.documents.document_language import reader
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM

DOCUMENTS = [[3, 50, 41, 7], [9, 2, 60, 61, 62, 8, 30, 31], [5]]


@pytest.fixture
def lm() -> CausalLM:
    return reader(0, width=32, layers=2)


def _trained(module: nn.Module) -> None:
    """Any weights but the initial ones, under which the branches do nothing."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def _merged(lm: CausalLM, branch: LowRank) -> Any:
    """A copy of the model with ``2 up down`` added to every linear weight."""
    model = copy.deepcopy(lm.model)
    linears = [layer for layer in model.base_model.modules() if isinstance(layer, nn.Linear)]
    for layer, down, up in zip(linears, branch.down, branch.up, strict=True):
        layer.weight.data += 2 * up.data @ down.data
    return model


def test_the_branch_equals_merged_weights_in_float64(lm: CausalLM) -> None:
    lm.model.double()
    branch = LowRank(lm.model.base_model, 3).double()
    _trained(branch)
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    with torch.no_grad(), branch.on():
        found = lm.model.base_model(ids).last_hidden_state
    with torch.no_grad():
        wanted = _merged(lm, branch).base_model(ids).last_hidden_state
        assert not torch.allclose(wanted, lm.model.base_model(ids).last_hidden_state, atol=1e-2)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_outside_the_block_the_model_is_bit_for_bit_the_base_model_even_after_an_error(lm: CausalLM) -> None:
    branch = LowRank(lm.model.base_model, 3)
    _trained(branch)
    ids, names = torch.tensor([[1, 2, 3]]), set(lm.model.state_dict())
    with torch.no_grad():
        before = lm.model(ids).logits
        with pytest.raises(IndexError), branch.on():
            lm.model(torch.tensor([[10**6]]))
        assert torch.equal(lm.model(ids).logits, before)
    assert set(lm.model.state_dict()) == names


def test_a_memory_is_the_last_states_of_tokens_behind_the_document_alone(lm: CausalLM) -> None:
    compressor = Compressor(lm, tokens=3, rank=4, key_dim=5)
    _trained(compressor)
    model = _merged(lm, compressor.branch)
    with torch.no_grad():
        found = compressor(DOCUMENTS)
        for n, document in enumerate(DOCUMENTS):
            embedded = model.get_input_embeddings()(torch.tensor(document))
            tail = torch.cat([compressor.memory_tokens, compressor.query_token])
            states = model.base_model(inputs_embeds=torch.cat([embedded, tail])[None]).last_hidden_state[0]
            memory = states[len(document) : -1] @ compressor.out.weight.T
            torch.testing.assert_close(found.memories[n], memory, rtol=1e-4, atol=1e-5)
            key = F.normalize(compressor.key.weight @ memory.mean(0), dim=0)
            torch.testing.assert_close(found.keys[n], key, rtol=1e-4, atol=1e-5)
            query = F.normalize(compressor.query.weight @ states[-1], dim=0)
            torch.testing.assert_close(found.queries[n], query, rtol=1e-4, atol=1e-5)


def test_a_question_is_encoded_by_one_token_behind_it(lm: CausalLM) -> None:
    compressor = Compressor(lm, tokens=2, rank=4, key_dim=5)
    _trained(compressor)
    model = _merged(lm, compressor.branch)
    with torch.no_grad():
        embedded = torch.cat([model.get_input_embeddings()(torch.tensor(DOCUMENTS[0])), compressor.query_token])
        state = model.base_model(inputs_embeds=embedded[None]).last_hidden_state[0, -1]
        wanted = F.normalize(compressor.query.weight @ state, dim=0)
        torch.testing.assert_close(compressor.ask(DOCUMENTS).queries[0], wanted, rtol=1e-4, atol=1e-5)


def test_memories_start_as_large_as_the_models_embeddings(lm: CausalLM) -> None:
    embeddings: Any = lm.model.get_input_embeddings()
    embeddings.weight.data *= 7
    compressor = Compressor(lm, tokens=4, rank=4, key_dim=5)
    size = embeddings.weight.pow(2).mean().sqrt()
    with torch.no_grad():
        assert 0.5 < float(compressor(DOCUMENTS).memories.pow(2).mean().sqrt() / size) < 2


def test_it_counts_only_its_own_parameters_and_repeats_from_its_seed(lm: CausalLM) -> None:
    one, two, other = (Compressor(lm, tokens=2, rank=4, key_dim=5, seed=seed) for seed in (0, 0, 1))
    theirs = {id(parameter) for parameter in lm.model.parameters()}
    assert not theirs & {id(parameter) for parameter in one.parameters()}
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.memory_tokens, other.memory_tokens)


def test_bad_sizes_and_empty_texts_are_refused(lm: CausalLM) -> None:
    with pytest.raises(InvalidInput, match=r"tokens=0 must be a positive number"):
        Compressor(lm, tokens=0, rank=4, key_dim=5)
    with pytest.raises(InvalidInput, match=r"Embedding has no torch.nn.Linear"):
        LowRank(nn.Embedding(2, 2), 1)
    for rows in ([], [[1], []]):
        with pytest.raises(InvalidInput, match="must not be empty"):
            padded(rows)
