"""The states of a text as a cube: it goes on to the bit, in as many forks as one likes, on the model that read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lamina.activation.recurrent_state import StateCube
from lamina.cube.cube import Header, MemCube
from lamina.cube.file import read, write
from lamina.cube.payload import TensorPayload
from lamina.errors import CorruptCube, FingerprintMismatch, InvalidInput
from lamina.nn.config import LaminaConfig
from lamina.nn.context import DecodingCache
from lamina.nn.decoder import LaminaForCausalLM

MIXERS = ["mom", "gated_delta", "attention", ["mom", "attention"]]


def _model(mixer: Any = "mom", seed: int = 0, **block: Any) -> LaminaForCausalLM:
    torch.manual_seed(seed)
    name = mixer if isinstance(mixer, str) else mixer[0]
    return LaminaForCausalLM(LaminaConfig(30, 16, 2, 2, mixer=mixer, short_conv=3, block={name: block})).eval()


def _ids(time: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 30, (2, time), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def _said(model: LaminaForCausalLM, cache: DecodingCache, ids: Tensor) -> Tensor:
    """Token by token, so that states are written in place."""
    return torch.cat([model(ids[:, [t]], past_key_values=cache).logits for t in range(ids.shape[1])], dim=1)


@torch.no_grad()
def _read(model: LaminaForCausalLM) -> DecodingCache:
    cache, mask = DecodingCache(2), torch.ones(2, 20, dtype=torch.long)
    mask[1, :7] = 0
    model(_ids(20), attention_mask=mask, past_key_values=cache)
    return cache


@pytest.mark.parametrize("mixer", MIXERS, ids=str)
def test_a_conversation_is_forked_and_put_away(mixer: Any, tmp_path: Path) -> None:
    model = _model(mixer)
    cache = _read(model)
    cube = StateCube.of(model, cache)
    assert cube.nbytes == cache.nbytes
    first, second = _ids(6, 2), _ids(6, 3)
    expected = _said(model, cache, first)  # the cache goes on, the cube does not
    fork = _said(model, cube.attach(model), second)
    assert torch.equal(_said(model, cube.attach(model), first), expected)
    assert torch.equal(_said(model, cube.attach(model), second), fork) and not torch.equal(fork, expected)

    write(MemCube(Header(kind="activation"), cube.to_payload()), tmp_path / "talk.cube")
    payload = read(tmp_path / "talk.cube").payload
    assert isinstance(payload, TensorPayload)
    again = StateCube.from_payload(payload, model)
    attached = again.attach(model)
    assert attached.get_seq_length() == 20 and attached.lengths is not None and attached.lengths.tolist() == [20, 13]
    assert torch.equal(_said(model, attached, first), expected)
    assert "13" not in repr(again) and "tensor" not in repr(again)


def test_a_cube_of_a_mixture_is_as_large_after_long_texts() -> None:
    model = _model()
    sizes = []
    for time in (3, 300):
        cache = DecodingCache(2)
        with torch.no_grad():
            model(_ids(time), past_key_values=cache)
        sizes.append(StateCube.of(model, cache).to_payload().nbytes)
    assert sizes[0] == sizes[1]


def test_another_model_is_told() -> None:
    model = _model()
    cube = StateCube.of(model, _read(model))
    for other in (_model(seed=1), _model(top_k=1), _model().double()):
        with pytest.raises(FingerprintMismatch):
            cube.attach(other)
        with pytest.raises(FingerprintMismatch):
            StateCube.from_payload(cube.to_payload(), other)
    cube.attach(_model())
    with pytest.raises(InvalidInput, match="read nothing"):
        StateCube.of(model, DecodingCache(2))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda named: named.pop("lengths"), "'lengths' or 'seen'"),
        (lambda named: named.update(seen=torch.zeros(2)), "'lengths' or 'seen'"),
        (lambda named: named.update({"layer.002.mom": torch.zeros(2)}), "no state of these 2 layers"),
        (lambda named: named.update(other=torch.zeros(2)), "'other'"),
        (lambda named: named.update({"layer.000.mom": torch.zeros(3)}), "rows must be those"),
    ],
)
def test_what_is_no_state_is_told(change: Any, told: str) -> None:
    model = _model()
    payload = StateCube.of(model, _read(model)).to_payload()
    named = {name: view.torch().clone() for name, view in payload.tensors.items()}
    change(named)
    with pytest.raises(CorruptCube, match=told):
        StateCube.from_payload(
            replace(payload, tensors=TensorPayload.from_torch(named, payload.fingerprint).tensors), model
        )
