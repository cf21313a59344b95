"""The graph as a person uses it, by mouse and by keyboard; and who sees nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from drawn_texts import contrasts, overlapping, texts
from live_server import serving
from playwright.sync_api import Browser, Page, expect

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Header, MemCube, Scope
from lamina.cube.payload import TextPayload
from lamina.server.app import create_app
from lamina.server.service import Service
from lamina.store.base import Edge, Write

START = datetime(2026, 1, 3, 9, 30, tzinfo=UTC)
SAID = (
    "I moved to Denver in June 2025.",
    "My sister Anna works at Siemens in Munich.",
    "I have a dog named Rex.",
    "<script>alert(1)</script> I live in Oslo.",
    "Anna moved to Berlin.",
    "I moved to Boulder in August 2026.",
)
SVG = "svg.graph"


def told(path: Path, pipeline: str) -> Memory:
    memory = Memory(path / "m.db", pipeline=pipeline, embedder=WordVectors())
    for day, text in enumerate(SAID):
        at = (START + timedelta(days=30 * day)).isoformat()
        memory.add([{"role": "user", "content": text}], user_id="alice", timestamp=at)
    memory.add("My secret is Zanzibar. I work at Kelvor.", user_id="bob")
    return memory


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with told(tmp_path_factory.mktemp("graph"), "mem0-graph") as memory:
        yield Service(memory)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Service]]:
    """The usual pipeline, which writes no edges."""
    with told(tmp_path_factory.mktemp("plain"), "hybrid") as memory:
        service = Service(memory)
        with serving(create_app(service)) as url:
            yield url, service


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Service, dict[str, str]]]:
    """Keys: alice's own, and another tenant's administrator."""
    with told(tmp_path_factory.mktemp("guarded"), "mem0-graph") as memory:
        service = Service(memory)
        tenant = memory.settings.tenant
        keys = {
            "alice": service.keys.create("alice", tenant, ["read"], user="alice")[1],
            "all": service.keys.create("all", tenant, ["admin"])[1],
            "other": service.keys.create("other", "elsewhere", ["admin"])[1],
        }
        with serving(create_app(service)) as url:
            yield url, service, keys


def row(page: Page, source: str, relation: str, target: str) -> list[str]:
    cells = page.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(c => c.innerText.trim()))"
    )
    found: list[list[str]] = [one for one in cells if one[:3] == [source, relation, target]]
    return found[0] if found else []


def test_from_everything_to_one_name_to_the_memory_that_says_so(page: Page, site: str) -> None:
    page.goto(f"{site}/dashboard/graph?user_id=alice")
    assert {"Alice", "Anna", "Siemens", "works at", "sister"} <= set(texts(page, SVG))
    page.locator(SVG).get_by_role("link").filter(has_text="Anna").click()
    page.get_by_role("heading", name="Anna").wait_for()
    assert "Anna" in (page.locator(f"{SVG} [aria-current]").text_content() or "")
    assert row(page, "Anna", "works at", "Siemens")
    assert not overlapping(page, SVG)
    page.get_by_label("Steps").select_option("1")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(f"{SVG} .node").filter(has_text="Rex")).to_have_count(0)
    expect(page.locator(f"{SVG} .node").filter(has_text="Siemens")).to_have_count(1)
    page.locator("tbody").get_by_role("link", name="works at Siemens").first.click()
    page.wait_for_url("**/dashboard/memories/*")


def test_relations_are_chosen_one_by_one(page: Page, site: str) -> None:
    page.goto(f"{site}/dashboard/graph?user_id=alice")
    chips = page.get_by_role("navigation", name="Which relations")
    chips.get_by_role("link", name="works at").click()
    expect(page.locator(f"{SVG} .link")).to_have_count(1)
    chips.get_by_role("link", name="sister").click()
    expect(page.locator(f"{SVG} .link")).to_have_count(2)
    assert "relation=works_at" in page.url and "relation=sister" in page.url
    chips.get_by_role("link", name="works at").click()
    expect(page.locator(f"{SVG} .link")).to_have_count(1)
    page.reload()
    expect(page.locator(f"{SVG} .link")).to_have_count(1)
    chips.get_by_role("link", name="All relations").click()
    expect(page.locator(f"{SVG} .node").filter(has_text="Rex")).to_have_count(1)


def test_the_keyboard_goes_from_box_to_box(page: Page, site: str) -> None:
    page.goto(f"{site}/dashboard/graph?user_id=alice")
    page.get_by_role("region", name="The drawing").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.node') !== null")
    assert page.locator(".link.near").count() >= 1  # what it is linked to
    page.keyboard.press("Enter")
    page.wait_for_url("**focus=*")
    page.get_by_label("Around a name or id").fill("anna")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Anna").wait_for()


def test_what_ended_is_dashed_and_the_past_is_as_it_was(page: Page, site: str) -> None:
    page.goto(f"{site}/dashboard/graph?user_id=alice&relation=lives_in")
    assert row(page, "Alice", "lives in", "Boulder") and not row(page, "Alice", "lives in", "Denver")
    page.get_by_label("Ended ones too").check()
    page.get_by_role("button", name="Show").click()
    expect(page.locator(f"{SVG} .link.ended").first).to_be_attached()
    dashes = page.locator(f"{SVG} .link.ended .line").first.evaluate("line => getComputedStyle(line).strokeDasharray")
    assert dashes != "none" and row(page, "Alice", "lives in", "Denver")
    page.goto(f"{site}/dashboard/graph?user_id=alice&relation=lives_in&as_of=2026-01-20")
    assert row(page, "Alice", "lives in", "Denver") and not row(page, "Alice", "lives in", "Boulder")


def test_without_a_pipeline_that_links_facts_and_their_words_are_drawn(page: Page, plain: tuple[str, Service]) -> None:
    url, _ = plain
    page.goto(f"{url}/dashboard/graph?user_id=alice")
    expect(page.get_by_role("link", name="Where facts are from")).to_have_attribute("aria-current", "true")
    assert page.locator("tbody tr").filter(has_text="moved to Boulder").filter(has_text="about").count()
    past = page.locator("tbody tr.past").filter(has_text="superseded by")
    expect(past.filter(has_text="Alice moved to Boulder").first).to_be_visible()
    assert page.get_by_text("LAMINA_PIPELINE=mem0-graph").count() == 1
    page.get_by_role("link", name="Who and what is related").click()
    page.get_by_role("heading", name="No pipeline has linked anything yet").wait_for()
    page.goto(f"{url}/dashboard/graph?focus=Anna")
    page.get_by_role("heading", name="Anna", exact=True).wait_for()
    assert "Rex" not in page.locator("main").inner_text()
    page.locator(f"{SVG} .node").filter(has_text="Anna moved").first.click()
    page.wait_for_url("**/dashboard/memories/*")


def test_a_fact_shows_what_rests_on_it_and_where_it_is_from(page: Page, site: str, service: Service) -> None:
    store = service._memory.store
    (edge,) = store.edges(Scope(service.settings.tenant, "alice"), relations=["sister"])
    page.goto(f"{site}/dashboard/graph?focus={edge.evidence}&hops=1")
    assert row(page, "Alice", "sister", "Anna") and row(page, "Anna", "works at", "Siemens")
    page.get_by_role("link", name="Where facts are from").click()
    page.locator("tbody tr").filter(has_text="taken from").first.wait_for()
    assert SAID[1] in page.locator("tbody").inner_text()


def test_scripts_in_texts_are_texts(page: Page, plain: tuple[str, Service]) -> None:
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    url, _ = plain
    page.goto(f"{url}/dashboard/graph?focus=Alice&ended=true")
    assert page.locator("tbody").get_by_text("<script>alert(1)</script>").count() >= 1
    assert "<script>alert" not in httpx.get(f"{url}/dashboard/graph").text


@pytest.mark.parametrize("query", ["", "?show=sources", "?show=sources&focus=Alice", "?focus=Anna&user_id=alice"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_never_stand_on_each_other_and_can_be_read(browser: Browser, site: str, query: str, scheme: str) -> None:
    with browser.new_context(color_scheme=scheme, viewport={"width": 390, "height": 800}) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(f"{site}/dashboard/graph{query}")
        assert texts(page, SVG) and not overlapping(page, SVG)
        assert min(contrasts(page, SVG)) >= 4.5
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_no_more_than_two_hundred_are_drawn_and_it_says_so(tmp_path: Path, browser: Browser) -> None:
    with Memory(tmp_path / "m.db", embedder=WordVectors()) as memory:
        scope = Scope(memory.settings.tenant, "alice")
        cubes = [MemCube(Header(scope=scope, semantic_type="entity"), TextPayload(f"Name {n}")) for n in range(420)]
        edges = [
            Edge(
                source=cubes[n].id,
                target=cubes[n // 3].id,
                relation="knows",
                weight=1 if n < 150 else 0.1,
                recorded=START,
            )
            for n in range(1, 420)
        ]
        with memory.store.transaction() as tx:
            tx.insert([Write(cube) for cube in cubes])
            tx.connect(edges)
        with serving(create_app(Service(memory))) as url, browser.new_context() as context:
            page = context.new_page()
            page.goto(f"{url}/dashboard/graph")
            page.get_by_text("Showing the 200 strongest of 420").wait_for()
            assert page.locator(f"{SVG} .node").count() <= 200
            assert not overlapping(page, SVG)
            assert page.locator(f"{SVG} .node").filter(has_text="Name 100").count() == 1  # of the strong ones
            page.get_by_label("Whole").check()
            box = page.locator(SVG).bounding_box()
            assert box is not None and box["width"] <= 1280


def test_nothing_of_another_user_or_tenant(guarded: tuple[str, Service, dict[str, str]]) -> None:
    url, service, keys = guarded
    store, tenant = service._memory.store, service.settings.tenant
    bobs = [cube.id for cube in store.query(Scope(tenant, "bob"), closed=True).cubes]
    alices = [cube.id for cube in store.query(Scope(tenant, "alice"), closed=True).cubes]
    assert bobs and alices

    def get(key: str, query: str) -> httpx.Response:
        return httpx.get(f"{url}/dashboard/graph{query}", cookies={"lamina_key": keys[key]})

    for show in ("related", "sources"):
        mine = get("alice", f"?show={show}")
        assert "Anna" in mine.text and not any(word in mine.text for word in ("Zanzibar", "Kelvor", *bobs))
        assert "Kelvor" in get("all", f"?show={show}").text
        empty = get("other", f"?show={show}")
        assert empty.status_code == 200 and not any(word in empty.text for word in ("Anna", "Kelvor", *alices, *bobs))
    unknown = get("alice", "?focus=nobody-at-all")
    for key, focus in (
        ("alice", bobs[0]),
        ("alice", "Kelvor"),
        ("alice", "Bob"),
        ("other", alices[0]),
        ("other", "Anna"),
    ):
        answer = get(key, f"?focus={focus}")
        assert answer.status_code == unknown.status_code == 404
        assert answer.text.replace(focus, "nobody-at-all") == unknown.text or key == "other"
    assert get("alice", "?user_id=bob").status_code == 403
    assert httpx.get(f"{url}/dashboard/graph").status_code == 303  # who is unknown signs in


def test_a_fresh_store_says_what_to_do(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db", embedder=WordVectors()) as memory, serving(create_app(Service(memory))) as url:
        answer = httpx.get(f"{url}/dashboard/graph")
        assert answer.status_code == 200 and "Nothing to draw yet" in answer.text and "lamina add" in answer.text


def test_a_part_is_a_part_and_bad_input_is_refused(site: str) -> None:
    part = httpx.get(f"{site}/dashboard/graph?user_id=alice", headers={"HX-Request": "true"})
    assert "<html" not in part.text and 'id="graph"' in part.text
    assert part.headers["hx-push-url"] == "/dashboard/graph?show=related&user_id=alice"
    for query in ("hops=3", "show=all", "as_of=never", "user_id=a%20b", "cursor=x&show=sources", "focus=a%00b"):
        answer = httpx.get(f"{site}/dashboard/graph?{query}")
        assert answer.status_code in (400, 404, 422) and "<h1>" in answer.text, query
