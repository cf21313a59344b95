"""The list of memories as a person uses it: in a real browser, and without scripts."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from remembering import entries, put_form, remember

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Header, Lineage, MemCube, Provenance, Scope, Source, State, now
from lamina.cube.payload import TextPayload
from lamina.server.dashboard.memories import Asked, find
from lamina.server.dashboard.stops import MOST, stops
from lamina.server.service import Service
from lamina.store.base import Write


@pytest.fixture(scope="module", autouse=True)
def ready(service: Service) -> None:
    """The encoder is loaded once, before anybody waits for a page."""
    service._memory.embedder.encode(["ready"])


def test_what_is_remembered_is_found_while_typing_and_the_address_follows(page: Page, site: str) -> None:
    page.goto(f"{site}/dashboard/memories")
    for text in ("I moved to Denver in June.", "I am allergic to walnuts."):
        page.get_by_label("What", exact=True).fill(text)
        page.get_by_label("Whose memory").fill("alice")
        page.get_by_role("button", name="Remember", exact=True).click()
        page.get_by_role("link", name=text).wait_for()
        page.get_by_role("status").get_by_text("Remembered.").wait_for()
    page.get_by_label("Search").press_sequentially("which nuts are dangerous", delay=5)
    expect(page.locator("#found .entry .text").first).to_contain_text("walnuts")
    expect(page.locator("#found .score").first).to_contain_text(re.compile(r"\d\.\d\d = .*meaning \d\.\d\d"))
    expect(page.locator("#said")).to_be_empty()  # what was said of the write is over
    assert "q=which+nuts+are+dangerous" in page.url
    page.reload()
    expect(page.get_by_label("Search")).to_have_value("which nuts are dangerous")
    page.get_by_label("Search").fill("where is home")
    expect(page.locator("#found .entry .text").first).to_contain_text("Denver")
    page.go_back()  # past all words that were typed
    expect(page.get_by_label("Search")).to_have_value("")
    expect(page.locator("#found .score")).to_have_count(0)
    assert "q=" not in page.url
    page.go_forward()
    expect(page.get_by_label("Search")).to_have_value("where is home")
    expect(page.locator("#found .entry .text").first).to_contain_text("Denver")
    page.get_by_label("Search").fill("")
    expect(page.locator("#found .score")).to_have_count(0)


def test_the_list_is_narrowed_by_owner_kind_and_metadata(page: Page, site: str, service: Service) -> None:
    remember(service, "Meet Dora at the harbour.", "dora", metadata={"city": "Hamburg", "floor": 3})
    remember(service, "The lift is out of order.", "dora", metadata={"city": "Bremen"})
    service._memory.add("My cat is called Mia.", user_id="dora")
    page.goto(f"{site}/dashboard/memories")
    page.get_by_label("User").select_option("dora")
    expect(page.locator("#count")).to_contain_text("4 memories")
    page.get_by_label("Kind").select_option("fact")
    expect(page.locator("#found .entry")).to_have_count(1)
    page.get_by_label("Kind").select_option("")
    for told in ("city=Hamburg", "floor=3"):
        page.get_by_label("Tag, or metadata").fill(told)
        expect(page.locator("#found .entry .text")).to_have_text(["Meet Dora at the harbour."])
    page.get_by_label("Tag, or metadata").fill("no such tag")
    page.get_by_role("heading", name="Nothing fits").wait_for()
    assert "user_id=dora" in page.url


def test_long_lists_come_in_pages(page: Page, site: str, service: Service) -> None:
    items = [{"messages": f"note number {n}", "user_id": "emil"} for n in range(60)]
    service._memory.add_batch(items, infer=False)
    page.goto(f"{site}/dashboard/memories?user_id=emil")
    assert len(entries(page)) == 25
    expect(page.locator("#count")).to_contain_text("60 memories")
    for shown in (50, 60):
        page.get_by_role("link", name="Show more").click()
        expect(page.locator("#found .entry")).to_have_count(shown)
    expect(page.get_by_role("link", name="Show more")).to_have_count(0)
    assert len(set(entries(page))) == 60
    page.get_by_label("Search").fill("note number")
    expect(page.locator("#found .score")).to_have_count(25)
    page.get_by_role("link", name="Show more").click()
    expect(page.locator("#found .score")).to_have_count(50)


def test_the_slider_goes_back_in_time(page: Page, site: str, service: Service) -> None:
    id = remember(service, "Fay lives in Oslo.", "fay", timestamp="2020-01-01T10:00:00Z")
    remember(service, "Fay plays chess.", "fay", timestamp="2020-03-01T10:00:00Z")
    service._memory.update(id, "Fay lives in Rome.")
    page.goto(f"{site}/dashboard/memories?user_id=fay")
    assert set(entries(page)) == {"Fay lives in Rome.", "Fay plays chess."}
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("Home")  # the first thing that ever happened here
    expect(page.locator("#stop")).to_have_text("1 Jan 2020, 10:00")
    expect(page.locator("#found .entry")).to_have_count(1)
    assert entries(page) == ["Fay lives in Oslo."] and "as_of=2020-01-01T10" in page.url
    slider.press("ArrowRight")
    expect(page.locator("#found .entry")).to_have_count(2)
    page.get_by_label("Search").fill("where does fay live")
    expect(page.locator("#found .score").first).to_be_visible()
    assert entries(page)[0] == "Fay lives in Oslo."
    page.get_by_label("Date and time").fill("2020-02-01T00:00")
    expect(page.locator("#stop")).to_have_text("2020-02-01, 00:00")
    expect(page.locator("#found .entry")).to_have_count(1)
    page.get_by_role("link", name="Back to now").click()
    page.get_by_text("Fay lives in Rome.").wait_for()


def test_everything_works_without_scripts(browser: Browser, site: str, service: Service) -> None:
    id = remember(service, "Gus keeps bees.", "gus", timestamp="2021-05-01T10:00:00Z")
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{site}/dashboard/memories")
        assert not page.get_by_role("slider").is_visible()
        page.get_by_label("Search").fill("bees")
        page.get_by_label("User").select_option("gus")
        page.get_by_label("Date and time").fill("2021-06-01T00:00")
        page.get_by_role("button", name="Search").click()
        page.get_by_role("link", name="Gus keeps bees.").click()
        assert page.url.endswith(id)
        page.get_by_text("Edit", exact=True).click()
        page.get_by_role("textbox", name="Text", exact=True).fill("Gus keeps wasps.")
        page.get_by_role("button", name="Save").click()
        assert page.url.endswith("?said=changed") and page.locator("ins").inner_text() == "wasps"
        page.get_by_role("link", name="Forget…").click()
        page.get_by_label("Type the word").fill("forget")
        page.get_by_role("button", name="Erase for good").click()
        assert page.url.endswith("/memories?said=forgotten")


def test_statements_that_were_set_aside_are_accepted_or_deleted(page: Page, site: str, service: Service) -> None:
    source = remember(service, "Hana talked about boats.", "hana")
    for text in ("Hana owns a yacht.", "Hana owns a canoe."):
        set_aside(service, text, source)
    page.goto(f"{site}/dashboard/memories?state=aside&user_id=hana")
    expect(page.locator("#found .entry")).to_have_count(2)
    page.get_by_text("Set aside: no turn says so").first.wait_for()
    page.get_by_role("button", name="Accept: Hana owns a yacht.").click()
    page.get_by_text("Believed from now on.").wait_for()
    page.get_by_role("button", name="Delete: Hana owns a canoe.").click()
    page.get_by_role("heading", name="Nothing is set aside").wait_for()
    page.goto(f"{site}/dashboard/memories?q=yacht+or+canoe&user_id=hana")
    assert entries(page) == ["Hana owns a yacht."]


def set_aside(service: Service, text: str, source: str) -> None:
    scope = Scope(service.settings.tenant, "hana")
    provenance, lineage = Provenance((Source(source, 0, 4),)), Lineage(((source, 1),), "extract")
    tags = ("quarantined", "no turn says so")
    header = Header(scope=scope, state=State.ARCHIVED, tags=tags, provenance=provenance, lineage=lineage)
    vector = service._memory.embedder.encode([text])[0]
    with service._memory.store.transaction() as tx:
        tx.insert([Write(MemCube(header, TextPayload(text)), vector)])


@pytest.mark.parametrize(
    "asked", ["as_of=yesterday", "cursor=x", "state=lost", "k=100000", "user_id=a%20b", "tag=a.b.c.d.e.f.g.h.i=1"]
)
def test_what_cannot_be_asked_is_said(site: str, asked: str) -> None:
    url = f"{site}/dashboard/memories?{asked}"
    whole, part = httpx.get(url), httpx.get(url, headers={"HX-Request": "true"})
    assert whole.status_code in (400, 422) and "<h1>That was not done" in whole.text
    assert part.status_code == whole.status_code and part.headers["hx-retarget"] == "#said"


def test_the_count_is_that_of_the_list(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db", embedder=WordVectors()) as memory:
        service, ids = Service(memory), []
        for n in range(8):
            ids.append(remember(service, f"memory {n}", "ada"))
        remember(service, "expired", "ada", expiration_date="2020-01-01")
        remember(service, "will expire", "ada", expiration_date="2100-01-01")
        past, scope = datetime(2020, 1, 1, tzinfo=UTC), Scope(memory.settings.tenant, "ada")
        with memory.store.transaction() as tx:
            for kind in ("fact", "event"):  # a fact ends, an event has happened
                header = Header(scope=scope, semantic_type=kind, valid_to=past)
                tx.insert([Write(MemCube(header, TextPayload(kind)), memory.embedder.encode([kind])[0])])
        memory.delete(ids[0])
        memory.update(ids[1], "changed")
        caller = service.identify(None)
        service.system(caller).archive(ids[2])
        service.system(caller).freeze(ids[3])
        found = find(service, caller, Asked())
        assert found.count == len(found.entries) == 8
        closed = find(service, caller, Asked(state="closed"))
        assert [one.cube.text for one in closed.entries] == ["memory 0"]
        archived = find(service, caller, Asked(state="archived"))
        assert [one.cube.text for one in archived.entries] == ["memory 2"]
        assert [one.cube.text for one in find(service, caller, Asked(state="closed", q="Memory 0")).entries] == [
            "memory 0"
        ]
        memory.restore(ids[0])
        assert find(service, caller, Asked(state="closed")).entries == []


def test_the_slider_stops_where_something_changed_or_at_days_of_a_long_life(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db", embedder=WordVectors()) as memory:
        service, scope = Service(memory), Scope(memory.settings.tenant)
        assert stops(memory.store, scope) == []
        id = remember(service, "first", "ada", timestamp="2020-01-01T10:00:00.000001Z")
        memory.update(id, "second")
        changed = memory.store.versions(id)[0].header.superseded
        assert changed is not None
        first, second = stops(memory.store, scope)
        assert first == datetime(2020, 1, 1, 10, 0, 0, 1000, tzinfo=UTC)
        assert timedelta() <= second - changed < timedelta(milliseconds=1)
        (before,) = memory.store.query(scope, as_of=first).cubes
        (after,) = memory.store.query(scope, as_of=second).cubes
        assert (before.text, after.text) == ("first", "second")
        many = [
            {"messages": f"n{n}", "user_id": "a", "timestamp": f"2020-02-01T10:{n // 60:02}:{n % 60:02}Z"}
            for n in range(500)
        ]
        memory.add_batch(many, infer=False)
        days = stops(memory.store, scope)
        assert 2 <= len(days) <= MOST and days == sorted(days) and days[-1] <= now()
        assert days[0].date() == datetime(2020, 1, 1, tzinfo=UTC).date()
        assert len({b - a for a, b in pairwise(days)}) == 1


def test_the_slider_stops_in_a_life_of_one_busy_day_too(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db", embedder=WordVectors()) as memory:
        scope, today = Scope(memory.settings.tenant), now()
        for start, expected in ((today + timedelta(days=1), 0), (today - timedelta(hours=1), MOST)):
            many = [
                {"messages": "n", "user_id": "a", "timestamp": start + n * timedelta(seconds=1)} for n in range(401)
            ]
            memory.add_batch(many, infer=False)
            found = stops(memory.store, scope)
            assert len(found) == expected and found == sorted(set(found)) and all(at < now() for at in found)


@pytest.mark.parametrize("value", ["NaN", "1e999", "9" * 30, "[" * 400, "true", "-1.5"])
def test_any_value_of_metadata_can_be_looked_for(tmp_path: Path, value: str) -> None:
    with Memory(tmp_path / "m.db", embedder=WordVectors()) as memory:
        service = Service(memory)
        remember(service, "this", "ada", metadata={"key": value})
        remember(service, "that", "ada", metadata={"key": "other"})
        found = find(service, service.identify(None), Asked(tag=f"key={value}"))
        assert [one.cube.text for one in found.entries] == ["this"]


def test_the_form_of_each_memory_is_told_and_no_model_is_loaded(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db", embedder=WordVectors()) as memory:
        service = Service(memory)
        ids = [remember(service, text, "ada") for text in ("cached", "learnt", "written")]
        for id, kind in zip(ids, ("activation", "parameter"), strict=False):
            put_form(memory, id, kind)
        caller = service.identify(None)
        tiers = {one.cube.text: one.tier for one in find(service, caller, Asked()).entries}
        assert tiers == {"cached": "activation", "learnt": "parameter", "written": "text"}
        memory.update(ids[0], "cached no more")
        memory.delete(ids[2])
        tiers = {one.cube.text: one.tier for one in find(service, caller, Asked()).entries}
        assert tiers == {"cached no more": "text", "learnt": "parameter"}
        (gone,) = find(service, caller, Asked(state="closed")).entries
        assert gone.tier is None and service.system(caller).loaded is None
