"""Moves happen as decided and are explained; nothing stale is served to anybody who begins after a change returned."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memos_systems import DAY, MINUTE, Clock, ask, smollm2, system, tell, tiny

from lamina import MemOS
from lamina.cube.cube import Header, Lineage, MemCube, Scope
from lamina.errors import BudgetError, FrozenCube, InvalidInput, LaminaError, NotFound
from lamina.kernel.tiering.decisions import Decision, Reason, Tier, decision
from lamina.kernel.tiering.residents import bundle_name
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import Adapters
from lamina.parameter.distillation import fresh
from lamina.store.base import Write

pytestmark = pytest.mark.model
ANN = Scope(user="ann")
WALNUTS = "Ann is allergic to walnuts and to every other kind of nut, as a doctor found out last summer."
BOAT = "The boat of Ann is called Thistle, has red sails, and lies in the old harbour from May on."
NUTS, SAILS = "What kind of nut is Ann allergic to?", "Which red sails has the boat in the harbour?"


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return tiny()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def os(tmp_path: Path, lm: CausalLM, clock: Clock) -> Iterator[MemOS]:
    with system(tmp_path / "m.db", lm, clock=clock) as made:
        yield made


def adapter_of(os: MemOS, *ids: str, **header: object) -> MemCube:
    """An adapter of these memories in the store; what it has learnt is noise."""
    lora = fresh(os.tiers.lm, ("q_proj",), 2, 4.0, torch.Generator().manual_seed(len(ids)))
    payload = lora.to_payload(os.tiers.lm.fingerprint)
    parents = tuple((id, os.store.get(id).header.version) for id in ids)  # type: ignore[union-attr]
    made = MemCube(
        Header(scope=ANN, kind="parameter", access=("parameter",), lineage=Lineage(parents, "distil"), **header),  # type: ignore[arg-type]
        payload,
    )
    with os.store.transaction() as tx:
        tx.insert([Write(made)])
    return made


def reasons(decided: list[Decision]) -> list[tuple[Tier, str]]:
    return [(one.target, str(one.reason)) for one in decided]


def test_the_third_use_promotes_once_and_the_second_never(os: MemOS, clock: Clock) -> None:
    id = tell(os, WALNUTS)
    decided = []
    for _ in range(6):
        reply = ask(os, NUTS)
        decided.append(reasons(os.tick()))
        clock.forward(DAY // 4)
    assert decided == [[], [], [(Tier.ACTIVATION, "HOT_STABLE")], [], [], []]
    assert reply.tiers == (Tier.ACTIVATION,) and reply.reused > reply.read
    told = os.explain(id)
    assert told.tier is Tier.ACTIVATION and told.uses == 6 and not told.pinned and told.share == 1.0
    assert len(told.decisions) == 1 and "HOT_STABLE" in told.decisions[0] and "100% of calls" in told.decisions[0]
    assert [event.action for event in os.log(id)][-1] == "promote"


def test_what_others_talk_about_holds_nobody_back(os: MemOS, clock: Clock) -> None:
    tell(os, WALNUTS)
    tell(os, BOAT, "bob")
    for _ in range(3):
        ask(os, NUTS)
        ask(os, SAILS, "bob")
        clock.forward()
    assert {one.bundle for one in os.tick()} == {"default/ann/*", "default/bob/*"}
    for _ in range(9):  # only bob speaks
        ask(os, SAILS, "bob")
        clock.forward(2 * MINUTE)
        assert os.tick() == []


def test_unused_for_ten_half_lives_goes_back_to_text(os: MemOS, clock: Clock) -> None:
    id = tell(os, WALNUTS)
    for _ in range(3):
        ask(os, NUTS)
    assert reasons(os.tick()) == [(Tier.ACTIVATION, "HOT_STABLE")]
    clock.forward(11 * DAY)
    assert reasons(os.tick()) == [(Tier.TEXT, "COLD")]
    assert os.explain(id).tier is Tier.TEXT and os.tiers.residents.nbytes == 0


def test_an_update_is_never_answered_from_the_old_cache(os: MemOS) -> None:
    id = tell(os, WALNUTS)
    os.promote(id, "activation")
    assert ask(os, NUTS).used[0].tier is Tier.ACTIVATION
    os.update(id, WALNUTS.replace("walnuts", "hazelnuts"))
    reply = ask(os, NUTS)
    assert [(one.version, one.tier) for one in reply.used] == [(2, Tier.TEXT)] and reply.reused == 0
    assert "STALE_PARENT" in os.explain(id).decisions[0]
    assert reasons(os.tick()) == [(Tier.ACTIVATION, "PIN")], "it is held ready, so its new version is"
    assert [(one.version, one.tier) for one in ask(os, NUTS).used] == [(2, Tier.ACTIVATION)]


def test_several_versions_between_two_calls_are_all_told(os: MemOS) -> None:
    id = tell(os, WALNUTS)
    ask(os, NUTS)
    for word in ("hazelnuts", "pecans", "almonds"):
        os.update(id, WALNUTS.replace("walnuts", word))
    for _ in range(3):
        ask(os, NUTS)
    (move,) = os.tick()
    assert move.version == 4 and "v4 moved" in os.explain(id).decisions[0]


acts = st.lists(
    st.sampled_from(["ask", "update", "tick", "promote", "demote", "retract", "restore", "archive", "freeze", "save"]),
    min_size=3,
    max_size=10,
)


def test_whatever_happens_an_answer_is_of_the_newest_versions(tmp_path: Path, lm: CausalLM) -> None:
    number = iter(range(10**6))

    @settings(max_examples=12)
    @given(acts)
    def check(script: list[str]) -> None:
        with system(tmp_path / f"{next(number)}.db", lm) as os:
            ids = [tell(os, WALNUTS), tell(os, BOAT)]
            moves: dict[str, Callable[[str], object]] = {
                "ask": lambda _: None,
                "update": lambda id: os.update(id, f"{WALNUTS} Note {next(number)}."),
                "tick": lambda _: os.tick(),
                "promote": lambda id: os.promote(id, "activation"),
                "demote": os.demote,
                "retract": os.retract,
                "restore": os.restore,
                "archive": os.archive,
                "freeze": os.freeze,
                "save": lambda _: os.tiers.save(ANN),
            }
            for step, act in enumerate(script):
                with suppress(LaminaError):  # not from the state it is in
                    moves[act](ids[step % 2])
                for used in ask(os, NUTS, max_tokens=1).used:
                    newest, told = os.store.get(used.id), os.store.get(used.id, version=used.version)
                    assert newest is not None and told is not None and newest.text == told.text
                    assert newest.header.superseded is None or used.tier is Tier.TEXT
            bundle = os.tiers.bundle(ANN)
            for member in bundle.members if bundle else ():
                newest = os.store.get(member.id)
                assert newest is not None and (newest.text, newest.header.superseded) == (member.text, None)

    check()


def test_answers_of_other_threads_never_use_what_was_replaced(os: MemOS) -> None:
    id = tell(os, WALNUTS)
    replaced, wrong, answers = [1], [], [0]
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            oldest = replaced[0]
            for used in ask(os, NUTS, max_tokens=1).used:
                answers[0] += used.tier is Tier.ACTIVATION
                if used.version < oldest:
                    wrong.append((used, oldest))

    def move() -> None:
        while not stop.is_set():
            os.tick()

    threads = [threading.Thread(target=work) for work in (read, read, move)]
    os.promote(id, "activation")
    for thread in threads:
        thread.start()
    for version in range(2, 14):
        os.update(id, f"{WALNUTS} Note {version}.")
        replaced[0] = version  # from here on, nobody may begin with an older one
        os.tick()
        ask(os, NUTS, max_tokens=1)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong and answers[0] > 0


def test_frozen_memories_move_up_but_do_not_change(os: MemOS) -> None:
    id = tell(os, WALNUTS)
    os.freeze(id)
    os.promote(id, "activation")
    assert ask(os, NUTS).tiers == (Tier.ACTIVATION,)
    for change in (partial(os.update, id, "other"), partial(os.retract, id), partial(os.archive, id)):
        with pytest.raises(FrozenCube):
            change()
    assert ask(os, NUTS).tiers == (Tier.ACTIVATION,)
    os.demote(id)
    assert ask(os, NUTS).tiers == (Tier.TEXT,)


def test_the_same_words_of_two_users_are_cached_apart(os: MemOS) -> None:
    ids = {user: tell(os, WALNUTS, user) for user in ("ann", "bob", "ann/x", "*")[:3]}
    for user in ("ann", "bob"):
        for _ in range(3):
            ask(os, NUTS, user)
    moved = os.tick()
    assert len({one.bundle for one in moved}) == len(moved) == 2
    bundles = [os.tiers.bundle(Scope(user=user)) for user in ("ann", "bob")]
    tensors = [{t.data_ptr() for t in (*one.cube.keys, *one.cube.values)} for one in bundles if one is not None]
    assert len(tensors) == 2 and not tensors[0] & tensors[1]
    reply = ask(os, NUTS, "ann/x")
    assert reply.reused == 0 and [one.id for one in reply.used] == [ids["ann/x"]], "warm for others, cold for this one"
    assert {one.id for one in ask(os, NUTS).used} == {ids["ann"]}


def test_a_call_within_a_run_knows_nothing_of_other_runs(os: MemOS) -> None:
    tell(os, WALNUTS, run_id="one")
    tell(os, BOAT, run_id="two")
    everything = [cube.id for cube in os.store.query(ANN).cubes]
    os.promote(everything, "activation")
    assert len(ask(os, NUTS).used) == 2 and ask(os, NUTS).tiers == (Tier.ACTIVATION,)
    inside = ask(os, NUTS, run_id="one")
    assert inside.reused == 0 and [one.tier for one in inside.used] == [Tier.TEXT]


def test_too_little_room_is_an_error_by_hand_and_a_choice_by_policy(tmp_path: Path, lm: CausalLM) -> None:
    with system(tmp_path / "m.db", lm, budget=300_000) as os:
        ids = [tell(os, f"{WALNUTS} Number {n} of the list.") for n in range(8)]
        with pytest.raises(BudgetError, match="over the budget"):
            os.promote(ids, "activation")
        assert not any(os.explain(id).pinned or os.explain(id).tier is not Tier.TEXT for id in ids)
        for _ in range(3):
            ask(os, NUTS)
        came = [one.cube for one in os.tick()]
        assert 0 < len(came) < 8 and os.tiers.residents.nbytes <= 300_000
        before = os.tiers.residents.prefilled
        for _ in range(4):
            ask(os, NUTS)
            os.tick()
        assert os.tiers.residents.prefilled == before, "who came stays, and nothing is read in vain"
        assert {id for id in ids if os.explain(id).tier is Tier.ACTIVATION} == set(came)


def test_what_cannot_be_served_is_not_promoted(os: MemOS, clock: Clock) -> None:
    id = tell(os, WALNUTS)
    for _ in range(3):
        ask(os, NUTS)
    os.archive(id)
    assert os.tick() == [] and os.tiers.residents.prefilled == 0
    with pytest.raises(InvalidInput, match="archived"):
        os.promote(id, "activation")
    with pytest.raises(InvalidInput, match="promote to"):
        os.tiers.promote([id], Tier.TEXT)
    with pytest.raises(NotFound):
        os.tiers.promote(["none"], Tier.ACTIVATION)


def test_an_adapter_serves_while_all_it_knows_is_unchanged(os: MemOS, clock: Clock) -> None:
    ids = [tell(os, WALNUTS), tell(os, BOAT)]
    adapter_of(os, *ids)
    reply = ask(os, NUTS)
    assert {(one.id, one.tier) for one in reply.used} == {(id, Tier.PARAMETER) for id in ids}
    assert os.tiers.lm.overlay == "" and os.explain(ids[0]).tier is Tier.PARAMETER
    os.update(ids[1], BOAT.replace("red", "blue"))
    assert Tier.PARAMETER not in ask(os, NUTS).tiers, "one fact of it was superseded"
    assert (Tier.TEXT, "STALE_PARENT") in reasons(os.tick())
    assert os.explain(ids[0]).tier is Tier.TEXT and os.tiers.migrator.adapters.names == []


def test_what_expired_is_not_told_by_an_adapter_either(tmp_path: Path, lm: CausalLM) -> None:
    late = Clock()
    with system(tmp_path / "m.db", lm, clock=late) as os:
        ids = [tell(os, WALNUTS), tell(os, BOAT, expiration_date="2090-01-01")]
        adapter_of(os, *ids)
        assert os.tiers.adapter(ANN, ids[:1]) is not None
        late.forward(100 * 366 * DAY)
        assert os.tiers.adapter(ANN, ids[:1]) is None


def test_demoting_ends_the_adapter_for_later_processes_too(os: MemOS) -> None:
    ids = [tell(os, WALNUTS), tell(os, BOAT)]
    made = adapter_of(os, *ids)
    assert ask(os, NUTS).tiers == (Tier.PARAMETER,)
    os.demote(ids[0])
    assert ask(os, NUTS).tiers == (Tier.TEXT,) and os.explain(ids[1]).tier is Tier.TEXT
    ended = os.store.get(made.id)
    assert ended is not None and ended.header.superseded is not None


def test_cold_weights_are_taken_off_when_none_of_them_is_used(os: MemOS, clock: Clock) -> None:
    ids = [tell(os, WALNUTS), tell(os, BOAT)]
    adapter_of(os, *ids)
    assert ask(os, NUTS).tiers == (Tier.PARAMETER,)
    clock.forward(30 * DAY)
    assert reasons(os.tick()) == [(Tier.TEXT, "COLD")] * 2
    assert os.tiers.migrator.adapters.names == [] and ask(os, NUTS).tiers == (Tier.TEXT,)


def test_a_refused_lesson_is_not_repeated_at_once(os: MemOS, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [tell(os, WALNUTS), tell(os, BOAT)]
    ask(os, NUTS)
    monkeypatch.setattr(os.tiers.migrator, "to_parameter", partial(os.tiers.migrator.to_parameter, steps=1))
    known = [os.tiers._account.ledger[id] for id in ids]
    wanted = [decision(one, Tier.PARAMETER, Reason.HOT_STABLE, clock.now) for one in known]
    (refused,) = os.tiers.consolidate(wanted)
    assert refused.cube is None and "fidelity" in refused.reason
    assert "refused" in os.explain(ids[0]).decisions[0] and os.tiers.migrator.adapters.names == []
    assert os.tiers.consolidate(wanted) == []
    monkeypatch.setattr(os.tiers.migrator, "to_parameter", lambda _ids, **_: refused)
    clock.forward(DAY)
    assert os.tiers.consolidate(wanted) == [refused]
    clock.forward(DAY)
    assert os.tiers.consolidate(wanted) == [], "twice as long after the second"


def test_other_weights_tokenizer_or_template_find_nothing(os: MemOS, tmp_path: Path) -> None:
    id = tell(os, WALNUTS)
    os.promote(id, "activation")
    adapter_of(os, id)
    os.tiers.save(ANN)
    template = CausalLM(os.tiers.lm.model, _templated(), "template")
    for number, other in enumerate((tiny(seed=1), tiny(hidden_size=64), template)):
        with system(os.memory.store.path, other) as again:  # type: ignore[attr-defined]
            reply = ask(again, NUTS)
            assert reply.reused == 0 and reply.tiers == (Tier.TEXT,), number
    with system(os.memory.store.path, tiny()) as again:  # type: ignore[attr-defined]
        assert Tier.TEXT not in ask(again, NUTS).tiers


def _templated() -> object:
    from copy import deepcopy

    other = deepcopy(smollm2().tokenizer)
    other.chat_template = str(other.chat_template).replace("<|im_start|>", "<|im_start|> ")
    return other


def test_forgetting_reaches_all_that_is_held_here(os: MemOS) -> None:
    ids = [tell(os, WALNUTS), tell(os, BOAT)]
    os.promote(ids, "activation")
    ask(os, NUTS)
    made = adapter_of(os, *ids)
    os.tiers.wear(made)
    assert set(os.tiers.holding([*ids, made.id])) == {*ids, made.id}
    receipt = os.forget(ids[0])
    assert made.id in receipt.ids and receipt.caches == ("tiers",)
    assert os.tiers.holding([ids[0], made.id]) == [] and os.tiers.residents.nbytes == 0
    assert isinstance(os.tiers.migrator.adapters, Adapters) and os.tiers.migrator.adapters.names == []
    assert os.explain(ids[1]).pinned and reasons(os.tick()) == [(Tier.ACTIVATION, "PIN")]
    assert [member.id for member in os.tiers.residents.members(bundle_name(ANN))] == [ids[1]]
    with pytest.raises(NotFound):
        os.explain(ids[0])
