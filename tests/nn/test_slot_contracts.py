"""What every block in every slot keeps: causality, rows apart, one answer however a text is cut, its own bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from lamina.nn import costs
from lamina.nn.config import LaminaConfig
from lamina.nn.context import DecodingCache
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.slots import FFNS, MIXERS, SIDES
from lamina.train.loop import train

Arm = tuple[str, str, dict[str, Any]]

# Slot, name and settings: small enough for a test, odd enough to show what a default hides.
ARMS: list[Arm] = [
    ("mixer", "attention", {}),
    ("mixer", "attention", {"window": 5}),
    ("mixer", "gated_delta", {"heads": 2, "key_dim": 6, "value_dim": 10, "chunk": 4}),
    ("mixer", "gated_delta", {"taps": 0}),
    ("mixer", "mom", {"heads": 2, "key_dim": 6, "value_dim": 10, "chunk": 4}),
    ("mixer", "mom", {"memories": 3, "shared": False, "scope": "stream", "taps": 3}),
    ("mixer", "mom", {"one_projection": True, "taps": 0, "aux": 0.0}),
    ("mixer", "synaptic_resonance", {"heads": 2, "key_dim": 6, "value_dim": 10, "context_dim": 5, "chunk": 4}),
    ("mixer", "synaptic_resonance", {"rule": "hebb", "fade": 0.1, "window": 5, "taps": 3, "chunk": 4}),
    ("mixer", "synaptic_resonance", {"gate": "token", "fade": 0.1, "taps": 0}),
    ("mixer", "synaptic_resonance", {"gate": "none", "window": 3}),
    ("mixer", "bmojo", {"window": 3, "eidetic": 3, "innovation_weight": 1e-3}),
    ("mixer", "bmojo", {"window": 4, "eidetic": 2, "update_every": 3, "position": "clamp", "innovation_weight": 1e-3}),
    ("mixer", "bmojo", {"window": 3, "tie_weights": False, "qk_norm": True, "ssm_settings": {"taps": 0}}),
    ("mixer", "table_attention", {"bits": 4, "score": "probability", "window": 5}),
    ("ffn", "swiglu", {"size": 12}),
    ("ffn", "experts", {"experts": 4, "top_k": 2, "size": 6}),
    ("ffn", "memory_block", {"bits": 3}),
    ("side", "ultramem_v2", {"num_keys": 8, "top_m": 4, "value_dim": 6, "pre_value_dim": 4, "budget": 999}),
    (
        "side",
        "ultramem_v2",
        {"num_keys": 6, "top_m": 5, "share": 0.5, "cores": 1, "expand": 2, "init": "release"}
        | {"pre_value_dim": 4, "balance": 1e-3, "penalty": 1e-2},
    ),
]


def _config(arm: Arm, **more: Any) -> LaminaConfig:
    slot, name, settings = arm
    chosen = {"mixer": "attention", "ffn": "swiglu", slot: name}
    sizes = {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_heads": 3, "num_kv_heads": 1}
    return LaminaConfig(**sizes | chosen | {"ffn_size": 20} | more, block={name: settings})


def test_every_block_there_is_stands_here() -> None:
    tested = {(slot, name) for slot, name, _ in ARMS}
    there_are = {
        (slot, name) for slot, table in {"mixer": MIXERS, "ffn": FFNS, "side": SIDES}.items() for name in table
    }
    assert tested == there_are


def _model(arm: Arm, **more: Any) -> LaminaForCausalLM:
    torch.manual_seed(0)
    model = LaminaForCausalLM(_config(arm, **more)).eval().double()
    with torch.no_grad():  # what begins at nothing would make many of these tests say nothing
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.1)
    return model


@pytest.fixture(params=ARMS, ids=lambda arm: "-".join([*arm[:2], *map(str, arm[2].values())]))
def arm(request: pytest.FixtureRequest) -> Arm:
    found: Arm = request.param
    return found


@pytest.fixture(params=[0, 3], ids=["plain", "short_conv"])
def model(arm: Arm, request: pytest.FixtureRequest) -> LaminaForCausalLM:
    return _model(arm, short_conv=request.param)


def _ids(rows: int = 3, time: int = 13, seed: int = 1) -> Tensor:
    return torch.randint(0, 40, (rows, time), generator=torch.Generator().manual_seed(seed))


def _logits(model: LaminaForCausalLM, ids: Tensor, **more: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(ids, use_cache=False, **more).logits
    return found


def test_no_token_sees_a_later_one(model: LaminaForCausalLM) -> None:
    ids = _ids()
    plain = _logits(model, ids)
    for place in (1, 6, 12):
        other = ids.clone()
        other[:, place] = (other[:, place] + 7) % 40
        changed = _logits(model, other)
        torch.testing.assert_close(changed[:, :place], plain[:, :place], rtol=0, atol=1e-12)
        assert not torch.equal(changed[:, place], plain[:, place])


def test_no_row_sees_another(model: LaminaForCausalLM) -> None:
    ids = _ids()
    other = ids.clone()
    other[1] = (other[1] + 7) % 40
    first, second = _logits(model, ids), _logits(model, other)
    torch.testing.assert_close(first[[0, 2]], second[[0, 2]], rtol=0, atol=1e-12)
    assert not torch.allclose(first[1], second[1])


@pytest.mark.parametrize("cuts", [(1,) * 13, (5, 1, 4, 3), (12, 1)])
def test_a_text_in_pieces_says_what_the_whole_says(model: LaminaForCausalLM, cuts: tuple[int, ...]) -> None:
    ids = _ids()
    whole, cache, pieces = _logits(model, ids), DecodingCache(2), []
    with torch.no_grad():
        for part in torch.split(ids, cuts, dim=1):
            pieces.append(model(part, past_key_values=cache).logits)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-6, atol=1e-8)
    assert cache.get_seq_length() == 13


@pytest.mark.parametrize("cuts", [(13,), (5, 8), (1,) * 13])
def test_padding_on_the_left_changes_nothing(model: LaminaForCausalLM, cuts: tuple[int, ...]) -> None:
    ids, pads = _ids(), [0, 4, 11]
    mask = torch.ones_like(ids)
    for row, pad in enumerate(pads):
        mask[row, :pad] = 0
    cache, pieces, end = DecodingCache(2), [], 0
    with torch.no_grad():
        for part in torch.split(ids, cuts, dim=1):
            end += part.shape[1]
            pieces.append(model(part, attention_mask=mask[:, :end], past_key_values=cache).logits)
    together = torch.cat(pieces, dim=1)
    assert torch.isfinite(together).all()
    for row, pad in enumerate(pads):
        alone = _logits(model, ids[row : row + 1, pad:])
        torch.testing.assert_close(together[row, pad:], alone[0], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(_logits(model, ids, attention_mask=mask), together, rtol=1e-6, atol=1e-8)


def test_a_row_of_nothing_but_padding_is_no_nan(model: LaminaForCausalLM) -> None:
    ids = _ids()
    mask = torch.ones_like(ids)
    mask[1] = 0
    assert torch.isfinite(_logits(model, ids, attention_mask=mask)).all()
    assert (
        torch.isfinite(_logits(model, torch.full((1, 9), 5))).all() and torch.isfinite(_logits(model, ids[:, :1])).all()
    )


def test_rows_of_a_cache_are_chosen_and_repeated(model: LaminaForCausalLM) -> None:
    ids, more = _ids(), _ids(time=2, seed=2)
    with torch.no_grad():
        cache = DecodingCache(2)
        model(ids, past_key_values=cache)
        cache.reorder_cache(torch.tensor([2, 0, 2]))
        found = model(more, past_key_values=cache).logits
        expected = _logits(model, torch.cat([ids[[2, 0, 2]], more], dim=1))[:, -2:]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_it_is_saved_and_read_by_transformers(arm: Arm, tmp_path: Path) -> None:
    model = _model(arm, short_conv=2).float()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert isinstance(again, LaminaForCausalLM) and _told(again) == _told(model)
    for (name, ours), (other, theirs) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other and torch.equal(ours, theirs), name
    assert torch.equal(_logits(model, _ids()), _logits(again, _ids()))
    torch.manual_seed(3)
    greedy = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    first = model.generate(_ids(), **greedy)
    assert torch.equal(first, again.generate(_ids(), **greedy, use_cache=False))
    beams = model.generate(_ids(), **greedy, num_beams=3)
    assert torch.equal(beams, model.generate(_ids(), **greedy, num_beams=3, use_cache=False))


def _told(model: LaminaForCausalLM) -> dict[str, Any]:
    return {name: value for name, value in model.config.to_dict().items() if name != "_name_or_path"}


def test_it_is_built_without_weights(arm: Arm) -> None:
    with torch.device("meta"):
        model = LaminaForCausalLM(_config(arm))
    built = LaminaForCausalLM(_config(arm))
    assert costs.stored_bytes(model) == costs.stored_bytes(built)
    assert costs.macs_per_token(model, 16) == costs.macs_per_token(built, 16) > 0
    assert (
        0 < costs.bytes_read_per_token(built) <= costs.stored_bytes(built) + built.model.embed_tokens.weight[0].nbytes
    )


def test_a_seed_decides_how_it_begins(arm: Arm) -> None:
    def begun(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return list(LaminaForCausalLM(_config(arm)).parameters())

    assert all(torch.equal(first, second) for first, second in zip(begun(5), begun(5), strict=True))
    assert not all(torch.equal(first, second) for first, second in zip(begun(5), begun(6), strict=True))


def test_what_it_writes_at_first_is_of_the_size_of_what_it_reads(arm: Arm) -> None:
    torch.manual_seed(0)
    model = LaminaForCausalLM(_config(arm)).eval()
    slot = arm[0]
    sizes: list[float] = []

    def look(_: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        sizes.append(float(out.std() / given[0].std()))

    for layer in model.model.layers:
        getattr(layer, slot).register_forward_hook(look)
    _logits(model, _ids(8, 32))
    assert len(sizes) == 2 and all(0.0 <= size <= 3.0 for size in sizes), sizes


def test_every_parameter_learns_and_one_batch_is_learned_by_heart(arm: Arm) -> None:
    torch.manual_seed(0)
    model = LaminaForCausalLM(_config(arm, short_conv=2)).train()
    ids = _ids(4, 12)
    losses = train(model.parameters(), lambda _: model(ids, labels=ids).loss, steps=200, lr=1e-2)
    assert losses[-1] < 0.05, losses[-1]
    model(ids, labels=ids).loss.backward()
    still = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not still, still
