"""A compressed cache that was stored goes on as if it had not been; another model, or one bit, is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from kv_models import numbers, prose, smollm2, tiny

from lamina.activation.attach import attach
from lamina.activation.cascade_eviction import CAKE
from lamina.activation.compressed_cube import CompressedCube
from lamina.activation.policies import parse_policy
from lamina.cube import file
from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import TensorPayload
from lamina.errors import CorruptCube, FingerprintMismatch, InvalidInput

SPECS = [
    "cake:tokens=24,window=8",
    "cake:tokens=24,window=8+int8",
    "random:tokens=24,window=8,seed=5+int4",
    "xkv:ratio=2,group=2,tail=8",
    "xkv:ratio=3,group=2,tail=8+int8",
    "cake:tokens=30,window=8+xkv:ratio=1.5,group=2,tail=8",
    "snapkv:tokens=30,window=8+xkv:ratio=2,group=1,tail=8+int4",
]


@pytest.mark.parametrize("spec", SPECS)
def test_what_was_stored_goes_on_as_if_it_had_not_been(spec: str, tmp_path: Path) -> None:
    """Past the tail and the budget, token by token and in a chunk, against one cache that was never stored."""
    lm, ids = tiny(), numbers(70)
    policy = parse_policy(spec)
    cube = CompressedCube.build(lm, ids, policy)
    path = tmp_path / "some.cube"
    file.write(MemCube(Header(kind="activation"), cube.to_payload()), path)
    again = CompressedCube.load(path, lm)
    assert again.ids == tuple(ids) and again.policy == policy and again.nbytes == cube.nbytes
    more = torch.tensor([numbers(24, seed=3)])
    with torch.no_grad(), attach(lm.model, policy):
        cache, wanted = None, []
        for part in (torch.tensor([ids]), *more[:, :14].split(1, 1), more[:, 14:]):
            answer = lm.model(part, past_key_values=cache, use_cache=True)
            cache = answer.past_key_values
            wanted.append(answer.logits)
    with torch.no_grad(), again.attached(lm) as copied:
        found = [lm.model(part, past_key_values=copied).logits for part in (*more[:, :14].split(1, 1), more[:, 14:])]
    assert torch.allclose(torch.cat(found, 1), torch.cat(wanted[1:], 1), atol=1e-9)
    assert again.cache.get_seq_length() == 70  # the copy grew, the cube did not


def test_a_real_model_reads_on_behind_a_stored_cube() -> None:
    lm = smollm2()
    ids = prose(300)
    cube = CompressedCube.build(lm, ids, parse_policy("cake:3MiB+xkv:ratio=2,tail=32+int8"))
    assert cube.nbytes <= 3 * 2**20 < 300 * 46_080 / 4
    payload = cube.to_payload()
    stored = sum(view.nbytes for name, view in payload.tensors.items() if name.startswith("cache."))
    assert stored < 1.02 * cube.nbytes
    again = CompressedCube.from_payload(payload, lm)
    with again.attached(lm) as cache:
        first = list(lm.steps(lm.encode(" The"), 6, cache=cache))
    with cube.attached(lm) as cache:
        assert list(lm.steps(lm.encode(" The"), 6, cache=cache)) == first
    assert "300 tokens" in repr(again) and "xkv:ratio=2.0" in repr(again)


def test_another_model_is_refused() -> None:
    lm = tiny()
    cube = CompressedCube.build(lm, numbers(50), CAKE(tokens=24, window=8))
    with pytest.raises(FingerprintMismatch):
        CompressedCube.from_payload(cube.to_payload(), tiny(seed=1))
    with pytest.raises(FingerprintMismatch), cube.attached(tiny(seed=1)):
        pass


@pytest.mark.parametrize("name", ["cache.layer.001.value", "cache.layer.002.position", "cache.seen", "probe", "policy"])
def test_what_is_missing_or_was_changed_is_noticed(name: str) -> None:
    lm = tiny()
    payload = CompressedCube.build(lm, numbers(50), CAKE(tokens=24, window=8)).to_payload()
    tensors = {key: view.torch().clone() for key, view in payload.tensors.items()}
    less = {key: part for key, part in tensors.items() if key != name}
    with pytest.raises(CorruptCube, match=name.removeprefix("cache.")):
        CompressedCube.from_payload(TensorPayload.from_torch(less, payload.fingerprint), lm)
    tensors["cache.layer.001.value"][0, 0, 3] += 1.0
    with pytest.raises(CorruptCube, match="self-test"):
        CompressedCube.from_payload(TensorPayload.from_torch(tensors, payload.fingerprint), lm)


def test_nonsense_is_refused(tmp_path: Path) -> None:
    lm = tiny()
    with pytest.raises(InvalidInput, match="has no name"):
        CompressedCube.build(lm, numbers(50), CAKE(tokens=24, window=8, allocation="pyramid"))
    with pytest.raises(InvalidInput):
        CompressedCube.build(lm, [], CAKE(tokens=24, window=8))
    plain = TensorPayload.from_torch({"ids": torch.tensor([1])}, lm.fingerprint)
    with pytest.raises(CorruptCube, match="no compressed cache"):
        CompressedCube.from_payload(plain, lm)
