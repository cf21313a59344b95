"""MemOS as a whole: every verb asks governance, forgetting reaches every file, and each form moves and comes back."""

from __future__ import annotations

import logging
import random
import string
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from memos_systems import MINUTE, Clock, ask, system, tell, tiny

from lamina import Memory, MemOS
from lamina.bench.synthetic import WordVectors
from lamina.cube import file as cube_file
from lamina.cube.cube import Header, Lineage, MemCube, Policy, Scope, State, now
from lamina.cube.payload import TextPayload
from lamina.errors import LaminaError, NotFound, NotPermitted, RateLimited
from lamina.kernel.governance import Principal
from lamina.kernel.governing import traces
from lamina.kernel.governing.limits import Rate, RateLimits
from lamina.kernel.pipelines.pipeline import Pipeline
from lamina.kernel.pipelines.reading_steps import Retrieve
from lamina.kernel.pipelines.writing_steps import Add, Update
from lamina.kernel.reading.calls import MemoryCall
from lamina.kernel.tiering.decisions import Tier
from lamina.parameter.distillation import fresh
from lamina.store.base import Write

pytestmark = pytest.mark.model
ANN = Scope(user="ann")
FACT = "Ann is allergic to walnuts and to every other kind of nut, as a doctor found out last summer."
QUESTION = "What is Ann allergic to?"


@pytest.fixture
def os(tmp_path: Path) -> Iterator[MemOS]:
    with system(tmp_path / "m.db", tiny()) as made:
        yield made


def as_user(os: MemOS, user: str, **more: object) -> MemOS:
    return MemOS(os.memory, model=os.tiers.lm, principal=Principal(user=user, **more))  # type: ignore[arg-type]


def needle(seed: int) -> str:
    return "".join(random.Random(seed).choices(string.ascii_lowercase + string.digits, k=32))


