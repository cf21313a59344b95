"""What was forgotten is in no table for any reader, and after ``VACUUM FULL`` in no file of the tables."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from contracts.postgres import PostgresServer
from contracts.store import ALICE, cube, insert, revise, unit
from lamina.cube.cube import Claim, Header, Lineage, MemCube, Utterance, now
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.store.base import Edge, Write
from lamina.store.postgres import PostgresStore

WORDS = [f"zq{n}canary" for n in range(10)]
TABLES = ("cubes", "parents", "vectors", "words", "blobs", "gone", "meta", "log", "edges")


def test_every_form_of_a_memory_goes(postgres: PostgresServer, postgres_url: str) -> None:
    database = urlsplit(postgres_url).path[1:]
    w = WORDS
    payload = TensorPayload.from_numpy(
        {"k": np.arange(3000, dtype=np.float32) + 0.125}, Fingerprint("a", "w", "t", "f")
    )
    with PostgresStore(postgres_url) as store:
        insert(store, other := cube("bystander"))
        secret = cube(
            f"first {w[0]}", metadata={w[1]: [w[2]]}, tags=(w[3],), keywords=(w[4],), entities=(w[5],),
            claim=Claim(w[6], w[7]), utterance=Utterance(w[8], 0, "me", "user"),
        )  # fmt: skip
        cache = MemCube(Header(scope=ALICE, kind="activation", lineage=Lineage(((secret.id, 1),))), payload)
        with store.transaction() as tx:
            tx.insert([Write(secret, unit(1)), Write(cache)])
            tx.connect([Edge(source=secret.id, target=other.id, relation=w[9], recorded=now())])
            tx.close(cache.id, at=now())
        revise(store, secret, f"second {w[0]}")
        needles = [word.encode() for word in w] + [payload.tensors["k"].numpy().tobytes()[:64]]
        assert rows_with(postgres, database, "canary") > 0
        postgres.run("CHECKPOINT")
        assert len(found(postgres, database, needles)) == len(needles), "the search finds what is there"
        with store.transaction() as tx:
            assert set(tx.forget([secret.id])) == {secret.id, cache.id}
        assert rows_with(postgres, database, "canary") == 0
        assert postgres.run("SELECT count(*) FROM lamina.blobs", database=database) == [(0,)]
        assert store.get(other.id) == other and store.verify() == []
        postgres.run(*(f"VACUUM FULL lamina.{table}" for table in TABLES), "CHECKPOINT", database=database)
        assert found(postgres, database, needles) == set()


def rows_with(postgres: PostgresServer, database: str, word: str) -> int:
    sql = " UNION ALL ".join(f"SELECT t::text AS row FROM lamina.{table} t" for table in TABLES)
    ((count,),) = postgres.run(f"SELECT count(*) FROM ({sql}) r WHERE row LIKE '%{word}%'", database=database)
    return int(count)


def found(postgres: PostgresServer, database: str, needles: list[bytes]) -> set[bytes]:
    """Which needles are in the files of the database."""
    ((oid,),) = postgres.run(f"SELECT oid::text FROM pg_database WHERE datname = '{database}'")
    files = [path.read_bytes() for path in (Path(postgres.folder) / "base" / oid).iterdir() if path.is_file()]
    return {needle for needle in needles if any(needle in data for data in files)}
