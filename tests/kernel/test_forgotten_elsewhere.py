"""Two processes over one store: what one forgets, the other never serves again, and lets go of at its next call."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from memos_systems import ask, system, tell, tiny

from lamina import Memory, MemOS
from lamina.cube.cube import Header, Lineage, MemCube, Scope
from lamina.cube.payload import TextPayload
from lamina.errors import LaminaError
from lamina.kernel.governing.elsewhere import Elsewhere
from lamina.kernel.tiering import saved
from lamina.llm.base import Embedder
from lamina.llm.embed import MiniLM
from lamina.parameter.distillation import fresh
from lamina.store.base import Write

pytestmark = pytest.mark.model
ANN = Scope(user="ann")
SECRET = "Ann hides the key of her bicycle under the third flower pot from the left."
KEPT = "Ann is allergic to walnuts and to every other kind of nut, as a doctor found out."

FORGET = """
import sys
from lamina import Memory
from lamina.bench.synthetic import WordVectors

with Memory(sys.argv[1], embedder=WordVectors()) as memory:
    memory.forget(sys.argv[2])
"""


@pytest.fixture
def os(tmp_path: Path) -> Iterator[MemOS]:
    with system(tmp_path / "m.db", tiny()) as made:
        yield made


def forget_elsewhere(os: MemOS, id: str) -> None:
    subprocess.run([sys.executable, "-c", FORGET, str(os.store.path), id], check=True, timeout=60)  # type: ignore[attr-defined]


def wear(os: MemOS, *parents: str) -> None:
    """An adapter made of these memories, in use."""
    payload = fresh(os.tiers.lm, ("q_proj",), 2, 4.0, torch.Generator()).to_payload(os.tiers.lm.fingerprint)
    lineage = Lineage(tuple((id, 1) for id in parents), "distil")
    cube = MemCube(Header(scope=ANN, kind="parameter", lineage=lineage), payload)
    with os.store.transaction() as tx:
        tx.insert([Write(cube)])
    os.tiers.wear(cube)


def storages(os: MemOS) -> list[Any]:
    """Weak references to every tensor that was made of ann's memories."""
    bundle = os.tiers.residents.get("default/ann/*")
    assert bundle is not None
    tensors = [*bundle.cube.keys, *bundle.cube.values, bundle.cube.logits]
    for lora, _ in os.tiers.migrator.adapters._known.values():
        tensors += lora.parameters
    return [weakref.ref(tensor.untyped_storage()) for tensor in tensors]


CALLS: dict[str, Callable[[MemOS, str], Any]] = {
    "tick": lambda os, kept: os.tick(),
    "the owner asks": lambda os, kept: ask(os, "Where is the key of the bicycle?"),
    "another user asks": lambda os, kept: ask(os, "What is new?", "bob"),
    "another user tells": lambda os, kept: tell(os, "Bob rows.", "bob"),
    "a memory that stays is explained": lambda os, kept: os.explain(kept),
}


@pytest.fixture
def secret(os: MemOS) -> str:
    return tell(os, SECRET)


@pytest.fixture
def kept(os: MemOS, secret: str) -> str:
    """Another memory; the two stand in one bundle, and one adapter was made of both."""
    kept = tell(os, KEPT)
    os.promote([kept, secret], "activation")
    wear(os, secret, kept)
    os.recall("key", user_id="ann")
    return kept


@pytest.mark.parametrize("call", CALLS)
def test_what_another_process_forgets_is_gone_after_the_next_call(os: MemOS, secret: str, kept: str, call: str) -> None:
    made_of_it, index = storages(os), weakref.ref(os.memory.indexes.get(os.store, ANN))
    forget_elsewhere(os, secret)
    assert os.tiers.holding([secret]) == [secret], "nobody told this process"
    CALLS[call](os, kept)
    assert os.tiers.holding([secret]) == [] and os.tiers.migrator.adapters.names == []
    gc.collect()
    assert [ref for ref in (*made_of_it, index) if ref() is not None] == []


def test_the_embedder_keeps_no_vector_of_it(tmp_path: Path, minilm: Embedder) -> None:
    embedder = MiniLM()
    with MemOS(Memory(tmp_path / "m.db", embedder=embedder), model="none") as os:
        id = tell(os, SECRET)
        assert len(embedder._cache) > 0
        script = FORGET.replace("WordVectors()", "None")
        subprocess.run([sys.executable, "-c", script, str(os.store.path), id], check=True, timeout=60)  # type: ignore[attr-defined]
        assert os.heed() == [id] and len(embedder._cache) == 0
        assert os.recall("Where do I live?", user_id="ann") == []


def test_nothing_of_it_is_served_even_before_that(os: MemOS, secret: str, kept: str) -> None:
    """Versions are compared when a form is attached, whether or not the news has come."""
    assert os.tiers.adapter(ANN, [kept]) is not None
    forget_elsewhere(os, secret)
    assert os.tiers.adapter(ANN, [kept]) is None, "an adapter cannot leave out a part"
    bundle = os.tiers.bundle(ANN)
    assert bundle is None or secret not in {member.id for member in bundle.members}
    reply = ask(os, "Where is the key of the bicycle?")
    assert secret not in {used.id for used in reply.used}


def test_a_cache_made_meanwhile_does_not_bring_it_back_into_the_store(os: MemOS, secret: str, kept: str) -> None:
    bundle = os.tiers.bundle(ANN)
    assert bundle is not None and len(bundle.members) == 2
    forget_elsewhere(os, secret)
    assert saved.save(os.store, ANN, bundle) is None
    assert os.store.query(ANN, {"kind": "activation"}).cubes == []
    with pytest.raises(LaminaError, match="changed while it was moved"):
        # What a prefill that began before would do at its end.
        texts = [cube for id in (kept,) if (cube := os.store.get(id)) is not None]
        gone = MemCube(Header(id=secret, scope=ANN), TextPayload(SECRET))
        os.tiers.migrator._kept("prefill", [*texts, gone], None, 0.0, 1, 1, 1.0, 0.9, "")


def test_news_come_once_and_cost_one_read_when_there_are_none(os: MemOS, secret: str) -> None:
    other = tell(os, KEPT)
    os.heed()
    follower = Elsewhere(os.store)
    forget_elsewhere(os, other)
    assert follower.news() == os.heed() == [other]
    assert follower.news() == os.heed() == []
    os.promote(secret, "activation")
    assert os.tiers.save(ANN) is not None and os.tiers.save(ANN) is not None
    assert follower.news() == [], "a bundle that a newer one replaced was a copy of what is still there"
    os.forget(secret)
    assert secret in follower.news() and os.heed() == []


def test_who_serves_in_the_background_lets_go_without_being_called(os: MemOS, secret: str, kept: str) -> None:
    with os.running(interval=0.01):
        forget_elsewhere(os, secret)
        while os.tiers.holding([secret]):  # ends, or the test times out
            time.sleep(0.01)
    assert os.tiers.migrator.adapters.names == []


def test_another_door_of_this_process_is_heard_too(os: MemOS, secret: str, kept: str) -> None:
    os.memory.forget(secret)
    assert os.tiers.holding([secret]) == [secret]
    assert secret in os.heed()
    assert os.tiers.holding([secret]) == []


def test_the_receipt_says_what_goes_later_and_what_never(os: MemOS, secret: str, kept: str) -> None:
    told = " ".join(os.forget(secret).told)
    assert "1 of text" in told and "caches of this process: tiers" in told
    assert "next call or tick" in told and "Out of reach: backups" in told
