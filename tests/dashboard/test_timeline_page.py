"""The timeline as a person uses it: what held when, what was known when; and who sees nothing of it."""

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
from lamina.cube.cube import Claim, Header, MemCube, Scope
from lamina.cube.payload import TextPayload
from lamina.server.app import create_app
from lamina.server.dashboard.timeline import Asked, held, known, windowed
from lamina.server.service import Service
from lamina.store.base import Write

START = datetime(2026, 1, 3, 9, 30, tzinfo=UTC)
SAID = (
    "I moved to Denver in June 2025.",
    "My sister Anna works at Siemens in Munich.",
    "I have a dog named Rex.",
    "<script>alert(1)</script> I like olives.",
    "I moved to Boulder in September 2025.",
    "I keep bees since 2019.",
)
SVG = ".chart.large svg"


def told(path: Path) -> Memory:
    memory = Memory(path / "m.db", embedder=WordVectors())
    for number, text in enumerate(SAID):
        at = (START + timedelta(days=30 * number)).isoformat()
        memory.add([{"role": "user", "content": text}], user_id="alice", timestamp=at)
    memory.add("My secret is Zanzibar. I work at Kelvor.", user_id="bob", timestamp=START.isoformat())
    return memory


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with told(tmp_path_factory.mktemp("timeline")) as memory:
        yield Service(memory)


def marks(page: Page) -> dict[str, tuple[float, float, float]]:
    """Of each bar its title (without the days): from where to where it reaches, and its middle from above."""
    found = page.locator(f"{SVG} .span").evaluate_all(
        "all => all.map(a => { const b = a.querySelector('path, circle').getBBox();"
        " return [a.querySelector('title').textContent, b.x, b.x + b.width, b.y + b.height / 2]; })"
    )
    return {title.split(" (")[0]: (x, end, y) for title, x, end, y in found}


def test_what_replaced_what_is_one_lane(page: Page, site: str) -> None:
    page.goto(f"{site}/dashboard/timeline?user_id=alice")
    found = marks(page)
    denver, boulder = found["Alice moved to Denver in June 2025."], found["Alice moved to Boulder in September 2025."]
    assert denver[2] == pytest.approx(boulder[2])  # one row
    assert denver[1] == pytest.approx(boulder[0], abs=1.0)  # until the other began
    assert boulder[1] > denver[1]
    assert "Alice · residence" in texts(page, SVG) and "today" in texts(page, SVG)
    open_ones = page.locator(f"{SVG} .span.open").count()
    assert open_ones == len(found) - 1  # Denver alone is over
    page.locator(f"{SVG} .span").filter(has_text="Boulder").click()
    page.wait_for_url("**/dashboard/memories/*")


def test_the_other_clock_says_when_it_was_known(page: Page, site: str) -> None:
    page.goto(f"{site}/dashboard/timeline?user_id=alice&about=Alice")
    page.get_by_role("link", name="When we knew it").click()
    page.get_by_role("heading", name="When we knew it").wait_for()
    assert "clock=known" in page.url and "user_id=alice" in page.url
    page.locator("summary").click()
    denver = page.locator("tbody tr").filter(has_text="Denver")
    expect(denver).to_contain_text("3 Jan 2026")
    expect(denver).to_contain_text("3 May 2026")  # when Boulder was told
    page.get_by_role("link", name="When it held").click()
    page.get_by_role("heading", name="When it held").wait_for()
    page.locator("summary").click()
    expect(page.locator("tbody tr").filter(has_text="Denver")).to_contain_text("1 Jun 2025")
    expect(page.locator("tbody tr").filter(has_text="Denver")).to_contain_text("1 Sep 2025")
    expect(page.locator("tbody tr").filter(has_text="Rex")).to_contain_text("not told")


