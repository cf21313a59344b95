"""``LaminaStore`` in use: in a compiled graph, for several owners, by several writers, with the values of the world."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import pytest
from hashing import HashEmbedder
from langchain_core.language_models.fake_chat_models import ParrotFakeChatModel
from langchain_core.messages import HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import BaseStore

from lamina import Memory
from lamina.client import Client
from lamina.errors import Conflict, InvalidInput
from lamina.integrations import items
from lamina.integrations.langgraph import LaminaStore
from lamina.llm.base import Embedder
from lamina.settings import Settings

pytestmark = pytest.mark.model


class State(TypedDict, total=False):
    user: str
    said: str
    answer: str


def _reply(state: State, store: BaseStore) -> State:
    """Quotes what it found, remembers what was said."""
    space = ("memories", state["user"])
    found = store.search(space, query=state["said"], limit=1)
    known = "; ".join(item.value["text"] for item in found)
    answer = ParrotFakeChatModel().invoke([HumanMessage(f"{state['said']} (known: {known})")])
    store.put(space, str(len(store.search(space))), {"text": state["said"], "turn": 1})
    return {"answer": str(answer.content)}


async def _reply_async(state: State, store: BaseStore) -> State:
    found = await store.asearch(("memories", state["user"]), query=state["said"])
    return {"answer": "; ".join(item.value["text"] for item in found)}


def test_in_a_compiled_graph(memory: Memory) -> None:
    store = LaminaStore(memory, user_at=1)
    builder = StateGraph(State)
    builder.add_node("reply", _reply)
    builder.add_edge(START, "reply")
    builder.add_edge("reply", END)
    graph = builder.compile(store=store)
    for said in ("I keep bees on the roof.", "My sister is called Ines.", "I drive a red tram."):
        graph.invoke({"user": "alice", "said": said})
    told = graph.invoke({"user": "alice", "said": "Who is my sister?"})
    assert "Ines" in told["answer"] and "bees" not in told["answer"]
    assert graph.invoke({"user": "bob", "said": "Who is my sister?"})["answer"].endswith("(known: )")

    later = StateGraph(State)
    later.add_node("reply", _reply_async)
    later.add_edge(START, "reply")
    answer = asyncio.run(later.compile(store=store).ainvoke({"user": "alice", "said": "sister"}))["answer"]
    assert answer.startswith(("My sister is called Ines.", "Who is my sister?"))
    # They are memories like others: Memory finds them, and what goes for a user goes for the items.
    assert "Ines" in memory.search("What is her sister called?", filters={"user_id": "alice"})["results"][0]["memory"]
    memory.delete_all(user_id="alice")
    assert store.search(("memories", "alice")) == []
    assert [item.value["text"] for item in store.search(("memories",))] == ["Who is my sister?"]


def test_search_by_meaning(memory: Memory) -> None:
    store = LaminaStore(memory, fields=["title", "notes[*].body"])
    docs = ("docs",)
    store.put(docs, "bees", {"title": "Apiary", "notes": [{"body": "Honey is harvested in July."}, {"body": "Smoke."}]})
    store.put(docs, "tax", {"title": "Tax return", "notes": [], "secret": "honey harvest"})
    store.put(docs, "hidden", {"title": "When is the honey harvested?"}, index=False)
    store.put(docs, "other", {"title": "Roof", "about": "harvest of honey"}, index=["about"])
    found = store.search(docs, query="When is the honey harvested?")
    assert {found[0].key, found[1].key} == {"bees", "other"}
    assert found[-1].key == "hidden" and found[-1].score is None
    assert {item.key for item in found} == {"bees", "tax", "hidden", "other"}
    assert [item.key for item in store.search(docs, query="honey", filter={"title": "Tax return"})] == ["tax"]
    assert [item.key for item in store.search(docs, query="honey", limit=1, offset=3)] == ["hidden"]
    default = LaminaStore(memory, user_id="other")
    default.put(docs, "json", {"colour": "turquoise", "n": 3})
    default.put(docs, "text", {"text": "The gate squeaks.", "colour": "red"})
    assert default.search(docs, query="turquoise colour")[0].key == "json"
    assert default.search(docs, query="noise of a door")[0].key == "text"


def test_neighbours_do_not_take_the_place_of_items(memory: Memory) -> None:
    """What is searched first by meaning is of the namespace and of the owner: others, however near, are not counted."""
    store, other = LaminaStore(memory), LaminaStore(memory, user_id="alice", agent_id="langgraph")
    store.put(("a",), "k", {"text": "The gate squeaks."})
    for n in range(12):
        store.put(("ab",), str(n), {"text": f"Honey is harvested in July, {n} jars."})
        other.put(("a",), str(n), {"text": f"Honey is harvested in July, {n} jars."})
    (found,) = store.search(("a",), query="When is the honey harvested?", limit=1)
    assert found.key == "k" and found.score is not None


# -- what comes back ----------------------------------------------------------------------------------

AWKWARD: list[dict[str, Any]] = [
    {},
    {"text": ""},
    {"text": " \0 ", "nul": "a\0b"},
    {"surrogate": "\ud800", "emoji": "🐝", "bidi": "\u202eabc"},
    {"big": 2**70, "small": 1e-300, "float": 1.0, "int": 1, "true": True, "minus": -0.0},
    {"": {"": [None, {"$gt": 1}, [[]]]}, "user_id": "not an owner", "AND": [], "langgraph": {"key": "x"}},
    {"text": "x" * 30_000},
]


@pytest.mark.parametrize("place", ["hashed", "remote", "postgres"])
def test_values_come_back_exactly(place: str, request: pytest.FixtureRequest) -> None:
    memory: Memory | Client
    if place == "postgres":
        memory = Memory(request.getfixturevalue("postgres_url"), embedder=HashEmbedder())
    else:
        memory = request.getfixturevalue(place)
    store = LaminaStore(memory, agent_id="exact")
    for n, value in enumerate(AWKWARD):
        store.put(("v",), "same", value)
        store.put(("v",), str(n), value)
        for key in ("same", str(n)):
            item = store.get(("v",), key)
            assert item is not None and repr(item.value) == repr(value)
    assert len(store.search(("v",), limit=100)) == len(AWKWARD) + 1
    assert len(store.search(("v",), query="x", limit=100)) == len(AWKWARD) + 1
    if place == "postgres":
        memory.close()


def test_what_cannot_be_kept_is_refused_whole(hashed: Memory) -> None:
    store = LaminaStore(hashed, agent_id="refused")
    store.put(("v",), "k", {"n": 1})
    bad: list[Any] = [{"x": {1}}, {"x": float("nan")}, {"x": "y" * 70_000}, {"x": Path()}]
    for value in bad:
        with pytest.raises(InvalidInput):
            store.put(("v",), "k", value)
    for space, key in [(("v" * 300,), "k"), (("\ud800",), "k"), (("v",), "k\0"), (("v",), "\ud800")]:
        with pytest.raises(InvalidInput):
            store.put(space, key, {"n": 2})
    with pytest.raises(InvalidInput, match=r"\$regex"):
        store.search(("v",), filter={"n": {"$regex": "1"}})
    with pytest.raises(NotImplementedError):
        store.put(("v",), "k", {"n": 2}, ttl=5)
    assert [item.value for item in store.search(())] == [{"n": 1}]
    for wrong in ({"user_at": -1}, {"user_at": 0, "user_id": "ada"}, {"on_delete": "hide"}, {"user_id": "a b"}):
        with pytest.raises(InvalidInput):
            LaminaStore(hashed, **wrong)


def test_what_has_no_order_passes_no_comparison(hashed: Memory) -> None:
    store = LaminaStore(hashed, agent_id="order")
    values = [1, 2.5, "3", "abc", "2026-06-01", None, [1], {"a": 1}, -(10**400)]
    for n, value in enumerate(values):
        store.put(("v",), str(n), {"x": value})
    found = {
        name: sorted(item.key for item in store.search(("v",), filter={"x": wanted}))
        for name, wanted in {
            "more than 2": {"$gt": 2},
            "after May": {"$gt": "2026-05-31", "$lt": "2026-07"},
            "at least None": {"$gte": None},
        }.items()
    }
    assert found == {"more than 2": ["1", "2"], "after May": ["4"], "at least None": []}


@pytest.mark.parametrize("place", ["hashed", "remote"])
def test_a_get_reads_its_item_alone_and_a_search_its_namespace(
    place: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory: Memory | Client = request.getfixturevalue(place)
    store, read = LaminaStore(memory, agent_id=f"narrow-{place}"), []
    for space in (("v",), ("v", "w"), ("vw",)):
        for key in ("k", "l", "ü" * 1000):
            store.put(space, key, {"text": f"{space}, {key}"[:40]})
    get_all = memory.get_all

    def noted(**asked: Any) -> Any:
        found = get_all(**asked)
        read.append(len(found["results"]))
        return found

    monkeypatch.setattr(memory, "get_all", noted)
    for key in ("k", "ü" * 1000, "none"):
        assert (store.get(("v",), key) is None) == (key == "none")
    assert read == [1, 1, 0]
    read.clear()
    assert len(store.search(("v",))) == 6 and len(store.search(("vw",))) == 3 and len(store.search(())) == 9
    assert read == [6, 3, 9]


# -- whose it is --------------------------------------------------------------------------------------


@pytest.fixture
def owners(hashed: Memory) -> Iterator[list[LaminaStore]]:
    """Stores that have nothing in common but the database and the names of what they keep."""
    tenant = Memory(store=hashed.store.as_tenant("acme"), embedder=hashed.embedder, settings=Settings(tenant="acme"))
    yield [
        LaminaStore(hashed),
        LaminaStore(hashed, user_id="alice"),
        LaminaStore(hashed, user_id="bob"),
        LaminaStore(hashed, agent_id="helper"),
        LaminaStore(hashed, user_id="alice", agent_id="helper"),
        LaminaStore(hashed, user_at=1, agent_id="labels"),
        LaminaStore(tenant),
        LaminaStore(tenant, user_id="alice"),
    ]


def test_nobody_reads_or_changes_anothers(owners: list[LaminaStore]) -> None:
    space = ("notes", "alice")
    for n, store in enumerate(owners):
        assert store.get(space, "k") is None and store.search(()) == [] and store.list_namespaces() == []
        store.put(space, "k", {"owner": n})
    for n, store in enumerate(owners):
        item = store.get(space, "k")
        assert item is not None and item.value == {"owner": n}
        for found in (store.search(()), store.search(("notes",), query="owner"), store.search((), filter={"owner": n})):
            assert [one.value for one in found] == [{"owner": n}]
    for n, store in enumerate(owners):
        store.delete(space, "k")
        assert store.get(space, "k") is None
        assert all(other.get(space, "k") is not None for other in owners[n + 1 :])


def test_other_memories_of_the_owner_are_no_items(hashed: Memory) -> None:
    store = LaminaStore(hashed, user_id="cleo")
    added = hashed.add("I sail.", user_id="cleo", run_id="langgraph:v", infer=False)
    hashed.add("I row.", user_id="cleo", metadata={items.MARK: "mine"}, infer=False)
    store.put(("v",), "k", {"text": "I swim."})
    assert [item.key for item in store.search(())] == ["k"] == [item.key for item in store.search((), query="sail")]
    store.delete(("v",), "k")
    assert hashed.get(added["results"][0]["id"])


# -- writers ------------------------------------------------------------------------------------------


def test_an_item_is_one_memory_with_a_history(hashed: Memory) -> None:
    store = LaminaStore(hashed, user_id="hist")
    store.put(("v",), "k", {"text": "Red."})
    first = store.get(("v",), "k")
    store.put(("v",), "k", {"text": "Red.", "shade": 2})
    store.put(("v",), "k", {"text": "Blue."})
    last = store.get(("v",), "k")
    assert first and last and first.created_at == last.created_at == first.updated_at < last.updated_at
    (row,) = hashed.get_all(filters={"user_id": "hist"})["results"]
    assert [change["new_memory"] for change in hashed.history(row["id"])] == ["Red.", "Red.", "Blue."]
    store.delete(("v",), "k")
    kept = hashed.get(row["id"])
    assert kept and kept["superseded"] and hashed.restore(row["id"])
    assert store.get(("v",), "k") == last

    eraser = LaminaStore(hashed, user_id="hist", on_delete="forget")
    eraser.delete(("v",), "k")
    assert hashed.get(row["id"]) is None


def test_threads_that_put_one_key_write_one_memory(hashed: Memory) -> None:
    store = LaminaStore(hashed, user_id="busy")
    threads = [threading.Thread(target=store.put, args=(("v",), "k", {"n": n})) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hashed.get_all(filters={"user_id": "busy"})["results"]) == 1


def test_stores_that_put_one_key_at_once_agree_and_heal(tmp_path: Path) -> None:
    """Two processes, as far as the store can tell: neither sees the other's lock."""
    path = tmp_path / "m.db"
    with Memory(path, embedder=HashEmbedder()) as one, Memory(path, embedder=HashEmbedder()) as two:
        stores = [LaminaStore(one), LaminaStore(two)]
        barrier = threading.Barrier(8)

        def write(n: int) -> None:
            barrier.wait()
            stores[n % 2].put(("v",), f"k{n % 3}", {"n": n})

        threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert _values(stores[0]) == _values(stores[1]) and len(_values(stores[0])) == 3
        # A second memory of a key, as such a race leaves it: the newer one counts, and one put ends it.
        text, entry = items.written("k0", ("v",), {"n": "twin"}, None, stores[0].search(())[0].updated_at)
        one.add(text, agent_id="langgraph", run_id=items.run_of(("v",)), metadata=entry, infer=False)
        assert len(stores[1].search(())) == len(stores[1].search((), query="twin")) == 3
        stores[1].put(("v",), "k0", {"n": "last"})
        rows = one.get_all(filters={"agent_id": "langgraph", "langgraph.key": "k0"})["results"]
        assert [json.loads(row["metadata"]["langgraph"]["value"]) for row in rows] == [{"n": "last"}]
        stores[0].delete(("v",), "k0")
        assert stores[1].get(("v",), "k0") is None


