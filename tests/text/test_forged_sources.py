"""A memory that names somebody else's turn as its source gives no hold on that turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lamina import Memory
from lamina.cube.cube import Header, MemCube, Provenance, Scope, Source
from lamina.cube.payload import TextPayload
from lamina.llm.base import Embedder
from lamina.settings import Settings
from lamina.store.base import Write
from lamina.store.sqlite import SqliteStore

pytestmark = pytest.mark.model

VERBS: list[Callable[[Memory, str], object]] = [
    lambda memory, id: memory.forget(id),
    lambda memory, id: memory.delete(id),
    lambda memory, id: memory.update(id, "Something quite different."),
    lambda memory, id: memory.reset(),
]


@pytest.mark.parametrize("verb", VERBS, ids=["forget", "delete", "update", "reset"])
def test_another_tenants_turn_stays(tmp_path: Path, minilm: Embedder, verb: Callable[[Memory, str], object]) -> None:
    with SqliteStore(tmp_path / "m.db", embedder=minilm.name) as store:
        victim = Memory(store=store, embedder=minilm, settings=Settings(tenant="acme"))
        attacker = Memory(store=store, embedder=minilm, settings=Settings(tenant="evil"))
        turn = victim.add("I live in Lyon.", user_id="ada", infer=False)["results"][0]["id"]
        header = Header(
            kind="text",
            scope=Scope(tenant="evil", user="eve"),
            provenance=Provenance(sources=(Source(turn, 0, 4),)),
        )
        forged = MemCube(header, TextPayload("I said so."))
        with store.transaction() as tx:
            tx.insert([Write(forged, minilm.encode(["I said so."])[0])])
        verb(attacker, forged.id)
        kept = victim.get(turn)
        assert kept is not None and kept["memory"] == "I live in Lyon."
        assert [row["id"] for row in victim.get_all(filters={"user_id": "ada"})["results"]] == [turn]
