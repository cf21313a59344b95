"""What is out of date, there twice or misfiled is counted, per user, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Claim, Header, MemCube, Scope
from lamina.cube.payload import TextPayload
from lamina.store.base import Write
from lamina.store.sqlite import SqliteStore
from lamina.text.policy.report import explain

AT = datetime(2024, 3, 1, tzinfo=UTC)


def _cube(text: str, day: int, slot: str | None = None, value: str | None = None, **header: object) -> MemCube:
    fields = {"scope": Scope(user="alice"), "recorded": AT + timedelta(days=day), "semantic_type": "fact"} | header
    return MemCube(Header(claim=Claim("Alice", slot, value), **fields), TextPayload(text))  # type: ignore[arg-type]


def test_stale_duplicate_and_misfiled_memories_are_counted(tmp_path: Path) -> None:
    cubes = [
        _cube("Alice lives in Boston.", 0, "residence", "boston"),  # stale
        _cube("Alice lives in Denver.", 2, "residence", "denver"),
        _cube("Alice lives in Denver now.", 1, "residence", "denver"),  # a duplicate, but not stale
        _cube("Alice likes tea.", 0, "likes", "tea"),
        _cube("Alice likes coffee.", 1, "likes", "coffee"),  # of these one may have many
        _cube("Alice ran.", 0, semantic_type="event"),  # misfiled: no time
        _cube("Alice swam.", 0, semantic_type="event", valid_from=AT),
        _cube("Alice swam.", 9, semantic_type="event", valid_from=AT + timedelta(days=8)),  # another time
        _cube("Alice is tall.", 0, "height", "tall", semantic_type="persona"),
        _cube("Boris lives in Oslo.", 0, "residence", "oslo", scope=Scope(user="boris")),
        MemCube(Header(semantic_type="turn", scope=Scope(user="alice")), TextPayload("I live in Denver.")),
    ]
    with SqliteStore(tmp_path / "r.db", embedder="x") as store:
        vectors = WordVectors().encode([cube.text for cube in cubes])
        with store.transaction() as tx:
            tx.insert([Write(cube, vector) for cube, vector in zip(cubes, vectors, strict=True)])
        alice, boris = explain(store, Scope())
        assert explain(store, Scope(user="nobody")) == []
        with store.transaction() as tx:
            tx.close(cubes[0].id, at=AT + timedelta(days=20))
        assert explain(store, Scope(user="alice"))[0].stale == 0
    assert (alice.user, alice.memories, alice.stale, alice.duplicates) == ("alice", 9, 1, 1)
    assert (alice.stale_rate, alice.duplicate_rate) == (1 / 9, 1 / 9)
    assert alice.precision == {"event": 2 / 3, "fact": 1.0, "persona": 1.0}
    assert (boris.user, boris.memories, boris.stale) == ("boris", 1, 0)
