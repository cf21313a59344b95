"""Who and what may move up: governance is asked by every verb and by the policy, for each version, at every call."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from memos_systems import MINUTE, Clock, ask, eager, system, tell, tiny
from test_tiers import ANN, BOAT, NUTS, WALNUTS, adapter_of, reasons

from lamina import MemOS
from lamina.cube.cube import MemCube, State
from lamina.errors import BudgetError, InvalidInput, NotFound, NotPermitted
from lamina.kernel.governance import Context, Principal, check
from lamina.kernel.migration import Migration
from lamina.kernel.tiering.decisions import Reason, Tier
from lamina.llm.causal import CausalLM
from lamina.store.base import Write
from lamina.text.decisions import QUARANTINED

pytestmark = pytest.mark.model
SOON = eager(parameter_heat=2, parameter_sessions=1, parameter_age=0, parameter_group=1)  # teaches what is used twice


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return tiny()


@pytest.fixture
def os(tmp_path: Path, lm: CausalLM) -> Iterator[MemOS]:
    with system(tmp_path / "m.db", lm, policy=SOON) as made:
        yield made


def change(os: MemOS, id: str, **header: Any) -> None:
    """The next version, with another header and the same words."""
    cube = os.store.get(id)
    assert cube is not None
    changed = replace(cube.header, version=cube.header.version + 1, **header)
    with os.store.transaction() as tx:
        tx.revise(Write(MemCube(changed, cube.payload), os.store.vector(id)), expect=cube.header.version)


def as_one(os: MemOS, principal: Principal, **settings: Any) -> MemOS:
    return MemOS(os.memory, model=os.tiers.lm, principal=principal, **{"clock": Clock(), "policy": eager()} | settings)


@pytest.mark.parametrize(
    "rule", [{"sensitivity": ("health",)}, {"access": ("text",)}, {"tags": (QUARANTINED,), "state": State.ARCHIVED}]
)
@pytest.mark.parametrize("again", [True, False])
def test_what_may_no_longer_be_learnt_is_not_taught(os: MemOS, rule: dict[str, Any], again: bool) -> None:
    id = tell(os, WALNUTS)
    for _ in range(3):
        ask(os, NUTS)
    change(os, id, **rule)
    if again:
        ask(os, NUTS)
    decided = [one for _ in range(2) for one in os.tick(consolidate=True)]
    assert Tier.PARAMETER not in {one.target for one in decided}
    assert os.store.query(ANN, {"kind": "parameter"}).cubes == []
    with pytest.raises(InvalidInput, match="cannot become parameter"):
        os.tiers.migrator.to_parameter([id])


def test_the_policy_would_have_taught_it_otherwise(os: MemOS) -> None:
    tell(os, WALNUTS)
    for _ in range(3):
        ask(os, NUTS)
    assert Tier.PARAMETER in {one.target for _ in range(2) for one in os.tick()}


def test_what_was_redacted_is_no_weight(os: MemOS) -> None:
    told = os.remember("My mail is ann@example.org. I live in Porto.", user_id="ann", redacted=True)["results"]
    for row in told:
        cube = os.store.get(row["id"])
        assert cube is not None and cube.header.sensitivity == ("email",)
        assert not check(os.principal, "promote", cube, Context(form="parameter"))
        assert check(os.principal, "promote", cube, Context(form="activation"))
    assert len(told) > 1, "the facts of a redacted turn as well"
    again = os.remember("I live in Porto.", user_id="ann")["results"]
    facts = [cube for row in again if (cube := os.store.get(row["id"])) and cube.header.semantic_type != "turn"]
    assert facts and all(cube.header.sensitivity == ("email",) for cube in facts), "said again, it stays so"


@pytest.mark.parametrize("trust", ["tool", "web", "import"])
def test_what_others_said_is_never_system_text(os: MemOS, trust: str) -> None:
    id = tell(os, WALNUTS)
    change(os, id, trust=trust)
    for _ in range(3):
        assert ask(os, NUTS).tiers == (Tier.TEXT,)
    assert Tier.ACTIVATION not in {one.target for one in os.tick()} and os.tiers.bundle(ANN) is None
    for move in (partial(os.promote, id, "activation"), lambda: os.tiers.promote([id], Tier.ACTIVATION)):
        with pytest.raises((NotPermitted, InvalidInput), match="quoted as data"):
            move()
    with pytest.raises(InvalidInput, match="quoted as data"):
        os.tiers.migrator.to_activation([id])
    cube = os.store.get(id)
    assert cube is not None and check(os.principal, "promote", cube, Context(form="parameter"))


def test_a_cached_memory_of_which_trust_is_withdrawn_leaves_the_system_turn(os: MemOS) -> None:
    id = tell(os, WALNUTS)
    os.promote(id, "activation")
    change(os, id, trust="web")
    assert ask(os, NUTS).tiers == (Tier.TEXT,) and "(ACL)" in os.explain(id).decisions[0]


def test_calls_of_a_stranger_move_nothing_of_the_scope_they_name(tmp_path: Path, lm: CausalLM) -> None:
    clock = Clock()
    with system(tmp_path / "m.db", lm, clock=clock, policy=eager(min_resident=0)) as os:
        id = tell(os, WALNUTS)
        for _ in range(3):
            ask(os, NUTS)
        assert reasons(os.tick()) == [(Tier.ACTIVATION, "HOT_STABLE")]
        for principal in (Principal("elsewhere", "eve"), Principal(user="eve")):
            eve = as_one(os, principal, clock=clock)
            eve._tiers = os.tiers  # one process serves both
            for _ in range(40):
                assert ask(eve, "Hello there.", "ann", max_tokens=1).used == ()
        clock.forward(2 * MINUTE)
        assert os.tick() == [] and os.explain(id).tier is Tier.ACTIVATION and os.explain(id).share == 1.0


def test_the_policy_moves_only_what_the_principal_may_promote(os: MemOS) -> None:
    id = tell(os, WALNUTS)
    auditor = as_one(os, Principal(user="bob", roles=frozenset({"auditor"})))
    for _ in range(3):
        assert ask(auditor, NUTS).tiers == (Tier.TEXT,)
    with pytest.raises(NotPermitted):
        auditor.promote(id, "activation")
    with pytest.raises(NotPermitted):
        auditor.demote(id)
    assert auditor.tick() == [] and auditor.explain(id).tier is Tier.TEXT
    with pytest.raises(NotPermitted, match="administrator"), auditor.running():
        pass
    owner = as_one(os, Principal(user="ann"))
    owner._tiers = auditor.tiers
    assert [one.cube for one in owner.tick()] == [id]
    change(os, id, access=("text",))
    assert reasons(auditor.tick()) == [(Tier.TEXT, "ACL")], "what is forbidden goes whoever asks"


def test_a_change_of_state_ends_neither_cache_nor_adapter(os: MemOS) -> None:
    ids = [tell(os, WALNUTS), tell(os, BOAT)]
    os.promote(ids[0], "activation")
    made = adapter_of(os, ids[1])
    os.tiers.wear(made)
    read = os.tiers.residents.prefilled
    for change_state in (os.freeze, os.unfreeze):
        for id in ids:
            change_state(id)
        assert os.tick() == [] and os.tiers.residents.prefilled == read
        assert ids[0] in {one.id for one in ask(os, NUTS).used if one.tier is Tier.ACTIVATION}
        assert os.tiers.adapter(ANN, [ids[1]]) is not None
        assert os.tiers.migrator.adapter(made.id), "nor is it refused when it is loaded"
    os.update(ids[1], BOAT.replace("red", "blue"))
    assert os.tiers.adapter(ANN, [ids[1]]) is None


def test_by_hand_too_a_bundle_keeps_to_its_part_of_the_context(tmp_path: Path) -> None:
    with system(tmp_path / "m.db", tiny(max_position_embeddings=512)) as os:
        ids = [tell(os, f"{WALNUTS} Number {n} of the list.") for n in range(8)]
        with pytest.raises(BudgetError, match=r"may fill 128 of the 512 .* promote fewer"):
            os.promote(ids, "activation")
        assert not any(os.explain(id).pinned for id in ids) and os.tiers.residents.nbytes == 0
        os.promote(ids[:3], "activation")
        with pytest.raises(BudgetError, match="promote fewer"):
            os.promote(ids[3:6], "activation")
        assert os.tick() == [] and all(os.explain(id).tier is Tier.ACTIVATION for id in ids[:3])
        assert Reason.CONTEXT.value == "CONTEXT"


def test_promoting_twice_at_once_is_promoting_once(os: MemOS) -> None:
    id = tell(os, WALNUTS)
    os.promote([id, id], "activation")
    assert [one.id for one in os.tiers.residents.members("default/ann/*")] == [id]


def test_what_expired_can_be_explained_and_demoted_but_not_read(os: MemOS) -> None:
    id = tell(os, WALNUTS)
    os.promote(id, "activation")
    assert os.explain(id).text == WALNUTS
    cube = os.store.get(id)
    assert cube is not None
    change(os, id, expires=cube.header.created - timedelta(days=1))
    told = os.explain(id)
    assert told.pinned and told.text == ""
    os.demote(id)
    assert os.explain(id).tier is Tier.TEXT and not os.explain(id).pinned
    stranger = as_one(os, Principal(user="bob"))
    for verb in (stranger.explain, stranger.demote, stranger.scope_of):
        with pytest.raises(NotFound):
            verb(id)


def test_explaining_needs_no_model(tmp_path: Path, lm: CausalLM) -> None:
    def none() -> CausalLM:
        raise AssertionError("the model was loaded")

    path, clock = tmp_path / "m.db", Clock()
    with system(path, lm, clock=clock) as os:
        ids = [tell(os, WALNUTS), tell(os, BOAT), tell(os, "Ann rows on Sundays.")]
        ask(os, NUTS)
        adapter_of(os, ids[1])
        os.promote(ids[0], "activation")
        os.tiers.save(ANN)
        live = [os.explain(id) for id in ids]
    with system(path, none, clock=clock) as os:  # type: ignore[arg-type]
        assert [os.explain(id) for id in ids] == [replace(live[0]), replace(live[1], tier=Tier.PARAMETER), live[2]]
        os.update(ids[0], "Ann is allergic to nothing.")
        os.update(ids[1], "The boat of Ann is called Nettle.")
        assert [os.explain(id).tier for id in ids] == [Tier.TEXT] * 3


def test_demoting_under_another_model_ends_the_adapter_too(os: MemOS) -> None:
    id = tell(os, WALNUTS)
    made = adapter_of(os, id)
    path = os.memory.store.path  # type: ignore[attr-defined]
    with system(path, tiny(seed=7)) as other:
        other.demote(id)
    ended = os.store.get(made.id)
    assert ended is not None and ended.header.superseded is not None
    with system(path, tiny()) as again:
        assert again.explain(id).tier is Tier.TEXT, "not even as it is kept"
        assert ask(again, NUTS).tiers == (Tier.TEXT,)


def test_teaching_in_a_second_process_takes_it_out_of_the_kept_bundle(
    tmp_path: Path, lm: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.db"
    with system(path, lm) as os:
        id = tell(os, WALNUTS)
        os.promote(id, "activation")
        os.tiers.save(ANN)
    with system(path, lm) as os:
        made = adapter_of(os, id)
        done = Migration("distil", ((id, 1),), made, 0.0, 0, 0, 1.0, 0.9)
        monkeypatch.setattr(os.tiers.migrator, "to_parameter", lambda _ids, **_: done)
        assert os.promote(id, "parameter") is done
        assert os.tiers.save(ANN) is None and os.explain(id).tier is Tier.PARAMETER
        assert ask(os, NUTS).tiers == (Tier.PARAMETER,)


def test_reading_out_an_adapter_leaves_none_behind(os: MemOS) -> None:
    id = tell(os, WALNUTS)
    made = adapter_of(os, id)
    os.tiers.migrator.to_text(made.id, [NUTS])
    assert os.tiers.migrator.adapters.names == []
    worn = os.tiers.wear(made)
    os.tiers.migrator.to_text(made.id, [NUTS])
    assert os.tiers.migrator.adapters.names == [worn.name], "one that is worn stays"


def test_an_answer_that_ends_after_a_forget_brings_nothing_back(os: MemOS) -> None:
    id = tell(os, WALNUTS)
    cube = os.store.get(id)
    assert cube is not None
    os.forget(id)
    os.tiers.called(ANN, [cube], [cube])
    assert os.tiers.holding([id]) == []


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), OSError("disk full"), MemoryError("no room")])
def test_running_goes_on_after_what_the_machine_throws(
    os: MemOS, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from threading import Event

    again, calls = Event(), []

    def work(**_: object) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise error
        again.set()

    monkeypatch.setattr(os.upkeep, "ripple", work)
    with caplog.at_level(logging.WARNING), os.running(0.01):
        assert again.wait(30)
    assert str(error) in caplog.text
