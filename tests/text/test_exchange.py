"""Export and import: what goes out comes back equal, other formats are read as they are, errors name the place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.cube.cube import Claim, Header, Lineage, MemCube, Provenance, Scope, Source, Utterance
from lamina.cube.payload import TextPayload
from lamina.errors import InvalidInput
from lamina.llm.base import Embedder
from lamina.store.base import Edge, Write
from lamina.store.sqlite import SqliteStore
from lamina.text.exchange import (
    Counts,
    cube_line,
    detect,
    export_lines,
    read_jsonl,
    read_mem0,
    rescope,
    write_cubes,
    write_records,
)

START = datetime(2025, 1, 12, 17, 40, tzinfo=UTC)
EVERYONE = Scope()


@pytest.fixture
def store(tmp_path: Path, minilm: Embedder) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "a.db", embedder=minilm.name) as store:
        yield store


@pytest.fixture
def other(tmp_path: Path, minilm: Embedder) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "b.db", embedder=minilm.name) as store:
        yield store


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
names = st.none() | st.from_regex(r"[a-z]{1,6}", fullmatch=True)
moments = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))


@st.composite
def cubes(draw: st.DrawFn) -> MemCube:
    """Turns and facts with every part of the header filled that an export has to carry."""
    turn = draw(st.booleans())
    header = Header(
        semantic_type="turn" if turn else "fact",
        scope=Scope("default", draw(names), draw(names), draw(names)),
        version=draw(st.integers(1, 9)),
        recorded=draw(moments),
        valid_from=draw(st.none() | moments),
        provenance=Provenance((Source("turn-1", 0, draw(st.integers(0, 9))),), extractor="rules"),
        lineage=Lineage((("turn-1", 1),), "extract"),
        utterance=Utterance("s1", draw(st.integers(0, 99)), draw(texts), "user") if turn else None,
        claim=None if turn else Claim("mira", "residence", draw(texts), draw(st.booleans())),
        tags=tuple(draw(st.lists(texts, max_size=2))),
        importance=draw(st.floats(0, 1)),
        metadata=draw(st.dictionaries(texts, st.none() | st.booleans() | st.integers(-9, 9) | texts, max_size=3)),
    )
    return MemCube(header, TextPayload(draw(texts)))


@given(st.lists(cubes(), min_size=1, max_size=5))
@settings(max_examples=15, deadline=None)
def test_an_export_reads_back_equal(minilm: Embedder, memories: list[MemCube]) -> None:
    with TemporaryDirectory() as folder:
        with SqliteStore(Path(folder) / "a.db", embedder=minilm.name) as store:
            assert write_cubes(store, minilm, memories) == Counts(stored=len(memories))
            lines = list(export_lines(store, EVERYONE))
            kept = [store.get(cube.id) for cube in memories]
        assert kept == memories and not any("\n" in line for line in lines)
        with SqliteStore(Path(folder) / "b.db", embedder=minilm.name) as store:
            assert write_cubes(store, minilm, list(read_jsonl(lines))) == Counts(stored=len(memories))
            assert [store.get(cube.id) for cube in memories] == memories
            assert sorted(export_lines(store, EVERYONE)) == sorted(lines)


def _cube(text: str = "Mira lives in Lisbon", **header: Any) -> MemCube:
    return MemCube(Header(**({"recorded": START, "scope": Scope(user="mira")} | header)), TextPayload(text))


def test_history_carries_every_version_and_what_was_ended(
    store: SqliteStore, other: SqliteStore, minilm: Embedder
) -> None:
    first = _cube()
    second = MemCube(replace(first.header, version=2, recorded=START + timedelta(days=9)), TextPayload("in Porto"))
    ended = _cube("Mira has one cat")
    vector = minilm.encode(["any"])[0]
    with store.transaction() as tx:
        tx.insert([Write(first, vector), Write(ended, vector)])
        tx.revise(Write(second, vector), expect=1)
        tx.close(ended.id, at=START + timedelta(days=3), by=first.id)
    assert len(list(export_lines(store, EVERYONE))) == 1
    lines = list(export_lines(store, EVERYONE, history=True))
    assert len(lines) == 3
    assert write_cubes(other, minilm, list(read_jsonl(lines))) == Counts(stored=3)
    for id in (first.id, ended.id):
        assert other.versions(id) == store.versions(id)
    assert store.get(first.id) == other.get(first.id) != first
    as_then = other.query(EVERYONE, as_of=START + timedelta(days=1)).cubes
    assert {cube.text for cube in as_then} == {"Mira lives in Lisbon", "Mira has one cat"}


def test_importing_again_skips_what_is_there(store: SqliteStore, minilm: Embedder) -> None:
    cube = _cube()
    assert write_cubes(store, minilm, [cube]) == Counts(stored=1)
    assert write_cubes(store, minilm, [cube, _cube("new")]) == Counts(stored=1, skipped=1)
    changed = MemCube(cube.header, TextPayload("something else under the same id"))
    assert write_cubes(store, minilm, [changed]) == Counts(skipped=1)
    assert store.get(cube.id) == cube


def test_an_id_that_is_another_owners_is_refused_not_skipped(store: SqliteStore, minilm: Embedder) -> None:
    cube = _cube()
    write_cubes(store, minilm, [cube])
    with pytest.raises(InvalidInput, match="another owner"):
        write_cubes(store, minilm, [rescope(cube, "default", user="somebody-else")])
    assert store.get(cube.id) == cube


def test_imported_memories_have_the_vector_of_their_text(store: SqliteStore, minilm: Embedder) -> None:
    cube = _cube()
    write_cubes(store, minilm, [cube])
    vector = store.vector(cube.id)
    assert vector is not None and float(vector @ minilm.encode([cube.text])[0]) > 0.999


def test_a_file_cannot_choose_its_tenant(store: SqliteStore) -> None:
    cube = rescope(_cube(scope=Scope("victim", "mira", "bot", None)), "default", user=None, agent="helper")
    assert cube.header.scope == Scope("default", "mira", "helper", None)


GOOD = cube_line(_cube())


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        '{"lamina": 2, "header": {}, "text": "x"}',
        '{"lamina": 1, "header": {"id": "x"}, "text": "x"}',
        GOOD.replace('"kind":"text"', '"kind":"activation"'),
        GOOD.replace('"text":"Mira lives in Lisbon"', '"text":7'),
        GOOD.replace('"text":"Mira lives in Lisbon"', '"text":"a\\u0000b"'),
        GOOD.replace('"text":"Mira lives in Lisbon"', '"text":"a\\ud800b"'),
    ],
)
def test_a_bad_line_is_named_and_those_before_it_are_read(bad: str) -> None:
    read = read_jsonl([GOOD, "", bad])
    assert next(read).text == "Mira lives in Lisbon"
    with pytest.raises(InvalidInput, match=r"^line 3: "):
        next(read)


MEM0 = {
    "results": [
        {
            "id": "892db2ae-06d9-49e5-8b3e-585ef9b85b8e",
            "memory": "Loves tiles",
            "hash": "9c1185a5",
            "metadata": {"category": "hobby"},
            "created_at": "2024-07-26T10:29:36.630547-07:00",
            "updated_at": None,
            "user_id": "mira",
        },
        {"id": "2", "memory": "Works at night", "metadata": None, "created_at": "2024-07-27T00:00:00Z"},
    ]
}


@pytest.mark.parametrize("value", [MEM0, MEM0["results"]])
def test_mem0_memories_keep_id_owner_date_and_metadata(value: Any, store: SqliteStore, minilm: Embedder) -> None:
    text = json.dumps(value)
    assert detect(text) == "mem0"
    first, second = read_mem0(text, Scope("default", "me"))
    assert (first.id, first.text) == (MEM0["results"][0]["id"], "Loves tiles")
    assert first.header.scope.user == "mira" and second.header.scope.user == "me"
    assert first.header.recorded == datetime(2024, 7, 26, 17, 29, 36, 630547, UTC)
    assert first.header.metadata == {"category": "hobby"} and first.header.trust == "import"
    assert write_cubes(store, minilm, [first, second]) == Counts(stored=2)
    assert write_cubes(store, minilm, [first, second]) == Counts(skipped=2)


@pytest.mark.parametrize(
    "row", [3, {}, {"id": "1", "memory": " "}, {"memory": "x"}, {"id": "1", "memory": "x", "created_at": "soon"}]
)
def test_a_bad_mem0_row_is_named(row: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^memory 2: "):
        list(read_mem0(json.dumps([{"id": "1", "memory": "fine"}, row]), EVERYONE))


@pytest.mark.parametrize(
    ("text", "format"),
    [
        (GOOD, "jsonl"),
        (f"\n{GOOD}\n{GOOD}\n", "jsonl"),
        ('[{"role": "user", "content": "Hi"}]', "chat"),
        ('{"role": "user", "content": "Hi"}\n{"role": "assistant", "content": "Hello"}\n', "chat"),
        ('{"messages": []}', "chat"),
        ('[{"title": "x", "mapping": {}}]', "chat"),
    ],
)
def test_formats_are_told_apart(text: str, format: str) -> None:
    assert detect(text) == format


@pytest.mark.parametrize("text", ["hello", "[]", "{}", "42", '{"results": []}', "[1, 2]", '{"a": NaN}'])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        detect(text)


@pytest.mark.parametrize("history", [False, True])
def test_connections_travel_with_their_memories(
    store: SqliteStore, other: SqliteStore, minilm: Embedder, history: bool
) -> None:
    one, two, three = (MemCube(Header(scope=Scope("default", "ann"), recorded=START), TextPayload(t)) for t in "abc")
    link = Edge(
        source=one.id, target=two.id, relation="knows", weight=0.5, evidence=three.id, reason="q", recorded=START
    )
    with store.transaction() as tx:
        tx.insert([Write(cube) for cube in (one, two, three)])
        tx.connect([link])
        tx.connect([replace(link, recorded=START + timedelta(1), weight=0.7, valid_from=START)])
    lines = list(export_lines(store, EVERYONE, history=history))
    for stored in (len(lines), 0):
        assert write_records(other, minilm, list(read_jsonl(lines)), "default").stored == stored
    assert other.edges(EVERYONE, closed=True) == store.edges(EVERYONE, closed=history)
    assert len(other.edges(EVERYONE, closed=True)) == 1 + history


def test_a_connection_between_memories_of_another_tenant_is_not_written(store: SqliteStore, minilm: Embedder) -> None:
    one, two = (MemCube(Header(scope=Scope("victim")), TextPayload(t)) for t in "ab")
    with store.transaction() as tx:
        tx.insert([Write(one), Write(two)])
    link = Edge(source=one.id, target=two.id, relation="knows", recorded=START)
    assert write_records(store, minilm, [link], "attacker") == Counts(0, 1)
    assert store.edges(Scope("victim")) == []


def test_a_connection_of_memories_that_are_not_here_is_skipped(other: SqliteStore, minilm: Embedder) -> None:
    link = Edge(source="a", target="b", relation="knows", recorded=START)
    assert write_records(other, minilm, [link], "default") == Counts(0, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"source": 1},
        {"weight": "much"},
        {"weight": 1e300},
        {"weight": -1},
        {"recorded": None},
        {"valid_to": "soon"},
        {"more": 1},
    ],
)
def test_a_line_that_is_no_edge_is_refused(store: SqliteStore, change: dict[str, Any]) -> None:
    one, two = (MemCube(Header(scope=EVERYONE), TextPayload(t)) for t in "ab")
    with store.transaction() as tx:
        tx.insert([Write(one), Write(two)])
        tx.connect([Edge(source=one.id, target=two.id, relation="knows", recorded=START)])
    line = json.loads(list(export_lines(store, EVERYONE))[-1])
    line["edge"] |= change
    with pytest.raises(InvalidInput, match="line 1"):
        list(read_jsonl([json.dumps(line)]))
