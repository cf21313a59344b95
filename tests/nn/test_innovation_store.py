"""The eidetic store: the largest scores of all that was offered, put away, merged and found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lamina.cube import file
from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import CorruptCube, FingerprintMismatch, InvalidInput
from lamina.nn.eidetic.innovation_store import NOWHERE, InnovationStore, holdings

MADE_BY = Fingerprint("lamina", "weights", "tokens", "float32")


def _offered(scores: list[list[float]], seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    worth = torch.tensor(scores)
    key, value = torch.randn(2, *worth.shape, 2, 3, generator=generator)
    return key, value, torch.arange(worth.shape[1]).expand(worth.shape), worth


def _filled(scores: list[list[float]], capacity: int, seed: int = 0) -> InnovationStore:
    key, *rest = _offered(scores, seed)
    return InnovationStore.empty(torch.stack([key, key], 2), capacity).offer(key, *rest)


@given(
    scores=st.lists(st.integers(0, 5), min_size=1, max_size=24),
    capacity=st.integers(1, 6),
    chunk=st.integers(1, 7),
)
def test_it_holds_the_largest_of_all_that_was_offered(scores: list[int], capacity: int, chunk: int) -> None:
    worth = [[float(score) for score in scores]]
    key, value, places, told = _offered(worth)
    store = InnovationStore.empty(torch.stack([key, value], 2), capacity)
    for start in range(0, len(scores), chunk):
        part = slice(start, start + chunk)
        store = store.offer(key[:, part], value[:, part], places[:, part], told[:, part])
    best = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:capacity]
    assert store.places[0].tolist() == best + [NOWHERE] * (capacity - len(best))
    assert store.held.sum() == len(best)
    keys, values = store.as_kv()
    assert torch.equal(keys[0, :, : len(best)], key[0, best].transpose(0, 1))
    assert torch.equal(values[0, :, : len(best)], value[0, best].transpose(0, 1))

    fit = len(scores) // chunk * chunk
    if fit:
        begun = torch.cat([torch.full((1, capacity), 9.0), told[:, :fit]], 1)  # what is nowhere is not worth its score
        where = torch.cat([torch.full((1, capacity), NOWHERE), places[:, :fit]], 1)
        told_at_once = where.gather(1, holdings(begun, where, capacity, chunk)[:, -1])
        best = sorted(range(fit), key=lambda place: (-scores[place], place))[:capacity]
        assert [place for place in told_at_once[0].tolist() if place != NOWHERE] == best


def test_what_stands_nowhere_is_not_kept() -> None:
    key, value, places, scores = _offered([[5.0, 1.0, 3.0]])
    store = InnovationStore.empty(torch.stack([key, value], 2), 2)
    store = store.offer(key, value, places.where(scores < 5, NOWHERE), scores)
    assert store.places.tolist() == [[2, 1]] and store.scores.tolist() == [[3.0, 1.0]]


def test_two_sessions_are_merged_and_a_cube_keeps_what_is_there(tmp_path: Path) -> None:
    first, second = _filled([[3.0, 1.0]], 4), _filled([[2.0, 3.0, 0.5]], 4, seed=1)
    both = first.merged(second)
    assert both.scores.tolist() == [[3.0, 3.0, 2.0, 1.0]] and both.places.tolist() == [[0, 1, 0, 1]]
    assert torch.equal(both.pairs[0, 0], first.pairs[0, 0]) and torch.equal(both.pairs[0, 1], second.pairs[0, 0])

    payload = first.to_payload(MADE_BY)
    assert payload.tensors["store.places"].shape == (2,)
    file.write(MemCube(Header(kind="activation"), payload), tmp_path / "store.cube")
    read = file.read(tmp_path / "store.cube").payload
    assert isinstance(read, TensorPayload)
    again = InnovationStore.from_payload(read, MADE_BY, 4)
    assert torch.equal(again.places, first.places) and torch.equal(again.scores, first.scores)
    assert torch.equal(again.pairs[first.held], first.pairs[first.held])
    assert InnovationStore.from_payload(read, MADE_BY, 1).places.tolist() == [[0]]
    assert torch.equal(again.merged(second).pairs, both.pairs)


def test_another_models_store_and_what_is_none_are_refused() -> None:
    payload = _filled([[3.0, 1.0]], 4).to_payload(MADE_BY)
    with pytest.raises(FingerprintMismatch, match="weights"):
        InnovationStore.from_payload(payload, replace(MADE_BY, weights="other"), 4)
    with pytest.raises(CorruptCube, match="no innovation store"):
        InnovationStore.from_payload(TensorPayload.from_torch({"x": torch.ones(2)}, MADE_BY), MADE_BY, 4)
    misshapen = TensorPayload.from_torch(
        {"store.pairs": torch.ones(2, 2, 1, 3), "store.places": torch.arange(3), "store.scores": torch.ones(3)}, MADE_BY
    )
    with pytest.raises(CorruptCube, match="shapes"):
        InnovationStore.from_payload(misshapen, MADE_BY, 4)


def test_offers_that_do_not_fit_are_refused() -> None:
    key, value, places, scores = _offered([[3.0, 1.0]])
    store = InnovationStore.empty(torch.stack([key, value], 2), 2)
    with pytest.raises(InvalidInput, match="one place and one score"):
        store.offer(key, value, places[:, :1], scores)
    with pytest.raises(InvalidInput, match="heads as kept"):
        store.offer(key[:, :, :1], value[:, :, :1], places, scores)
