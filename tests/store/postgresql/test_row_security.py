"""Row-level security: behind the application's filters stands a wall that raw SQL meets as well."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import pytest
from psycopg.errors import InsufficientPrivilege, RaiseException

from contracts.postgres import PostgresServer
from contracts.store import cube, insert, revise, unit
from lamina.cube.cube import Header, Lineage, MemCube, Scope, now
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import Conflict, InvalidInput, NotFound, NotPermitted, StoreUnavailable
from lamina.store.base import Edge, Write
from lamina.store.postgres import PostgresStore
from lamina.store.postgresql.schema import APP, OPERATOR

ACME, OTHER = Scope("acme", "ann"), Scope("other", "bob")
TABLES = ("cubes", "vectors", "words", "blobs", "gone", "log", "edges", "parents")


def tensors(scope: Scope, parent: MemCube) -> MemCube:
    payload = TensorPayload.from_numpy({"k": np.ones(8, np.float32)}, Fingerprint("a", "w", "t", "f"))
    return MemCube(Header(scope=scope, kind="activation", lineage=Lineage(((parent.id, 1),))), payload)


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    """All tenants; each of two has a row or more in every table."""
    with PostgresStore(postgres_url) as store:
        for scope in (ACME, OTHER):
            one, two, gone = (cube(f"{name} of {scope.tenant}", scope=scope) for name in ("one", "two", "gone"))
            with store.transaction() as tx:
                tx.insert([Write(one, unit(1)), Write(two, unit(2)), Write(gone), Write(tensors(scope, one))])
                tx.connect([Edge(source=one.id, target=two.id, relation="knows", recorded=now())])
                tx.forget([gone.id])
        yield store


def rows(store: PostgresStore, sql: str) -> list[tuple[object, ...]]:
    return store._read(None, lambda db, _: db.execute(sql).fetchall())


@pytest.mark.parametrize("table", TABLES)
def test_raw_sql_on_the_applications_connection_sees_one_tenant(store: PostgresStore, table: str) -> None:
    count = f"SELECT count(*) FROM {table}"
    ((everything,),) = rows(store, count)
    ((mine,),) = rows(store.as_tenant("acme"), count)
    ((theirs,),) = rows(store.as_tenant("other"), count)
    assert mine == theirs > 0 and mine + theirs == everything
    assert rows(store.as_tenant("nobody"), count) == [(0,)]
    if table != "parents":
        assert rows(store.as_tenant("acme"), f"SELECT DISTINCT tenant FROM {table}") == [("acme",)]


@pytest.mark.parametrize("table", TABLES)
def test_raw_sql_changes_nothing_of_another_tenant(store: PostgresStore, table: str) -> None:
    key = {"blobs": "address", "log": "hash", "parents": "parent"}.get(table, "key")
    before = rows(store, f"SELECT * FROM {table} ORDER BY {key}")
    for sql in (f"DELETE FROM {table}", f"UPDATE {table} SET {key} = {key}"):
        try:
            with store.as_tenant("nobody").transaction() as tx:
                tx._connection.execute(sql)
        except InsufficientPrivilege:  # the log may not be changed by anybody
            assert table == "log"
    assert rows(store, f"SELECT * FROM {table} ORDER BY {key}") == before


def test_a_connection_outside_a_transaction_sees_nothing(store: PostgresStore) -> None:
    with store._server.lend() as db:
        assert [db.execute(f"SELECT count(*) FROM {table}").fetchone() for table in TABLES] == [(0,)] * len(TABLES)
        assert db.execute("SELECT current_user").fetchone() == (APP,)


def test_what_reads_cannot_write(store: PostgresStore) -> None:
    for view in (store, store.as_tenant("acme")):
        with pytest.raises(StoreUnavailable, match="read-only"):
            rows(view, "DELETE FROM cubes RETURNING key")
    assert store.stats()["memories"] == 6


def test_role_and_tenant_end_with_the_transaction(store: PostgresStore) -> None:
    assert rows(store, "SELECT current_user::text") == [(OPERATOR,)]
    assert rows(store.as_tenant("acme"), "SELECT current_user::text, current_setting('lamina.tenant')") == [
        (APP, "acme")
    ]
    with store._server.lend() as db:
        assert db.execute("SELECT current_setting('lamina.tenant', true)").fetchone() == ("",)


def test_the_roles_own_nothing_and_stand_above_nobody(store: PostgresStore) -> None:
    powers = "rolsuper, rolbypassrls, rolcanlogin, rolcreaterole"
    sql = f"SELECT {powers} FROM pg_roles WHERE rolname IN ('{APP}', '{OPERATOR}')"
    assert rows(store, sql) == [(False,) * 4] * 2
    owned = "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE rolname LIKE 'lamina%'"
    assert rows(store, owned) == [(0,)]
    forced = "SELECT relname::text FROM pg_class WHERE relrowsecurity AND relforcerowsecurity ORDER BY 1"
    assert [name for (name,) in rows(store, forced)] == sorted(TABLES)


def test_a_store_of_one_tenant_knows_no_other(store: PostgresStore) -> None:
    (theirs, *_), mine = store.query(OTHER).cubes, store.as_tenant("acme")
    assert mine.get(theirs.id) is None and mine.versions(theirs.id) == [] and mine.vector(theirs.id) is None
    assert mine.query(OTHER).cubes == [] and list(mine.changes(OTHER)) == [] and mine.match("other", OTHER) == []
    assert mine.edges(OTHER) == [] and mine.scopes("other") == [] and mine.neighbours(unit(1), OTHER) == []
    assert list(mine.events(cube=theirs.id)) == []
    assert len(mine.query(ACME).cubes) == 3 and mine.stats()["memories"] == 3
    with pytest.raises(NotFound), mine.transaction() as tx:
        tx.close(theirs.id, at=now())
    with mine.transaction() as tx:
        assert tx.forget([theirs.id]) == []
    with pytest.raises(NotPermitted, match="row-level security"):
        insert(mine, cube("smuggled", scope=OTHER))
    with pytest.raises(Conflict):
        insert(mine, cube("taken", id=theirs.id, scope=ACME))
    assert store.get(theirs.id) == theirs and store.verify() == []


def test_reads_of_a_scope_run_as_its_tenant_even_for_all(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's filter is broken on purpose: the wall behind it holds."""
    from lamina.store import reader

    monkeypatch.setattr(reader, "within", lambda scope, *, table="c": (f"{table}.tenant <> ?", ["-"]))
    assert {one.header.scope for one in store.query(ACME, closed=True).cubes} == {ACME}
    assert len(store.keys(ACME, {"kind": "text"})) == 2


