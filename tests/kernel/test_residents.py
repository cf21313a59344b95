"""Resident bytes never exceed the budget, whoever looks and whenever; names of bundles never collide."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memos_systems import BYTES_PER_TOKEN, tiny
from transformers.cache_utils import DynamicLayer

from contracts.store import cube
from lamina.activation.prefix import Bundle, Member
from lamina.cube.cube import MemCube, Scope, State, now
from lamina.errors import BudgetError
from lamina.kernel.governance import Form
from lamina.kernel.tiering.residents import Residents, bundle_name, is_current, shared_scope
from lamina.llm.causal import CausalLM

pytestmark = pytest.mark.model
LOGITS = 49152 * 4


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return tiny()


class Meter:
    """Counts keys and values that are alive: the most at any moment, other than the caches of answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peak = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        update = DynamicLayer.update

        def measured(layer: DynamicLayer, *args: object, **options: object) -> object:
            made = update(layer, *args, **options)
            for tensor in (layer.keys, layer.values):
                self._alive[tensor.untyped_storage().data_ptr()] = weakref.ref(tensor)
            self.peak = max(self.peak, self.nbytes)
            return made

        monkeypatch.setattr(DynamicLayer, "update", measured)

    @property
    def nbytes(self) -> int:
        return sum(one.untyped_storage().nbytes() for ref in self._alive.values() if (one := ref()) is not None)


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    yield Meter(monkeypatch)


def member(number: int, words: int = 8) -> Member:
    return Member(f"m{number}", 1, f"{number} " + "word " * words, float(number))


moves = st.lists(
    st.tuples(st.sampled_from("ab"), st.sets(st.integers(0, 7), max_size=3), st.sets(st.integers(0, 7), max_size=3)),
    max_size=8,
)


def test_bytes_stay_within_the_budget_at_every_instant(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Bundle.build(lm, []).nbytes
    tight = 0

    @settings(max_examples=25)
    @given(moves, st.integers(1, 8))
    def check(script: list[tuple[str, set[int], set[int]]], room: int) -> None:
        nonlocal tight
        with monkeypatch.context() as patch:
            meter = Meter(patch)
            budget = 2 * LOGITS + frame + room * 14 * BYTES_PER_TOKEN
            residents = Residents(lm, budget, read=lambda _, **__: None)
            for name, drop, add in script:
                here = {one.id for one in residents.members(name)}
                gone = [f"m{n}" for n in drop if f"m{n}" in here]
                come = [member(n, 2 + 4 * n) for n in add if f"m{n}" not in here or f"m{n}" in gone]
                before = residents.members(name)
                try:
                    residents.revise(name, drop=gone, add=come)
                except BudgetError:
                    assert residents.members(name) == before
                    tight += 1
                else:
                    assert {one.id for one in residents.members(name)} == here - set(gone) | {one.id for one in come}
                assert residents.nbytes <= budget
            assert meter.peak <= budget - LOGITS * min(1, len(residents.all()))

    check()
    assert tight > 10, "the budget was felt"


def test_the_count_is_of_live_tensors(lm: CausalLM, meter: Meter) -> None:
    residents = Residents(lm, 10**8, read=lambda _, **__: None)
    residents.revise("a", add=[member(1)])
    residents.revise("a", add=[member(2)])
    residents.revise("b", add=[member(3)])
    assert residents.nbytes == meter.nbytes + 2 * LOGITS
    residents.clear("a")
    assert residents.nbytes == meter.nbytes + LOGITS
    residents.clear()
    assert residents.nbytes == meter.nbytes == 0


def test_without_room_for_both_the_old_goes_before_the_new_comes(lm: CausalLM, meter: Meter) -> None:
    first = Bundle.build(lm, [member(1)])
    both = first.append(lm, [member(2)])
    budget = both.nbytes + LOGITS + 100
    del first, both
    residents = Residents(lm, budget, read=lambda _, **__: None)
    residents.revise("a", add=[member(1)])
    meter.peak = 0
    read = residents.revise("a", add=[member(2)])
    assert meter.peak <= budget and [one.id for one in residents.members("a")] == ["m1", "m2"]
    assert read * BYTES_PER_TOKEN == residents.nbytes - LOGITS, "all of it was read anew"


def test_a_bundle_too_large_changes_nothing(lm: CausalLM) -> None:
    residents = Residents(lm, LOGITS + 60 * BYTES_PER_TOKEN, read=lambda _, **__: None)
    residents.revise("a", add=[member(1, 1)])
    before = residents.members("a"), residents.nbytes
    with pytest.raises(BudgetError, match="over the budget"):
        residents.revise("a", add=[member(2, 90)])
    assert (residents.members("a"), residents.nbytes) == before
    assert not residents.adopt("b", Bundle.build(lm, [member(3, 60)]))
    assert residents.room < residents.budget - LOGITS


names = st.one_of(st.none(), st.text("ab/*%2", min_size=1, max_size=3))
scopes = st.builds(Scope, st.text("ab/*", min_size=1, max_size=3), names, names, st.sampled_from([None, "r"]))


@given(scopes, scopes)
def test_only_one_tenant_user_and_agent_share_a_bundle(one: Scope, other: Scope) -> None:
    same = replace(one, run=None) == replace(other, run=None)
    assert (bundle_name(one) == bundle_name(other)) == same == (shared_scope(one) == shared_scope(other))


def test_what_may_be_served() -> None:
    at = now()
    kept = cube("tea")
    soon = {"expires": at + timedelta(hours=1)}

    def current(one: MemCube | None, form: Form = "activation", later: float = 0.0) -> bool:
        return is_current(1, one, at.timestamp() + later, form, read=lambda _, **__: cube("tea"))

    assert current(kept) and current(cube("tea", state=State.FROZEN)) and current(cube("tea", **soon))
    assert not current(None)
    assert not current(cube("tea", **soon), later=3600)
    assert current(cube("tea", version=2)), "a change of state alone"
    assert not current(cube("coffee", version=2))
    assert not current(cube("tea", superseded=at))
    assert not current(cube("tea", state=State.ARCHIVED)) and not current(cube("tea", state=State.MERGED))
    assert not current(cube("tea", access=("text", "parameter")))
    assert current(cube("tea", access=("text", "parameter")), "parameter")
    assert current(cube("tea", sensitivity=("email",)))
    assert not current(cube("tea", sensitivity=("email",)), "parameter"), "no weights learn what is sensitive"
    for trust in ("tool", "web", "import"):
        assert not current(cube("tea", trust=trust)), "a cache is read as system text"
        assert current(cube("tea", trust=trust), "parameter")
    assert current(cube("tea", trust="assistant"))


def test_another_model_finds_nothing_ready(lm: CausalLM) -> None:
    for other in (tiny(seed=1), tiny(rope_parameters={"rope_type": "default", "rope_theta": 5e4})):
        residents = Residents(other, 10**8, read=lambda id, **_: cube("tea", id=id))
        assert residents.adopt("a", Bundle.build(lm, [member(1)]))
        assert residents.valid("a", 0.0) == (None, [])
    residents = Residents(lm, 10**8, read=lambda id, **_: cube("tea", id=id))
    residents.revise("a", add=[member(1)])
    assert residents.valid("a", 0.0)[0] is not None
    lm.overlay = "an adapter"
    try:
        assert residents.valid("a", 0.0) == (None, [])
    finally:
        lm.overlay = ""
