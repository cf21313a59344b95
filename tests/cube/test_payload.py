"""Payloads are values: equal contents have equal hashes, different ones do not."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from cube_strategies import tensor_payloads, texts
from hypothesis import given

from lamina.cube import Fingerprint, TensorPayload, TensorView, TextPayload
from lamina.errors import FingerprintMismatch, InvalidInput

MODEL = Fingerprint("LlamaForCausalLM", "w" * 64, "t" * 64, "bfloat16", rope="theta=10000,unrotated")


@given(texts)
def test_text(text: str) -> None:
    payload = TextPayload(text)
    assert payload.as_text() == text
    assert payload.nbytes == len(text.encode())
    assert payload.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_a_lone_surrogate_has_a_documented_error() -> None:
    with pytest.raises(InvalidInput, match="lone surrogate '\\\\ud800' at character 2"):
        _ = TextPayload("ab\ud800").sha256


@given(tensor_payloads)
def test_tensors_hash_by_content(payload: TensorPayload) -> None:
    backwards = dict(reversed(payload.tensors.items()))
    same = TensorPayload(backwards, replace(payload.fingerprint))
    assert same == payload and same.sha256 == payload.sha256
    assert list(payload.tensors) == sorted(payload.tensors)
    assert payload.nbytes == sum(len(bytes(view.data)) for view in payload.tensors.values())


def test_every_part_of_the_content_is_in_the_hash() -> None:
    view = TensorView.from_bytes("U8", (4,), b"abcd")
    variants = [
        {"k": view},
        {"l": view},
        {"k": replace(view, shape=(2, 2))},
        {"k": TensorView.from_bytes("I8", (4,), b"abcd")},
        {"k": TensorView.from_bytes("U8", (4,), b"abce")},
        {"k": TensorView.from_bytes("U8", (2,), b"ab"), "l": TensorView.from_bytes("U8", (2,), b"cd")},
        {},
    ]
    hashes = {TensorPayload(tensors, MODEL).sha256 for tensors in variants}
    hashes |= {TensorPayload({"k": view}, replace(MODEL, **{f.name: "other"})).sha256 for f in fields(MODEL)}
    assert len(hashes) == len(variants) + len(fields(MODEL))


def test_tensors_are_not_text_and_cannot_be_changed() -> None:
    payload = TensorPayload.from_numpy({"k": np.ones(2, np.float32)}, MODEL)
    assert payload == TensorPayload.from_torch({"k": torch.ones(2)}, MODEL)
    with pytest.raises(InvalidInput, match="1 tensors of LlamaForCausalLM, not text"):
        payload.as_text()
    with pytest.raises(TypeError):
        payload.tensors["k"] = payload.tensors["k"]  # type: ignore[index]


@pytest.mark.parametrize("name", ["", "__metadata__", "\udfff", 3])
def test_bad_tensor_names(name: str) -> None:
    with pytest.raises(InvalidInput, match="tensor name"):
        TensorPayload({name: TensorView.from_bytes("U8", (0,), b"")}, MODEL)


@pytest.mark.parametrize("field", [f.name for f in fields(Fingerprint)])
def test_fingerprint_shows_both_in_full(field: str) -> None:
    MODEL.check(replace(MODEL))
    other = replace(MODEL, **{field: "something else"})
    with pytest.raises(FingerprintMismatch, match=f"{field} differ") as caught:
        MODEL.check(other)
    assert repr(MODEL) in str(caught.value) and repr(other) in str(caught.value)
    assert other.sha256 != MODEL.sha256
