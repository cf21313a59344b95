"""Adapters add up exactly, belong to one model, are worn by one thread at a time and leave no trace."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parameter_models import cast, logits, random_lora, tiny

from lamina.cube.payload import TensorPayload
from lamina.errors import FingerprintMismatch, InvalidInput, NotFound
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import Adapters, LoRA

pytestmark = pytest.mark.model


def add(adapters: Adapters, seed: int, **settings: object) -> str:
    return adapters.add(random_lora(adapters.lm, seed, **settings).to_payload(adapters.base))  # type: ignore[arg-type]


def rebuilt(lm: CausalLM, chosen: list[tuple[LoRA, float]]) -> CausalLM:
    """A second model whose weights are W + sum w (alpha / r) B A, added by plain loops over numpy."""
    model = copy.deepcopy(lm.model)
    for lora, weight in chosen:
        for name, (down, up) in lora.pairs.items():
            delta = up.detach().numpy() @ down.detach().numpy() * (weight * lora.alpha / down.shape[0])
            with torch.no_grad():
                model.model.get_submodule(name).weight += torch.from_numpy(delta)
    return CausalLM(model, lm.tokenizer, "rebuilt")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(-2, 2), min_size=1, max_size=3))
def test_several_adapters_are_the_sum_of_their_weighted_deltas(adapters: Adapters, weights: list[float]) -> None:
    loras = [random_lora(adapters.lm, seed, rank=seed + 2) for seed in range(len(weights))]
    names = [adapters.add(lora.to_payload(adapters.base)) for lora in loras]
    expected = logits(rebuilt(adapters.lm, list(zip(loras, weights, strict=True))))
    with adapters.using(names, weights):
        assert torch.allclose(logits(adapters.lm), expected, rtol=0, atol=1e-12)
    with adapters.merged(names, weights):
        assert torch.allclose(logits(adapters.lm), expected, rtol=0, atol=1e-12)


def test_an_adapter_changes_the_model_and_leaves_it_bit_for_bit(lm: CausalLM) -> None:
    before, keys, whole = logits(lm), list(lm.model.state_dict()), lm.fingerprint
    adapters = Adapters(lm)
    name = add(adapters, 1)
    for block in (adapters.using, adapters.merged):
        with block([name]):
            assert not torch.allclose(logits(lm), before, atol=1e-3)
        assert torch.equal(logits(lm), before)
        with pytest.raises(ZeroDivisionError), block([name]):
            _ = 1 / 0
        assert torch.equal(logits(lm), before)
    assert lm.fingerprint == whole and list(lm.model.state_dict()) == keys
    assert not any(module._forward_hooks for module in lm.model.modules())


def test_merging_puts_back_bits_that_subtraction_would_not(smollm2: CausalLM) -> None:
    lm = tiny(smollm2.tokenizer)
    cast(lm.model, torch.float32)
    adapters = Adapters(lm)
    lora = random_lora(lm, 4)
    name = adapters.add(lora.to_payload(adapters.base))
    originals = {key: tensor.clone() for key, tensor in lm.model.state_dict().items()}
    with adapters.merged([name]):
        merged = {key: tensor.clone() for key, tensor in lm.model.state_dict().items()}
    assert all(torch.equal(tensor, originals[key]) for key, tensor in lm.model.state_dict().items())
    down, up = lora.pairs["layers.0.mlp.down_proj"]
    subtracted = merged["model.layers.0.mlp.down_proj.weight"] - up @ down * lora.scale
    assert not torch.equal(subtracted, originals["model.layers.0.mlp.down_proj.weight"])


def test_only_the_modules_named_change(lm: CausalLM, adapters: Adapters) -> None:
    name = add(adapters, 1, targets=("q_proj",))
    assert {tensor.rpartition(".")[0] for tensor in adapters.to_payload(name).tensors} == {
        "",
        "layers.0.self_attn.q_proj",
        "layers.1.self_attn.q_proj",
    }
    before = {key: tensor.clone() for key, tensor in lm.model.state_dict().items()}
    with adapters.merged([name]):
        changed = [key for key, tensor in lm.model.state_dict().items() if not torch.equal(tensor, before[key])]
    assert changed == ["model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight"]


def test_a_cache_made_under_an_adapter_belongs_to_no_other_model(lm: CausalLM, adapters: Adapters) -> None:
    one, two = add(adapters, 1), add(adapters, 2)
    prints = [lm.fingerprint.sha256]
    blocks = [([one], None), ([two], None), ([one, two], None), ([one, two], [1.0, 0.5]), ([one], [0.5])]
    for names, weights in blocks:
        with adapters.using(names, weights):
            prints.append(lm.fingerprint.sha256)
    with adapters.merged([one]):
        prints.append(lm.fingerprint.sha256)
    assert len(set(prints)) == len(prints)
    with adapters.using([two, one], [0.5, 1.0]):  # the same in another order: same numbers, same identity
        assert lm.fingerprint.sha256 == prints[4]
    with adapters.using([]):
        assert lm.fingerprint.sha256 == prints[0]


def test_a_block_within_a_block_wears_its_own_and_brings_back_the_outer(lm: CausalLM, adapters: Adapters) -> None:
    one, two = add(adapters, 1), add(adapters, 2)
    before = logits(lm)
    with adapters.using([two]):
        second = logits(lm)
    with adapters.using([one]):
        first, outer = logits(lm), lm.overlay
        with adapters.using([two]):
            assert torch.equal(logits(lm), second)
        with adapters.using([]):
            assert torch.equal(logits(lm), before)
        assert torch.equal(logits(lm), first) and lm.overlay == outer
        with pytest.raises(InvalidInput, match="in use"):
            adapters.remove(one)
        with pytest.raises(InvalidInput, match="bare weights"), adapters.merged([two]):
            pass
        assert torch.equal(logits(lm), first)
    with adapters.merged([one]), pytest.raises(InvalidInput, match="was not put on"), adapters.using([two]):
        pass
    assert torch.equal(logits(lm), before)


def test_threads_with_different_adapters_get_their_own_results(lm: CausalLM, adapters: Adapters) -> None:
    wanted: dict[str, torch.Tensor] = {"": logits(lm)}
    names = ["", *(add(adapters, seed) for seed in (1, 2, 3))]
    for name in names[1:]:
        with adapters.using([name]):
            wanted[name] = logits(lm)
    wrong: list[str] = []

    def work(name: str) -> None:
        for _ in range(8):
            if not name:
                wrong.extend([name] * (not torch.equal(logits(lm), wanted[name])))
                continue
            with adapters.using([name]):
                first, second = logits(lm), logits(lm)
            wrong.extend([name] * (not torch.equal(first, wanted[name]) or not torch.equal(second, wanted[name])))

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and lm.overlay == ""


def test_an_adapter_survives_its_payload(lm: CausalLM, adapters: Adapters) -> None:
    payload = random_lora(lm, 3).to_payload(adapters.base)
    name = adapters.add(payload)
    assert adapters.add(payload) == name and adapters.names == [name]
    assert adapters.to_payload(name) == payload
    again = LoRA.from_payload(payload)
    assert (again.rank, again.alpha) == (3, 5.0) and again.to_payload(adapters.base).sha256 == payload.sha256
    adapters.remove(name)
    with pytest.raises(NotFound, match="not known"), adapters.using([name]):
        pass


def test_an_adapter_of_another_model_is_refused(smollm2: CausalLM, adapters: Adapters) -> None:
    other = tiny(smollm2.tokenizer, seed=1)
    with pytest.raises(FingerprintMismatch, match="weights differ"):
        adapters.add(random_lora(other, 1).to_payload(other.fingerprint))
    assert adapters.names == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers.0.self_attn.q_proj.lora_B": None}, "has only lora_A"),
        ({"alpha": None}, "scalar 'alpha'"),
        ({"alpha": torch.tensor(float("nan"), dtype=torch.float64)}, "must be finite"),
        ({"layers.0.self_attn.q_proj.lora_A": torch.zeros(3, 63, dtype=torch.float64)}, "do not fit a weight"),
        ({"layers.0.self_attn.q_proj.lora_A": torch.zeros(2, 64, dtype=torch.float64)}, "must be"),
        ({"layers.0.mlp.down_proj.lora_B": torch.full((64, 3), torch.inf, dtype=torch.float64)}, "not finite"),
        ({"layers.0.mlp.down_proj.bias": torch.zeros(3)}, "no part of an adapter"),
        ({"embed_tokens.lora_A": torch.zeros(3, 64), "embed_tokens.lora_B": torch.zeros(9, 3)}, "not a linear map"),
        ({"lm_head.lora_A": torch.zeros(3, 64), "lm_head.lora_B": torch.zeros(9, 3)}, "not a linear map"),
    ],
)
def test_tensors_that_are_no_adapter_of_this_model_are_refused(
    adapters: Adapters, change: dict[str, torch.Tensor | None], message: str
) -> None:
    payload = random_lora(adapters.lm, 1).to_payload(adapters.base)
    tensors = {name: view.torch() for name, view in payload.tensors.items()} | change
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    with pytest.raises(InvalidInput, match=message):
        adapters.add(TensorPayload.from_torch(kept, adapters.base))
    assert adapters.names == []


def test_what_a_block_is_given_must_make_sense(adapters: Adapters) -> None:
    name = add(adapters, 1)
    for names, weights in [([name, name], None), ([name], [1.0, 2.0]), ([name], [float("inf")])]:
        with pytest.raises(InvalidInput, match="distinct names"), adapters.using(names, weights):
            pass
    with adapters.using([name]), pytest.raises(InvalidInput, match="leave the block"):
        Adapters(adapters.lm)
