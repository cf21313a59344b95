"""``LaminaStore`` among others: memories that only look like items, and keys that speak for somebody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hashing import HashEmbedder

from lamina import Memory
from lamina.client import Client
from lamina.errors import InvalidInput, NotPermitted
from lamina.integrations import items
from lamina.integrations.langgraph import LaminaStore
from lamina.server.app import create_app
from lamina.server.service import Service
from server.live_server import serving

NO_RUN = ["", ":", ":.", ":..", ":v.", ":.v", ":%FF", ":a b", ":%76", ":é", ":%ed%A0%80", ":v%2e", ":" + "v" * 300]
NOW = datetime(2026, 11, 23, tzinfo=UTC).isoformat()
GOOD: dict[str, Any] = {"key": "z", "value": '{"text": "I swim."}', "indexed": True, "updated": NOW}
BAD: list[Any] = [
    None,
    "mine",
    ["key"],
    {},
    *[{name: one for name, one in GOOD.items() if name != left_out} for left_out in GOOD],
    GOOD | {"key": 7},
    GOOD | {"key": None},
    GOOD | {"value": {"text": "not as JSON text"}},
    GOOD | {"value": 7},
    GOOD | {"value": "{"},
    GOOD | {"value": ""},
    GOOD | {"value": "[1]"},
    GOOD | {"value": "null"},
    GOOD | {"value": "[" * 20_000},
    GOOD | {"value": '{"n": ' + "9" * 5000 + "}"},
    *[GOOD | {"value": f'{{"n": [{number}]}}'} for number in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999")],
    GOOD | {"indexed": "yes"},
    GOOD | {"updated": "soon"},
    GOOD | {"updated": 1},
    GOOD | {"updated": "2026-11-23T00:00:00"},
    GOOD | {"updated": "2026-11-23"},
]


@pytest.mark.parametrize("place", ["hashed", "remote"])
def test_what_only_looks_like_an_item_disturbs_no_other(place: str, request: pytest.FixtureRequest) -> None:
    memory: Memory | Client = request.getfixturevalue(place)
    agent = f"strangers-{place}"
    store = LaminaStore(memory, agent_id=agent)
    for n, kept in enumerate(BAD):
        memory.add(f"I row, {n}.", agent_id=agent, run_id="langgraph:v", metadata={items.MARK: kept}, infer=False)
    memory.add("I ride.", agent_id=agent, metadata={items.MARK: GOOD}, infer=False)  # of no namespace
    assert store.get(("v",), "z") is None and store.search(()) == [] and store.list_namespaces() == []
    memory.add("I sail.", agent_id=agent, run_id="langgraph:v", metadata={items.MARK: GOOD}, infer=False)
    store.put(("v",), "k", {"text": "I row."})
    for found in (store.search(()), store.search(("v",), query="I row."), store.search((), filter={"text": "I row."})):
        assert "k" in [item.key for item in found] and {item.key for item in found} <= {"k", "z"}
    item = store.get(("v",), "z")
    assert item is not None and item.value == {"text": "I swim."} and item.updated_at.isoformat() == NOW
    store.put(("v",), "z", {"text": "I dive."})
    store.delete(("v",), "k")
    assert [item.value for item in store.search(())] == [{"text": "I dive."}]


@pytest.mark.parametrize("kept", BAD, ids=lambda kept: json.dumps(kept)[:60])
def test_it_is_no_item(kept: Any) -> None:
    row = {"id": "1", "run_id": "langgraph:v", "created_at": NOW, "metadata": {items.MARK: kept}}
    assert items.entry(row) is None and items.entry(row | {"metadata": {items.MARK: GOOD}}) is not None


@pytest.mark.parametrize("end", NO_RUN)
def test_a_run_that_no_put_writes_holds_no_items(end: str) -> None:
    row = {"id": "1", "run_id": f"langgraph{end}", "created_at": NOW, "metadata": {items.MARK: GOOD}}
    assert items.entry(row) is None


@pytest.mark.parametrize("place", ["hashed", "remote"])
def test_items_in_runs_that_no_put_writes_are_left_out(place: str, request: pytest.FixtureRequest) -> None:
    memory: Memory | Client = request.getfixturevalue(place)
    agent = f"runs-{place}"
    for end in NO_RUN[:7]:
        memory.add("I row.", agent_id=agent, run_id=f"langgraph{end}", metadata={items.MARK: GOOD}, infer=False)
    memory.add("I sail.", agent_id=agent, run_id="langgraph:v.a%20b", metadata={items.MARK: GOOD}, infer=False)
    for store, there in ((LaminaStore(memory, agent_id=agent), [("v", "a b")]),
                         (LaminaStore(memory, agent_id=agent, user_at=1), [])):  # fmt: skip
        assert store.list_namespaces() == there
        assert [one.namespace for one in store.search(())] == there
        assert [one.namespace for one in store.search((), query="row")] == there


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Memory, Client, Client]]:
    """The operator's memory, and clients with a key of Ada alone and one of the whole tenant."""
    with Memory(tmp_path_factory.mktemp("keyed") / "m.db", embedder=HashEmbedder()) as memory:
        service = Service(memory)
        tenant = service.settings.tenant
        ada = service.keys.create("ada", tenant, ["read", "write"], user="ada")[1]
        whole = service.keys.create("all", tenant, ["read", "write"])[1]
        with serving(create_app(service)) as url, Client(url, ada) as one, Client(url, whole) as many:
            yield memory, one, many


def test_with_a_key_of_one_user_the_store_has_to_name_that_user(keyed: tuple[Memory, Client, Client]) -> None:
    memory, ada, _ = keyed
    for store in (LaminaStore(ada), LaminaStore(ada, agent_id="helper"), LaminaStore(ada, user_at=1)):
        for _try in range(2):
            with pytest.raises(InvalidInput, match="pass user_id='ada'"):
                store.put(("v",), "k", {"text": "I swim."})
    assert memory.get_all(filters={"user_id": "ada"})["results"] == []  # nothing is left of it
    with pytest.raises(NotPermitted):
        LaminaStore(ada, user_id="bob").put(("v",), "k", {"text": "I swim."})
    for store in (LaminaStore(ada, user_id="ada"), LaminaStore(ada, user_at=1, agent_id="labels")):
        store.put(("v", "ada"), "k", {"text": "I swim."})
        item = store.get(("v", "ada"), "k")
        assert item is not None and item.value == {"text": "I swim."}


def test_a_key_of_all_users_needs_none(keyed: tuple[Memory, Client, Client]) -> None:
    store = LaminaStore(keyed[2])
    for key in ("k", "l"):
        store.put(("v",), key, {"text": "I swim."})
        assert store.get(("v",), key) is not None
