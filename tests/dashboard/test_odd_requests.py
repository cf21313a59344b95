"""Addresses and orders that nobody means well, or that come twice: a page, never a failure, never a stale fact."""

from __future__ import annotations

import httpx
import pytest

from lamina.server.dashboard.memory import COMPARED, compared
from lamina.server.service import Service


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