def test_parts_of_a_tenant_are_its_own(store: PostgresStore) -> None:
    part, neighbour = Scope("acme:rhythm"), Scope("acmeology")
    mine = store.as_tenant("acme")
    insert(mine, one := cube("clock", scope=part))
    assert mine.get(one.id) == one
    with pytest.raises(NotPermitted):
        insert(mine, cube("x", scope=neighbour))


def test_a_refused_memory_leaves_no_tensors(store: PostgresStore) -> None:
    parent = cube("parent", scope=ACME)
    other = TensorPayload.from_numpy({"k": np.zeros(9, np.float32)}, Fingerprint("a", "w", "t", "f"))
    refused = MemCube(tensors(ACME, parent).header, other)
    before = rows(store, "SELECT address FROM blobs ORDER BY 1")
    with store.transaction() as tx:
        with pytest.raises(InvalidInput):
            tx.insert([Write(refused), Write(cube(scope=ACME), details={"x": float("nan")})])
        tx.insert([Write(parent)])
    assert rows(store, "SELECT address FROM blobs ORDER BY 1") == before
    with store.transaction() as tx:
        tx.insert([Write(refused)])
    assert store.get(refused.id) == refused


def test_the_log_can_be_added_to_only(store: PostgresStore, postgres: PostgresServer) -> None:
    for tenant in ("acme", None):
        for sql in ("DELETE FROM log", "UPDATE log SET actor = 'x'", "TRUNCATE log"):
            with pytest.raises(InsufficientPrivilege), store.as_tenant(tenant).transaction() as tx:
                tx._connection.execute(sql)
    with pytest.raises(RaiseException, match="append-only"):
        postgres.run("DELETE FROM lamina.log", database=urlsplit(store._place()).path[1:])


def test_a_login_that_is_no_operator_is_bound_to_a_tenant(
    store: PostgresStore, postgres: PostgresServer, postgres_url: str
) -> None:
    known = postgres.run("SELECT 1 FROM pg_roles WHERE rolname = 'worker'")
    postgres.run(*([] if known else ["CREATE ROLE worker LOGIN"]), f"GRANT {APP} TO worker")
    parts = urlsplit(postgres_url)
    url = urlunsplit(parts._replace(netloc="worker:@"))
    with pytest.raises(InvalidInput, match="name the tenant"):
        PostgresStore(url)
    with PostgresStore(url, tenant="acme") as mine:
        (one, *_) = mine.query(ACME, {"kind": "text"}).cubes
        revise(mine, one, "by the worker")
        assert mine.verify() == []
        with mine._server.lend() as db, pytest.raises(InsufficientPrivilege, match="set role"):
            db.execute(f"SET ROLE {OPERATOR}")
    assert store.verify() == []