class Hasty:
    """A memory in which somebody else deletes what is about to be updated, ``times`` times."""

    def __init__(self, memory: Memory, times: int) -> None:
        self.memory, self.times = memory, times

    def __getattr__(self, verb: str) -> Any:
        return getattr(self.memory, verb)

    def update(self, memory_id: str, *given: Any, **options: Any) -> Any:
        if self.times:
            self.times -= 1
            self.memory.delete(memory_id)
            self.memory.add("again", **OWNER, metadata=TWIN, infer=False)
        return self.memory.update(memory_id, *given, **options)


OWNER: dict[str, Any] = {"agent_id": "hasty", "run_id": items.run_of(("v",))}
TWIN = items.written("k", ("v",), {"n": "again"}, None, datetime(2020, 1, 1, tzinfo=UTC))[1]


def test_a_put_that_is_overtaken_is_done_again(hashed: Memory) -> None:
    plain = LaminaStore(hashed, agent_id="hasty")
    plain.put(("v",), "k", {"n": 1})
    LaminaStore(Hasty(hashed, times=4), agent_id="hasty").put(("v",), "k", {"n": 2})  # type: ignore[arg-type]
    assert _values(plain) == {"k": {"n": 2}}
    with pytest.raises(Conflict):  # not for ever
        LaminaStore(Hasty(hashed, times=99), agent_id="hasty").put(("v",), "k", {"n": 3})  # type: ignore[arg-type]


def _values(store: LaminaStore) -> dict[str, Any]:
    return {item.key: item.value for item in store.search(())}


def test_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['langgraph'] = None\nimport lamina.integrations.langgraph"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingDependency: lamina.integrations.langgraph needs the package 'langgraph'" in run.stderr


def test_it_needs_no_model_to_keep_items(minilm: Embedder, tmp_path: Path) -> None:
    """Items are kept as they are: no pipeline reads facts into them."""
    with Memory(tmp_path / "m.db", embedder=minilm) as memory:
        LaminaStore(memory, user_id="ada").put(("v",), "k", {"text": "I live in Lyon. I work as a nurse."})
        assert len(memory.get_all(filters={"user_id": "ada"})["results"]) == 1
