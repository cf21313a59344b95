"""An address opens the store it names: in Python, in the settings, on the command line; files need no psycopg."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from contracts.postgres import PostgresServer
from lamina import Memory
from lamina.cli import app
from lamina.llm.base import Embedder
from lamina.settings import Settings
from lamina.store.address import is_server, without_password
from lamina.store.opening import open_store
from lamina.store.postgres import PostgresStore
from lamina.store.postgresql.schema import MIGRATIONS, migrate
from lamina.store.sqlite import SqliteStore

SAID = ["I moved from Boston to Denver in June.", "My sister Ann plays the cello.", "I am allergic to peanuts."]
ASKED = ["Where does Alice live?", "Which instrument does Ann play?", "peanuts", "What must Alice not eat?"]


def told(memory: Memory) -> list[list[tuple[str, float]]]:
    for text in SAID:
        memory.add(text, user_id="alice", timestamp="2026-06-20T10:00:00Z")
    memory.add("I live in Paris.", user_id="bob", timestamp="2026-06-20T10:00:00Z")
    return [
        [
            (hit["memory"], round(hit["score"], 6))
            for hit in memory.search(asked, filters={"user_id": "alice"})["results"]
        ]
        for asked in ASKED
    ]


def test_memory_answers_as_it_does_from_a_file(tmp_path: Path, postgres_url: str, minilm: Embedder) -> None:
    with Memory(tmp_path / "m.db", embedder=minilm) as file, Memory(postgres_url, embedder=minilm) as server:
        assert isinstance(server.store, PostgresStore)
        expected = told(file)
        assert told(server) == expected and all(expected)
        (id,) = [hit["id"] for hit in server.search("peanuts", filters={"user_id": "alice"}, top_k=1)["results"]]
        server.update(id, "I am allergic to nuts.")
        assert [row["event"] for row in server.history(id)][:2] == ["ADD", "UPDATE"]
        server.forget(id)
        assert server.get(id) is None and server.store.verify() == []


def test_a_memory_of_one_tenant_sees_no_other(postgres_url: str, minilm: Embedder) -> None:
    with Memory(postgres_url, embedder=minilm) as mine:
        kept = len(mine.add(SAID[0], user_id="alice")["results"])
        with Memory(postgres_url, embedder=minilm, settings=Settings(tenant="other")) as other:
            assert other.search("Denver", filters={"user_id": "alice"})["results"] == []
            assert other.store.stats()["memories"] == 0
            assert other.add(SAID[1], user_id="alice")["results"]
        assert mine.store.stats()["memories"] >= kept > 0
        assert not mine.search("cello", filters={"user_id": "alice"}, threshold=0.5)["results"]


def test_the_setting_and_the_option(postgres_url: str, minilm: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.llm.embedder", lambda *_, **__: minilm)

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    run("add", SAID[0], "--db", postgres_url)
    monkeypatch.setenv("LAMINA_DATABASE", postgres_url.replace("postgres:@", "postgres:secret@"))
    assert "Denver" in json.dumps(run("search", "Where do I live?"))
    report = run("doctor")
    assert "secret" not in json.dumps(report) and ":***@" in json.dumps(report)
    assert report["problems"] == [] and report["database"]["counts"]["store"] == "postgresql"
    assert report["database"]["counts"]["memories"] >= 1


def test_which_addresses_are_servers() -> None:
    assert is_server("postgresql://host/db") and is_server("postgres://host/db")
    assert not any(map(is_server, ("m.db", Path("/postgresql:/x"), ":memory:", "C:\\postgresql")))
    assert without_password("postgresql://u:p%40@h:5/d?x=1") == "postgresql://u:***@h:5/d?x=1"
    assert without_password("postgresql://u@h/d") == "postgresql://u@h/d"
    assert without_password("postgresql:///d") == "postgresql:///d"
    assert without_password("postgresql://h/d?user=u&password=p&x=1") == "postgresql://h/d?user=u&password=***&x=1"
    assert without_password("postgresql://:p:q@/d?host=/tmp") == "postgresql://:***@/d?host=/tmp"
    assert without_password("dir/u:p@m.db") == "dir/u:p@m.db"
    assert Settings(database="postgresql://h/d").database_path == "postgresql://h/d"
    assert Settings(database="m.db").database_path == Path("m.db")


def test_a_file_needs_no_psycopg(tmp_path: Path) -> None:
    code = "import sys; from lamina.store.opening import open_store; open_store(sys.argv[1]).close();"
    code += " sys.exit(any(name.startswith('psycopg') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "m.db")]).returncode == 0


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from lamina.errors import MissingDependency

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingDependency, match=r"lamina\[postgres\]"):
        open_store("postgresql://h/d")


# -- the schema -----------------------------------------------------------------------------------


def test_a_new_database_gets_the_schema_once(postgres: PostgresServer) -> None:
    import psycopg

    from lamina.errors import StoreUnavailable

    url = postgres.new_database()
    for _ in range(2):
        with PostgresStore(url) as store:
            assert store.stats()["schema"] == len(MIGRATIONS) and store.verify() == []
    with psycopg.connect(url, autocommit=True) as connection:
        applied = connection.execute("SELECT number, name FROM lamina.migrations").fetchall()
        assert applied == [(1, "m001_initial")]
        with pytest.raises(ZeroDivisionError):
            migrate(connection, "here", (*MIGRATIONS, _broken))
        migrate(connection, "here", (*MIGRATIONS, _second))
        assert connection.execute("SELECT count(*) FROM lamina.second").fetchone() == (0,)
    with pytest.raises(StoreUnavailable, match="schema 2, but this Lamina knows schemas up to 1: upgrade"):
        PostgresStore(url)


@pytest.mark.parametrize(("durable", "told"), [(True, "on"), (False, "off")])
def test_the_promise_of_durability(postgres_url: str, durable: bool, told: str) -> None:
    with PostgresStore(postgres_url, durable=durable) as store, store.transaction() as tx:
        assert tx._connection.execute("SHOW synchronous_commit").fetchone() == (told,)


def test_pgvector_may_live_in_a_schema_of_its_own(postgres: PostgresServer) -> None:
    from contracts.store import ALICE, cube, unit
    from lamina.store.base import Write

    url = postgres.new_database()
    postgres.run(
        'CREATE SCHEMA "Ex t"',
        'GRANT USAGE ON SCHEMA "Ex t" TO PUBLIC',
        'CREATE EXTENSION vector SCHEMA "Ex t"',
        database=urlsplit(url).path[1:],
    )
    with PostgresStore(url) as store:
        with store.transaction() as tx:
            tx.insert([Write(cube(), unit(1))])
        assert len(store.neighbours(unit(1), ALICE)) == 1


def test_an_owner_needs_no_superpowers_and_others_are_told_what_to_ask_for(postgres: PostgresServer) -> None:
    from contracts.store import cube, insert, unit
    from lamina.cube.cube import Scope
    from lamina.errors import NotPermitted
    from lamina.store.base import Write

    database = urlsplit(postgres.new_database()).path[1:]
    known = postgres.run("SELECT 1 FROM pg_roles WHERE rolname = 'manager'")
    postgres.run(*([] if known else ["CREATE ROLE manager LOGIN"]))
    with pytest.raises(
        NotPermitted, match=rf"CREATE EXTENSION vector.*TO manager; GRANT CREATE ON DATABASE {database}"
    ):
        PostgresStore(postgres.url(database, "manager"))
    postgres.run(
        "CREATE EXTENSION vector",
        "GRANT lamina_app, lamina_operator TO manager",
        f"GRANT CREATE ON DATABASE {database} TO manager",
        database=database,
    )
    with PostgresStore(postgres.url(database, "manager")) as store:
        with store.transaction() as tx:
            tx.insert([Write(cube("a", scope=Scope("acme")), unit(1))])
        insert(store, cube("b", scope=Scope("other")))
        assert store.stats()["memories"] == 2 and store.verify() == []
        assert store.as_tenant("acme").stats()["memories"] == 1


def _second(connection: Any) -> None:
    connection.execute("CREATE TABLE second (n INTEGER)")


def _broken(connection: Any) -> None:
    _second(connection)
    raise ZeroDivisionError


def test_case_is_folded_as_python_does(postgres_url: str) -> None:
    letters = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
    text = "".join(letter for letter in letters if letter.casefold() != letter) + "ABC ß ﬃ İ plain"
    with PostgresStore(postgres_url) as store:
        ((folded,),) = store._read(None, lambda db, _: db.execute("SELECT folded(?)", (text,)).fetchall())
    assert folded == text.casefold()


@pytest.mark.parametrize("kind", [SqliteStore, PostgresStore])
def test_vectors_are_replaced_with_their_embedder(
    kind: type[Any], tmp_path: Path, postgres_url: str, minilm: Embedder
) -> None:
    import numpy as np

    from contracts.store import ALICE, cube, unit
    from lamina.errors import InvalidInput
    from lamina.store.base import Write

    place = postgres_url if kind is PostgresStore else tmp_path / "m.db"
    with kind(place, embedder="first") as store:
        one = cube(SAID[0])
        with store.transaction() as tx:
            tx.insert([Write(one, unit(1))])
        with pytest.raises(InvalidInput, match=r"'first' \(8 dimensions\).*'other'"):
            kind(place, embedder="other")
        assert store.reembed(minilm) == 1
        np.testing.assert_array_equal(store.vector(one.id), minilm.encode([SAID[0]])[0])
        assert [change.change for change in store.changes(ALICE)] == [2]
        assert store.stats()["embedder"] == minilm.name and store.verify() == []
        if kind is PostgresStore:
            ((_, score),) = store.neighbours(minilm.encode([SAID[0]])[0], ALICE)
            assert score == pytest.approx(1.0, abs=1e-6)