def test_time_is_narrowed_and_paged(page: Page, site: str) -> None:
    page.goto(f"{site}/dashboard/timeline?user_id=alice&zoom=year&since=2025-07-01")
    assert "Denver" in str(marks(page)) and "Rex" not in str(marks(page))
    assert page.get_by_label("From", exact=True).input_value() == "2025-01-01"
    page.get_by_role("link", name="Earlier").click()
    page.wait_for_url("**since=2024-12-31*")
    expect(page.locator(f"{SVG} .span")).to_have_count(1)  # the bees
    page.get_by_role("link", name="Later").click()
    page.wait_for_url("**since=2025-01-01*")
    page.get_by_role("link", name="A month").click()
    page.wait_for_url("**zoom=month*")
    page.get_by_label("From", exact=True).fill("2026-03-01")
    page.get_by_label("To", exact=True).fill("2026-03-20")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**until=2026-03-20*")
    expect(page.locator(f"{SVG} .span").filter(has_text="Rex")).to_have_count(1)
    expect(page.locator(f"{SVG} .span").filter(has_text="Denver")).to_have_count(0)
    page.get_by_role("link", name="Show all").click()
    expect(page.locator(f"{SVG} .span").filter(has_text="Denver")).to_have_count(1)


def test_the_keyboard_reaches_every_bar(page: Page, site: str) -> None:
    page.goto(f"{site}/dashboard/timeline?user_id=alice")
    page.locator(f"{SVG} .dot").first.focus()
    dots, bars = page.locator(f"{SVG} .dot").count(), page.locator(f"{SVG} .span").count()
    for _ in range(dots + bars - 1):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement === [...document.querySelectorAll('.chart.large .span')].at(-1)")
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard/memories/*")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_never_stand_on_each_other_and_can_be_read(browser: Browser, site: str, width: int, scheme: str) -> None:
    drawing = SVG if width > 700 else ".chart.small svg"
    with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}) as context:  # type: ignore[arg-type]
        page = context.new_page()
        for query in ("", "?clock=known", "?zoom=month&since=2026-03-01"):
            page.goto(f"{site}/dashboard/timeline{query}")
            assert page.locator(".chart svg:visible").count() == 1
            assert texts(page, drawing) and not overlapping(page, drawing)
            assert min(contrasts(page, drawing)) >= 4.5
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_scripts_in_texts_are_texts(page: Page, site: str) -> None:
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.goto(f"{site}/dashboard/timeline")
    assert "<script>alert(1)</script>" in (page.locator(SVG).text_content() or "")
    assert "<script>alert" not in httpx.get(f"{site}/dashboard/timeline").text


def test_many_facts_come_in_pages(tmp_path: Path, browser: Browser) -> None:
    with Memory(tmp_path / "m.db", embedder=WordVectors()) as memory:
        scope = Scope(memory.settings.tenant, "alice")
        cubes = [
            MemCube(
                Header(scope=scope, recorded=START + timedelta(hours=n), claim=Claim("Alice", "likes", f"thing {n}")),
                TextPayload(f"Alice likes thing {n}."),
            )
            for n in range(400)
        ]
        with memory.store.transaction() as tx:
            tx.insert([Write(cube) for cube in cubes])
        with serving(create_app(Service(memory))) as url, browser.new_context() as context:
            page, seen = context.new_page(), set[str]()
            page.goto(f"{url}/dashboard/timeline")
            page.get_by_text("Showing 150 facts, told between").wait_for()
            assert not overlapping(page, SVG)
            for _ in range(3):
                here = set(marks(page))
                assert len(here) <= 150 and not here & seen
                seen |= here
                if page.get_by_role("link", name="Told before").count():
                    page.goto(f"{url}{page.get_by_role('link', name='Told before').get_attribute('href')}")
            assert len(seen) == 400


def test_nothing_of_another_user_or_tenant(tmp_path: Path) -> None:
    with told(tmp_path) as memory:
        service, tenant = Service(memory), memory.settings.tenant
        keys = {
            "alice": service.keys.create("alice", tenant, ["read"], user="alice")[1],
            "all": service.keys.create("all", tenant, ["admin"])[1],
            "other": service.keys.create("other", "elsewhere", ["admin"])[1],
        }
        ids = [cube.id for cube in memory.store.query(Scope(tenant, "bob"), closed=True).cubes]
        with serving(create_app(service)) as url:

            def get(key: str, query: str = "") -> httpx.Response:
                return httpx.get(f"{url}/dashboard/timeline{query}", cookies={"lamina_key": keys[key]})

            for clock in ("?clock=held", "?clock=known", "?about=Bob"):
                assert not any(word in get("alice", clock).text for word in ("Zanzibar", "Kelvor", *ids))
                assert "Kelvor" in get("all", clock).text
                assert not any(word in get("other", clock).text for word in ("Kelvor", "Rex", *ids))
            assert "Denver" in get("alice").text
            assert get("alice", "?user_id=bob").status_code == 403
            assert httpx.get(f"{url}/dashboard/timeline").status_code == 303


def test_a_deleted_fact_holds_no_more_but_was_known(tmp_path: Path) -> None:
    with told(tmp_path) as memory, serving(create_app(Service(memory))) as url:
        (rex,) = memory.store.query(Scope(memory.settings.tenant), {"slot": "pet"}).cubes
        memory.delete(rex.id)
        now_held, was_known = (httpx.get(f"{url}/dashboard/timeline?clock={clock}").text for clock in ("held", "known"))
        assert rex.id not in now_held and "1 deleted one is left out" in now_held
        assert rex.id in was_known


def test_a_fresh_store_says_what_to_do(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db", embedder=WordVectors()) as memory, serving(create_app(Service(memory))) as url:
        answer = httpx.get(f"{url}/dashboard/timeline")
        assert answer.status_code == 200 and "No facts yet" in answer.text and "lamina add" in answer.text
        assert "Nothing at that time" in httpx.get(f"{url}/dashboard/timeline?zoom=year").text


def test_a_part_is_a_part_and_bad_input_is_refused(site: str) -> None:
    part = httpx.get(f"{site}/dashboard/timeline?clock=known", headers={"HX-Request": "true"})
    assert "<html" not in part.text and 'id="timeline"' in part.text
    assert part.headers["hx-push-url"] == "/dashboard/timeline?clock=known"
    for query in ("clock=x", "since=never", "since=2026-02-01&until=2026-01-01", "cursor=x", "user_id=a%20b"):
        answer = httpx.get(f"{site}/dashboard/timeline?{query}")
        assert answer.status_code in (400, 422) and "<h1>" in answer.text, query
    for query in ("since=0001-01-01&until=9999-12-31", "zoom=year&since=0001-01-01", "zoom=month&since=9998-11-01"):
        assert httpx.get(f"{site}/dashboard/timeline?{query}").status_code == 200, query
    assert httpx.get(f"{site}/dashboard/timeline?zoom=year&since=9999-06-01").status_code in (400, 422)


def test_spans_follow_both_clocks() -> None:
    june, july = START, START + timedelta(days=30)
    cube = MemCube(Header(id="one", recorded=july, valid_from=june, superseded_by="two"), TextPayload("x"))
    ended = MemCube(Header(id="one", recorded=june, superseded=july, superseded_by="two"), TextPayload("x"))
    replaced = MemCube(Header(id="one", recorded=june, superseded=july, superseded_by="one"), TextPayload("x"))
    span = held(cube)
    assert span is not None and (span.start, span.end, span.told) == (june, None, True)
    span = held(ended)
    assert span is not None and (span.start, span.end, span.told) == (june, july, False)
    assert held(replaced) is None and (known(replaced).start, known(replaced).end) == (june, july)


def test_windows_are_whole_years_and_months() -> None:
    at = datetime(2026, 6, 15, 12, tzinfo=UTC)
    year, month = windowed(Asked(zoom="year"), at), windowed(Asked(zoom="month", since="2024-02-29"), at)
    assert (year.start, year.end) == (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert (month.start, month.end) == (datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))
    days = windowed(Asked(since="2026-03-01", until="2026-03-20"), at)
    assert days.end == datetime(2026, 3, 21, tzinfo=UTC) and days.shifted(-1) == "2026-02-28"
