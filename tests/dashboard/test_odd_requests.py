"""Addresses and orders that nobody means well, or that come twice: a page, never a failure, never a stale fact."""

from __future__ import annotations

import re
from html import unescape

import httpx
import pytest

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Claim, Header, MemCube, Scope
from lamina.cube.payload import TextPayload
from lamina.server.dashboard import history
from lamina.server.dashboard.history import COMPARED, compared
from lamina.server.service import Service
from lamina.store.base import Write


@pytest.mark.parametrize(
    "path",
    [
        "timeline?since=0500-01-01&until=0600-01-01",
        "timeline?since=0001-01-01&until=0001-01-01",
        "timeline?zoom=month&since=0001-01-01",
    ],
)
def test_any_day_there_is_can_be_asked_for(site: str, path: str) -> None:
    assert httpx.get(f"{site}/dashboard/{path}", timeout=60).status_code == 200


def test_a_number_without_end_is_refused(site: str) -> None:
    answer = httpx.get(f"{site}/dashboard/tiers?before={'9' * 400}&after=1", timeout=60)
    assert answer.status_code == 422 and "<h1>" in answer.text


def test_undoing_an_older_message_brings_nothing_stale_back(site: str, service: Service) -> None:
    memory = service._memory
    for day, city in enumerate(("Berlin", "Lisbon", "Madrid"), 1):
        memory.add(f"I live in {city}.", user_id="una", timestamp=f"2026-01-0{day}")
    facts = [row for row in memory.get_all(filters={"user_id": "una"}, top_k=50)["results"] if "lives" in row["memory"]]
    assert [row["memory"] for row in facts] == ["Una lives in Madrid."]
    found = memory.store.query(service._memory.store.owner(facts[0]["id"]), closed=True)  # type: ignore[arg-type]
    lisbon = [cube.id for cube in found.cubes if "Lisbon" in cube.text]
    for _ in range(2):  # the second time from a page that is out of date
        form = {"undo": " ".join(lisbon), "user_id": "una", "history": "[]"}
        assert httpx.post(f"{site}/dashboard/chat/undo", data=form, timeout=60).status_code == 200
        standing = memory.get_all(filters={"user_id": "una"}, top_k=50)["results"]
        assert [row["memory"] for row in standing if "lives" in row["memory"]] == ["Una lives in Madrid."]


def test_texts_that_take_long_to_compare_are_shown_whole() -> None:
    old, new = "a " * 700, "a x " * 460
    assert compared(old, new) == [("del", old), ("ins", new)]
    assert compared("a b", "a c") == [("same", "a "), ("del", "b"), ("ins", "c")]
    assert COMPARED < 700 * 460


@pytest.mark.parametrize("long", [400, 401, 3000])
def test_links_of_very_long_names_lead_somewhere_or_are_none(site: str, service: Service, long: int) -> None:
    name = f"n{long} ".ljust(long, "n")
    header = Header(scope=Scope("default", "long"), semantic_type="fact", claim=Claim(name, "residence", "Bern"))
    with service._memory.store.transaction() as tx:
        tx.insert([Write(MemCube(header, TextPayload(f"{long} lives in Bern.")))])
    led = 0
    for path in ("timeline?user_id=long", "graph?show=sources&user_id=long"):
        page = httpx.get(f"{site}/dashboard/{path}", timeout=60)
        assert page.status_code == 200 and f"n{long} nnn" in page.text
        for to in set(re.findall(r'href="(/dashboard/[^"]*)"', page.text)):
            if f"n{long}+" in to or f"n{long}%20" in to:
                led += 1
                assert httpx.get(site + unescape(to), timeout=60).status_code == 200
    assert led == (0 if long > 400 else 2)


def test_past_the_budget_of_a_page_old_and_new_are_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "COMPARED_ON_A_PAGE", 10)
    with Memory(":memory:", embedder=WordVectors()) as memory:
        id = memory.add("one two", user_id="una", infer=False, metadata={"n": 1})["results"][0]["id"]
        for n in range(2, 5):
            memory.update(id, f"one two {n}", metadata={"n": n})
        store = memory.store
        told = [step for step in history.steps(store, id, store.versions(id), last=9) if step.text or step.notes]
    assert told[0].text == [("same", "one two"), ("ins", " 2")] or told[0].text[0][0] == "same"
    assert told[-1].text == [("del", "one two 3"), ("ins", "one two 4")]
    assert told[-1].notes == [("del", '{\n  "n": 3\n}'), ("ins", '{\n  "n": 4\n}')]
    assert len(told) == 3


def test_of_an_edited_memory_the_graph_shows_what_it_says_now(site: str, service: Service) -> None:
    told = service._memory.add("My boat is called Zenith.", user_id="gil")["results"]
    fact = next(row["id"] for row in told if row["semantic_type"] == "fact")
    service._memory.update(fact, "Gil's boat is called Nadir.")
    page = httpx.get(f"{site}/dashboard/graph?show=sources&user_id=gil", timeout=60).text
    shown = re.search(rf'<a href="/dashboard/memories/{fact}"([^>]*)>([^<]*)</a>', page)
    assert shown is not None and unescape(shown[2]) == "Gil's boat is called Nadir." and "gone" not in shown[1]
