"""Cubes at rest: three forms, their bytes and errors measured; damaged payloads are refused, and nothing is pickled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kv_models import logits, numbers, prose, smollm2, tiny

import lamina.activation
from lamina.activation.cache import KVCube
from lamina.activation.storage import Form, cost, form_of
from lamina.cube import Header, MemCube, TensorPayload, dumps
from lamina.errors import CorruptCube, InvalidInput

pytestmark = pytest.mark.model


def without(payload: TensorPayload, **changes: torch.Tensor | None) -> TensorPayload:
    tensors = {name: view.torch() for name, view in payload.tensors.items()}
    tensors |= {name: tensor for name, tensor in changes.items() if tensor is not None}
    for name, tensor in changes.items():
        if tensor is None:
            del tensors[name]
    return TensorPayload.from_torch(tensors, payload.fingerprint)


def test_float32_brings_back_every_value_and_the_same_logits() -> None:
    lm, ids = tiny(dtype=torch.float32), numbers(60)
    cube = KVCube.build(lm, ids[:40])
    back = KVCube.from_payload(cube.to_payload(), lm)
    assert back.ids == cube.ids and torch.equal(back.logits, cube.logits) and back.fingerprint == cube.fingerprint
    for mine, theirs in zip(back.values, cube.values, strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(back.keys, cube.keys, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits(lm, ids[40:], back), logits(lm, ids[40:], cube), atol=1e-4, rtol=0)


def test_a_bfloat16_model_gets_its_own_bits_back_from_float32() -> None:
    lm = tiny(dtype=torch.bfloat16)
    cube = KVCube.build(lm, numbers(40))
    back = KVCube.from_payload(cube.to_payload("float32"), lm)
    for mine, theirs in zip((*back.keys, *back.values), (*cube.keys, *cube.values), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("form", "nbytes", "error"), [("float32", 46_080, 0), ("bfloat16", 23_040, 2**-8), ("int8", 12_960, 2**-8)]
)
def test_bytes_and_errors_of_a_form(form: Form, nbytes: int, error: float) -> None:
    lm = smollm2()
    cube = KVCube.build(lm, prose(40))
    measured, payload = cost(cube, form), cube.to_payload(form)
    assert measured.bytes_per_token == nbytes
    assert max(measured.key_error, measured.value_error) <= error
    assert form == "float32" or min(measured.key_error, measured.value_error) > 0
    assert payload.nbytes == 40 * nbytes + 40 * 4 + lm.model.config.vocab_size * 4  # and ids, and logits
    assert form_of(payload) == form
    again = KVCube.from_payload(payload, lm)  # within the tolerance of its form
    assert again.nbytes == cube.nbytes  # attached, it takes what it took
    assert (again.logits == cube.logits).all()


def test_what_is_stored_does_not_depend_on_where_the_text_stood() -> None:
    lm = tiny(num_hidden_layers=1, dtype=torch.float32)
    ids, before = numbers(8), numbers(30, seed=1)
    alone = KVCube.build(lm, ids).to_payload().tensors["layer.000.key"].torch()
    behind = KVCube.build(lm, before + ids).to_payload().tensors["layer.000.key"].torch()
    torch.testing.assert_close(behind[:, 30:], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": None}, "lacks the vector 'ids'"),
        ({"logits": None}, "lacks the vector 'logits'"),
        ({"layer.000.key": None}, "'layer.000.key' is missing"),
        ({"layer.002.value": None}, "lacks 'layer.002.value'"),
        ({"layer.001.key": torch.zeros(2, 9, 16)}, "must be F32"),
        ({"layer.001.key": torch.zeros(2, 10, 16, dtype=torch.bfloat16)}, "must be F32"),
        ({"layer.003.key": torch.zeros(2, 10, 16)}, "'layer.003.key', which is no part"),
        ({"ids": torch.full((10,), 97, dtype=torch.int32)}, "ids do not fit its model"),
        ({"ids": torch.zeros(0, dtype=torch.int32)}, "must be F32"),
    ],
)
def test_damaged_payloads_are_refused(changes: dict[str, torch.Tensor | None], message: str) -> None:
    lm = tiny()
    payload = KVCube.build(lm, numbers(10)).to_payload()
    with pytest.raises(CorruptCube, match=message):
        KVCube.from_payload(without(payload, **changes), lm)


def test_an_unknown_form_and_a_merge_are_refused() -> None:
    cube = KVCube.build(tiny(), numbers(10))
    with pytest.raises(InvalidInput, match="form='int4' is not known; give one of float32, bfloat16, int8"):
        cube.to_payload("int4")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="merge of fragments"):
        replace(cube, exact=False).to_payload()


def test_bug_of_peers_caches_are_pickled() -> None:
    data = dumps(MemCube(Header(kind="activation"), KVCube.build(tiny(), numbers(10)).to_payload()))
    head = int.from_bytes(data[:8], "little")
    assert data[8 : 8 + head].startswith(b'{"__metadata__"') and not data.startswith((b"PK", b"\x80"))
    for path in Path(lamina.activation.__file__).parent.glob("*.py"):
        source = path.read_text()
        assert "import pickle" not in source and "torch.load" not in source and "torch.save" not in source
