"""The model in process: its identity follows what it computes, and nothing else."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lamina.errors import LLMError
from lamina.llm.causal import CausalLM

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return CausalLM.load()


def tiny(lm: CausalLM, seed: int = 0, **changes: object) -> CausalLM:
    torch.manual_seed(seed)
    settings = {"vocab_size": 49152, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    settings |= {"num_attention_heads": 2, "num_key_value_heads": 1, "eos_token_id": 2} | changes
    return CausalLM(LlamaForCausalLM(LlamaConfig(**settings)).eval(), lm.tokenizer, "tiny")


def test_equal_models_have_equal_fingerprints_wherever_they_come_from(lm: CausalLM) -> None:
    assert tiny(lm).fingerprint == tiny(lm).fingerprint
    assert lm.fingerprint == CausalLM(lm.model, lm.tokenizer, "elsewhere").fingerprint


def test_whatever_changes_the_numbers_changes_the_fingerprint(lm: CausalLM) -> None:
    one = tiny(lm)
    prints = [one.fingerprint, tiny(lm, seed=1).fingerprint]
    prints.append(tiny(lm, rope_parameters={"rope_type": "default", "rope_theta": 5e5}).fingerprint)
    prints.append(tiny(lm, attn_implementation="eager").fingerprint)
    one.overlay = "adapter"
    prints.append(one.fingerprint)
    half = tiny(lm)
    half.model.to(torch.bfloat16)
    prints.append(half.fingerprint)
    assert len({p.sha256 for p in prints}) == len(prints)


def test_one_weight_is_enough(lm: CausalLM) -> None:
    one, other = tiny(lm), tiny(lm)
    with torch.no_grad():
        other.model.model.layers[1].mlp.down_proj.weight[3, 4] += 1e-3
    assert one.fingerprint.weights != other.fingerprint.weights


def test_training_changes_the_fingerprint_and_reading_does_not(lm: CausalLM) -> None:
    one = tiny(lm)
    before = one.fingerprint.weights
    ids = torch.randint(0, 100, (1, 8))
    one.model(ids)
    assert one.fingerprint.weights == before
    optimizer = torch.optim.AdamW(one.model.parameters(), 1e-3)
    one.model(ids, labels=ids).loss.backward()
    optimizer.step()
    trained = one.fingerprint.weights
    assert trained != before
    one.overlay = "adapter"
    with torch.no_grad():  # as merging one does: what lies over the weights is named beside them
        one.model.lm_head.weight.mul_(2)
    assert one.fingerprint.weights == f"{trained}+adapter"
    with torch.no_grad():
        one.model.lm_head.weight.div_(2)
    one.overlay = ""
    assert one.fingerprint.weights == trained


def test_a_cache_continues_as_the_whole_prompt_would(lm: CausalLM) -> None:
    ids = lm.prompt([{"role": "user", "content": "Name three rivers of France."}])
    with torch.inference_mode():
        cache = lm.model(torch.tensor([ids[:-4]]), use_cache=True).past_key_values
    assert list(lm.steps(ids[-4:], 12, cache=cache)) == list(lm.steps(ids, 12))


def test_no_template_no_chat(lm: CausalLM) -> None:
    class Bare:
        chat_template = None

    with pytest.raises(LLMError, match="has no chat template"):
        CausalLM(lm.model, Bare(), "bare").prompt([{"role": "user", "content": "hi"}])  # type: ignore[arg-type]