def test_forgetting_reaches_text_cache_adapter_and_every_file(os: MemOS, tmp_path: Path) -> None:
    word = needle(1)
    id = tell(os, f"The secret of Ann is {word}, and nobody else knows it.")
    kept = tell(os, FACT)
    os.update(id, f"The secret of Ann is still {word}.")
    os.promote([id, kept], "activation")
    assert ask(os, "What is the secret?").tiers == (Tier.ACTIVATION,)
    bundle = os.tiers.save(ANN)
    cache = os.tiers.migrator.to_activation([id, kept]).cube
    payload = fresh(os.tiers.lm, ("q_proj",), 2, 4.0, torch.Generator()).to_payload(os.tiers.lm.fingerprint)
    adapter = MemCube(Header(scope=ANN, kind="parameter", lineage=Lineage(((id, 2),), "distil")), payload)
    with os.store.transaction() as tx:
        tx.insert([Write(adapter)])
    os.tiers.wear(adapter)
    assert bundle is not None and cache is not None
    values = cache.payload.tensors["layer.001.value"].data  # type: ignore[union-attr]
    tensors = [bytes(values)[:64], bytes(payload.tensors[min(payload.tensors)].data)]
    everything = [id, bundle.id, cache.id, adapter.id]
    before = traces.verify(os.store, [word, *tensors], everything, caches=[os.tiers])
    assert {trace.tier for trace in before.traces} >= {"rows", "blobs", "caches"}
    assert any(word.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    receipt = os.forget(id)
    assert set(everything) <= set(receipt.ids) and receipt.kinds["activation"] == 2 and receipt.kinds["parameter"] == 1
    assert traces.verify(os.store, [word, *tensors], everything, caches=[os.tiers]).traces == ()
    assert not any(word.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    reply = ask(os, "What is the secret?")
    assert {used.id for used in reply.used} <= {kept} and word not in reply.text
    assert [(one.cube, str(one.reason)) for one in os.tick()] == [(kept, "PIN")], "the bundle is made again without it"
    assert os.store.verify() == []


def test_a_user_reaches_nothing_of_another(os: MemOS) -> None:
    id = tell(os, FACT)
    os.promote(id, "activation")
    bob = as_user(os, "bob")
    assert bob.recall("walnuts", user_id="ann") == []
    assert bob.recall(MemoryCall(text="walnuts", caller="user:bob", scope=ANN, anchor=now())) == []
    for verb in (bob.retract, bob.archive, bob.freeze, bob.demote, bob.explain, bob.scope_of, bob.forget, bob.restore):
        with pytest.raises(NotFound):
            verb(id)
    with pytest.raises(NotFound):
        bob.update(id, "Ann eats everything.")
    with pytest.raises(NotFound):
        bob.promote(id, "activation")
    assert bob.log(id) == [] and bob.as_of(id, now()) is None
    with pytest.raises(NotFound):
        bob.feedback(id, good=False)
    with pytest.raises(NotPermitted, match="may not write"):
        tell(bob, "Ann owes Bob a boat.", "ann")
    assert tell(bob, "Bob rows.", "bob") and os.store.get(id).text == FACT  # type: ignore[union-attr]


def test_another_tenant_is_another_world(os: MemOS) -> None:
    tell(os, FACT)
    stranger = MemOS(
        os.memory, model=os.tiers.lm, principal=Principal("elsewhere", "ann", roles=frozenset({"admin", "governance"}))
    )
    assert stranger.recall("walnuts", user_id="ann") == []
    assert stranger.recall(MemoryCall(text="walnuts", caller="user:ann", scope=ANN, anchor=now())) == []
    with pytest.raises(NotPermitted):
        tell(stranger, "planted")


def test_ten_thousand_random_asks_across_users_leak_nothing(os: MemOS) -> None:
    users = [f"user{n}" for n in range(12)]
    mine = {user: {tell(os, f"{user} keeps the number {n} in the drawer.", user) for n in range(3)} for user in users}
    shared = tell(os, "The office closes at six.", users[0])
    cube = os.store.get(shared)
    assert cube is not None
    opened = MemCube(Header(scope=Scope(user=users[0]), policy=Policy(read=("user:user1",))), cube.payload)
    with os.store.transaction() as tx:
        tx.insert([Write(opened)])
    everything = sorted({*set().union(*mine.values()), shared, opened.id})
    guards = {user: as_user(os, user)._guard for user in users}
    rng = random.Random(0)
    for _ in range(10_000):
        user, id = rng.choice(users), rng.choice(everything)
        allowed = id in mine[user] or (user == users[0] and id in (shared, opened.id))
        allowed |= user == "user1" and id == opened.id
        assert (guards[user].get(id) is not None) == allowed


def test_the_past_can_be_read_and_brought_back(os: MemOS) -> None:
    id = tell(os, FACT)
    before = now()
    os.update(id, "Ann is allergic to nothing.")
    assert os.as_of(id, before).text == FACT and os.as_of(id, now()).header.version == 2  # type: ignore[union-attr]
    assert os.as_of(id, before - timedelta(days=1)) is None
    again = os.restore(id, version=1)
    assert (again.text, again.header.version) == (FACT, 3), "a version is added, none is overwritten"
    assert [hit.cube.text for hit in os.recall("walnuts", user_id="ann")] == [FACT]
    os.retract(id)
    assert os.as_of(id, now()) is None and os.recall("walnuts", user_id="ann") == []
    assert os.as_of(id, before).text == FACT  # type: ignore[union-attr]


def test_feedback_confirms_corrects_or_retracts(os: MemOS) -> None:
    right, wrong, bad = (tell(os, f"{word}: {FACT}") for word in ("one", "two", "three"))
    assert os.feedback(right, good=True).header.state is State.ACTIVE
    assert os.feedback(wrong, good=False, correction="Ann eats nuts.").text == "Ann eats nuts."
    assert os.feedback(bad, good=False).header.superseded is not None
    assert {hit.cube.id for hit in os.recall("Ann nuts", user_id="ann")} == {right, wrong}


def test_a_pipeline_writes_all_or_nothing(os: MemOS) -> None:
    id = tell(os, FACT)
    done = os.run(
        Pipeline([Add(text="Ann has a boat."), Update(ids=(id,), text="Ann eats nuts.", mode="overwrite")]),
        user_id="ann",
    )
    assert done.error is None and len(done.written) == 2 and os.store.get(id).text == "Ann eats nuts."  # type: ignore[union-attr]
    failed = os.run(Pipeline([Add(text="Ann has a car."), Update(ids=("none",), text="x")]), user_id="ann")
    assert failed.error is not None and failed.written == ()
    assert [hit.cube.text for hit in os.recall("Ann car", user_id="ann") if "car" in hit.cube.text] == []


def test_running_ticks_in_the_background_survives_an_error_and_stops(
    os: MemOS, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tell(os, FACT)
    for _ in range(3):
        ask(os, QUESTION)
    ticked, tick, first = threading.Event(), os.tick, [True]

    def once_broken() -> object:
        if first.pop() if first else False:
            raise LaminaError("the disk was full")
        made = tick()
        ticked.set()
        return made

    monkeypatch.setattr(os, "tick", once_broken)
    with caplog.at_level(logging.WARNING), os.running(0.01):
        assert ticked.wait(30)
    assert "the disk was full" in caplog.text
    assert not [thread for thread in threading.enumerate() if thread.name == "lamina-memos"]
    assert ask(os, QUESTION).tiers == (Tier.ACTIVATION,)


def test_a_cache_goes_through_a_cube_file_and_back(os: MemOS, tmp_path: Path) -> None:
    from lamina.activation.cache import KVCube

    made = os.tiers.migrator.to_activation([tell(os, FACT)]).cube
    assert made is not None
    cube_file.write(made, tmp_path / "one.cube")
    loaded, lm = KVCube.load(tmp_path / "one.cube", tiny()), os.tiers.lm
    rest = lm.encode("And then")
    straight = list(lm.steps([*loaded.ids, *rest], 8))
    assert list(lm.steps(rest, 8, cache=loaded.attach(lm))) == straight


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(LaminaError, match="budget"):
        system(tmp_path / "m.db", tiny(), budget="lots")
    with system(tmp_path / "n.db", tiny(), clock=Clock()) as os, pytest.raises(LaminaError, match="session_id"):
        os.chat("hello", session_id="x")
    assert MINUTE == 60 * 10**9


def test_what_is_sensitive_can_be_kept_out(os: MemOS, tmp_path: Path) -> None:
    os.remember("Write to ann@example.org, my card is 4111 1111 1111 1111.", redacted=True, user_id="ann", infer=False)
    os.remember([{"role": "user", "content": "Or to bob@example.org."}], redacted=True, user_id="ann", infer=False)
    rows = os.memory.get_all(filters={"user_id": "ann"})["results"]
    assert all("example.org" not in row["memory"] and "4111" not in row["memory"] for row in rows)
    assert {label for row in rows for label in row["metadata"]["redacted"]} == {"email", "card"}
    assert not any(b"example.org" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_frozen_relative_is_not_erased_without_the_law(os: MemOS) -> None:
    row, *_ = os.remember("I live in Porto and I am allergic to walnuts.", user_id="ann")["results"]
    fact = next(one for one in os.memory.get_all(filters={"user_id": "ann"})["results"] if one["id"] != row["id"])
    os.freeze(fact["id"])
    with pytest.raises(LaminaError, match="frozen"):
        os.forget(row["id"])
    assert os.store.get(row["id"]) is not None and os.store.get(fact["id"]) is not None
    assert {row["id"], fact["id"]} <= set(os.forget(row["id"], legal_override=True).ids)


def test_verbs_of_the_kernel_mend_what_rests_on_a_memory(tmp_path: Path) -> None:
    """Notes are made of turns: one that is taken out of use or forgotten takes its note along."""
    memory = Memory(tmp_path / "notes.db", embedder=WordVectors(), pipeline="a-mem")
    with MemOS(memory, model=tiny()) as os:
        first = os.remember("The heron painted the lighthouse in June.", user_id="ann")["results"][0]["id"]
        second = os.remember("The heron sold the lighthouse in July.", user_id="ann")["results"][0]["id"]
        os.retract(first)
        os.forget(second)
        left = os.store.query(ANN, {"semantic_type": "note"}).cubes
        assert all("heron" not in cube.text for cube in left)


def test_a_reader_confirms_nothing_and_a_stranger_runs_nothing(os: MemOS) -> None:
    """What may be read is not yet one's to believe; and a role is worth nothing in another tenant."""
    shared = MemCube(Header(scope=ANN, policy=Policy(read=("user:bob",)), state=State.GENERATED), TextPayload(FACT))
    with os.store.transaction() as tx:
        tx.insert([Write(shared, os.memory.embedder.encode([FACT])[0])])
    with pytest.raises(NotPermitted):
        as_user(os, "bob").feedback(shared.id, good=True)
    assert as_user(os, "ann").feedback(shared.id, good=True).header.state is State.ACTIVE
    stranger = MemOS(os.memory, model=os.tiers.lm, principal=Principal("elsewhere", "ann", roles=frozenset({"admin"})))
    with pytest.raises(NotPermitted, match="may run nothing"):
        stranger.run(Pipeline([Retrieve()]), "Which nuts?", user_id="ann")
    for verb in (stranger.forget, stranger.explain, stranger.scope_of, stranger.freeze, stranger.unfreeze):
        with pytest.raises(NotFound):
            verb(shared.id)
    with pytest.raises(NotFound):
        stranger.feedback(shared.id, good=True)
    assert stranger.log(shared.id) == [] and stranger.as_of(shared.id, now()) is None
    os.promote(shared.id, "activation")
    reply = ask(stranger, QUESTION)
    assert reply.used == () and reply.reused == 0, "no cache of another tenant serves"


def test_verbs_are_limited_by_principal_and_action(os: MemOS) -> None:
    clock = Clock()
    limits = RateLimits({"read": Rate(2, MINUTE), "write": Rate(1, MINUTE), "forget": Rate(1, MINUTE)}, clock=clock)
    ann = MemOS(os.memory, model=os.tiers.lm, principal=Principal(user="ann"), limits=limits)
    bob = MemOS(os.memory, model=os.tiers.lm, principal=Principal(user="bob"), limits=limits)
    id = tell(ann, FACT)
    for verb in (lambda: tell(ann, "More."), lambda: ann.update(id, "Less."), lambda: ann.retract(id)):
        with pytest.raises(RateLimited, match="try again in 60 s"):
            verb()
    assert len(os.store.versions(id)) == 1, "nothing half done"
    assert ann.recall("walnuts", user_id="ann") and ask(ann, QUESTION).used
    for verb in (lambda: ann.recall("walnuts", user_id="ann"), lambda: ask(ann, QUESTION), lambda: ann.log(id)):
        with pytest.raises(RateLimited):
            verb()
    assert tell(bob, "Bob rows.", "bob"), "each for itself"
    clock.forward(MINUTE)
    assert ann.update(id, "Ann is allergic to nothing.").header.version == 2
    ann.tick()
    ann.forget(id)
    with pytest.raises(RateLimited):
        ann.forget(tell(os, FACT))
