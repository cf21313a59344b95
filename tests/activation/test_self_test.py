"""The self-test of a cube passes for what was stored, and notices what checksums cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from kv_models import numbers, prose, smollm2, tiny

from lamina.activation import self_test
from lamina.activation.cache import KVCube
from lamina.activation.storage import pack
from lamina.errors import CorruptCube, FingerprintMismatch

pytestmark = pytest.mark.model


def shifted(cube: KVCube) -> KVCube:
    at = torch.arange(len(cube.ids))
    return replace(cube, keys=tuple(cube.rotary.move(key, at, at + 3).to(key.dtype) for key in cube.keys))


DAMAGE: list[tuple[str, Callable[[KVCube], KVCube]]] = [
    ("keys at other positions", shifted),
    ("heads in another order", lambda cube: replace(cube, keys=tuple(key.flip(0) for key in cube.keys))),
    ("values one token late", lambda cube: replace(cube, values=tuple(value.roll(1, 1) for value in cube.values))),
    ("another text", lambda cube: replace(cube, ids=(*cube.ids[:-1], cube.ids[0]))),
    ("other logits", lambda cube: replace(cube, logits=cube.logits.roll(1))),
    ("not a number", lambda cube: replace(cube, values=tuple(value * float("nan") for value in cube.values))),
]


@pytest.mark.parametrize("damage", [case[1] for case in DAMAGE], ids=[case[0] for case in DAMAGE])
def test_damage_is_noticed_in_every_form(damage: Callable[[KVCube], KVCube]) -> None:
    lm = smollm2()
    damaged = damage(KVCube.build(lm, prose(30)))
    for form in self_test.TOLERANCE:
        with pytest.raises(CorruptCube, match="self-test of the cube failed"):
            self_test.check(lm, damaged, form)


def test_it_is_run_on_loading_unless_told_otherwise() -> None:
    lm = tiny()
    payload = pack(shifted(KVCube.build(lm, numbers(30))), "float32")
    with pytest.raises(CorruptCube, match="self-test"):
        KVCube.from_payload(payload, lm)
    assert KVCube.from_payload(payload, lm, check=False).ids == tuple(numbers(30))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 200])
def test_it_passes_for_what_was_built_however_short(count: int) -> None:
    lm = tiny()
    found = self_test.deviation(lm, KVCube.build(lm, numbers(count)))
    assert found.logits < 1e-5 and found.state < 1e-10


def test_a_model_of_16_bits_is_held_to_16_bits() -> None:
    lm = tiny(dtype=torch.bfloat16, initializer_range=0.05)
    cube = KVCube.from_payload(KVCube.build(lm, numbers(200)).to_payload("float32"), lm)
    assert self_test.deviation(lm, cube).state <= self_test.TOLERANCE["bfloat16"].state


def test_another_model_is_refused_before_anything_is_read() -> None:
    with pytest.raises(FingerprintMismatch):
        self_test.deviation(tiny(seed=1), KVCube.build(tiny(), numbers(9)))
