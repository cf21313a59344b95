"""How many rows the cached indexes hold together is counted, not added up at each search, and the count is exact."""

from __future__ import annotations

import random
from pathlib import Path

from contracts.store import cube, insert
from lamina.cube.cube import Scope
from lamina.store.index import IndexCache
from lamina.store.sqlite import SqliteStore


def test_the_count_is_that_of_all_indexes_and_keeps_to_the_bound(tmp_path: Path) -> None:
    rng = random.Random(0)
    scopes = [Scope(user=f"u{n}") for n in range(8)]
    cache = IndexCache(max_rows=40)
    evicted = 0
    with SqliteStore(tmp_path / "m.db") as store:
        for step in range(250):
            scope = rng.choice(scopes)
            if rng.random() < 0.4:
                insert(store, cube(f"text {step}", scope=scope))
            index = cache.get(store, scope)
            assert len(index) == len(store.query(scope, limit=1000).cubes)
            held = [known for _, known in cache._indexes.values()]
            assert index in held and cache._rows == sum(map(len, held))
            assert cache._rows <= 40 or len(held) == 1
            evicted += len(held) < len(scopes) and step > 150
            if rng.random() < 0.02:
                cache.drop(store)
                assert cache._rows == 0 and not cache._held
    assert evicted > 20
