"""What a person typed is not lost: not by a refusal, not by a key that has ended, not by Enter in the wrong place."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_server import serving
from playwright.sync_api import Browser, BrowserContext, Page, expect
from remembering import remember

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.kernel.governing.limits import Rate, RateLimits
from lamina.server.app import create_app
from lamina.server.service import Service
from lamina.settings import Settings


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Its memories are found by their words."""
    with Memory(tmp_path_factory.mktemp("typed") / "m.db", embedder=WordVectors()) as memory:
        yield Service(memory)


@pytest.fixture
def expiring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Service, Any, str]]:
    """A service with a key and a memory: its address, itself, the key (``id``, token) and the memory's id."""
    with Memory(tmp_path_factory.mktemp("expiring") / "m.db", embedder=WordVectors()) as memory:
        service = Service(memory)
        key = service.keys.create("ada", tenant=memory.settings.tenant)
        service.keys.create("other", tenant=memory.settings.tenant)
        id = remember(service, "Ada has a red hat.", "ada")
        with serving(create_app(service)) as url:
            yield url, service, key, id


def plain(browser: Browser) -> Any:
    return browser.new_context(java_script_enabled=False)


def test_a_refused_edit_comes_back_without_scripts(browser: Browser, site: str, service: Service) -> None:
    id = remember(service, "Ivan works at the old mill.", "ivan")
    with plain(browser) as context:
        page = context.new_page()
        page.goto(f"{site}/dashboard/memories/{id}")
        page.get_by_text("Edit", exact=True).click()
        text, notes = page.get_by_role("textbox", name="Text", exact=True), page.get_by_label("Metadata")
        text.fill("Ivan works\n<b>nowhere</b>.")
        notes.fill("{sure")
        with page.expect_response("**/memories/*") as answer:
            page.get_by_role("button", name="Save").click()
        assert answer.value.status == 400
        expect(page.get_by_role("alert")).to_contain_text("not JSON")
        expect(text).to_have_value("Ivan works\n<b>nowhere</b>.")
        expect(notes).to_have_value("{sure")
        notes.fill("")
        service._memory.update(id, "Ivan works at the new mill.")
        with page.expect_response("**/memories/*") as answer:
            page.get_by_role("button", name="Save").click()
        assert answer.value.status == 409
        expect(page.get_by_role("alert")).to_contain_text("changed meanwhile")
        expect(page.locator("#edit blockquote")).to_have_text("Ivan works at the new mill.")
        expect(text).to_have_value("Ivan works\n<b>nowhere</b>.")
        page.get_by_role("button", name="Save").click()  # knowing that
        assert page.url.endswith("?said=changed")
    assert service._memory.get(id)["memory"] == "Ivan works\n<b>nowhere</b>."


def test_a_refused_edit_stays_with_scripts(page: Page, site: str, service: Service) -> None:
    id = remember(service, "Jo sails.", "jo")
    page.goto(f"{site}/dashboard/memories/{id}")
    page.get_by_text("Edit", exact=True).click()
    page.get_by_role("textbox", name="Text", exact=True).fill("Jo rows.")
    service._memory.update(id, "Jo swims.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("changed meanwhile")
    expect(page.locator("#edit blockquote")).to_have_text("Jo swims.")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("A new version was written").wait_for()
    assert service._memory.get(id)["memory"] == "Jo rows."


def test_an_edit_of_what_was_deleted_meanwhile_is_still_there_to_copy(site: str, service: Service) -> None:
    id = remember(service, "Kim flies.", "kim")
    service._memory.delete(id)
    answer = httpx.post(f"{site}/dashboard/memories/{id}", data={"text": "Kim rests.", "version": "1"})
    assert answer.status_code == 409 and "Kim rests.</textarea>" in answer.text


def test_a_refused_memory_comes_back(browser: Browser, page: Page, site: str, service: Service) -> None:
    def refused(page: Page) -> None:
        page.goto(f"{site}/dashboard/memories")
        page.get_by_role("textbox", name="What").fill("I like tea.")
        page.get_by_label("Whose memory").fill("has space")
        page.get_by_label("Take facts").uncheck()
        page.get_by_role("button", name="Remember", exact=True).click()
        expect(page.locator("#remember").get_by_role("alert")).to_contain_text("has space")
        expect(page.get_by_role("textbox", name="What")).to_have_value("I like tea.")
        expect(page.get_by_label("Take facts")).not_to_be_checked()
        page.get_by_label("Whose memory").fill("lee")
        page.get_by_role("button", name="Remember", exact=True).click()
        page.get_by_text("Remembered.", exact=True).wait_for()

    with plain(browser) as context:
        refused(context.new_page())
    service._memory.delete_all(user_id="lee")
    refused(page)
    answer = httpx.post(f"{site}/dashboard/memories", data={"text": "x", "user_id": "has space"})
    assert answer.status_code == 400


def test_a_key_that_ends_meanwhile_leaves_the_page_as_it_is(page: Page, expiring: Any) -> None:
    url, service, (key, token), id = expiring
    page.context.add_cookies([{"name": "lamina_key", "value": token, "domain": "127.0.0.1", "path": "/dashboard"}])
    page.goto(f"{url}/dashboard/memories/{id}")
    page.get_by_text("Edit", exact=True).click()
    text = page.get_by_role("textbox", name="Text", exact=True)
    text.fill("Ada has a blue hat.")
    service.keys.revoke(key.id)
    page.get_by_role("button", name="Save").click()
    alert = page.locator("#said").get_by_role("alert")
    expect(alert).to_contain_text("not signed in any more")
    expect(text).to_have_value("Ada has a blue hat.")
    _, other = service.keys.create("ada again", tenant=service.settings.tenant)
    with page.context.expect_page() as opened:
        alert.get_by_role("link", name="Sign in").click()
    opened.value.get_by_label("Key").fill(other)
    opened.value.get_by_role("button", name="Open").click()
    opened.value.get_by_role("heading", name="Memories", exact=True).wait_for()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("A new version was written").wait_for()


def test_without_scripts_it_is_shown_beside_the_key(expiring: Any) -> None:
    url, _, _, id = expiring
    told = {"text": "Ada has <b>no</b> hat.", "version": "1", "metadata": ""}
    answer = httpx.post(f"{url}/dashboard/memories/{id}", data=told)
    assert answer.status_code == 401 and "Ada has &lt;b&gt;no&lt;/b&gt; hat.</textarea>" in answer.text
    assert "not signed in any more" in answer.text


def test_enter_beside_the_question_sends_no_suggestion_and_takes_nothing_back(
    page: Page, site: str, service: Service
) -> None:
    service._memory.add("I am allergic to walnuts.", user_id="mia")
    sent: list[str] = []
    page.route("**/dashboard/chat*", lambda route: _watch(route, sent))
    page.goto(f"{site}/dashboard/chat?user_id=mia")
    expect(page.locator("#start button").first).to_be_visible()
    page.get_by_label("With memory").focus()
    page.keyboard.press("Enter")
    assert page.locator("#question:invalid").count() == 1 and sent == []  # it asks for a question
    page.get_by_label("Say or ask").fill("Why?")
    page.get_by_label("With memory").focus()
    page.keyboard.press("Enter")
    page.locator("#talk [role=alert]").wait_for(state="attached")
    assert len(sent) == 1 and "question=Why%3F" in sent[0] and "suggested" not in sent[0]


def _watch(route: Any, sent: list[str]) -> None:
    if route.request.method == "GET":
        route.continue_()
        return
    sent.append(str(route.request.post_data))
    route.fulfill(status=400, content_type="text/html", body='<p role="alert">later</p>')


HELD = {"text": "I <b>do</b> like tea.", "user_id": "ada", "infer": "true"}


def _shown(answer: httpx.Response, status: int, *texts: str) -> None:
    """Everything that was typed is on the page, below the reason."""
    assert answer.status_code == status and answer.headers["content-type"].startswith("text/html")
    for text in texts:
        assert f"{text}</textarea>" in answer.text
        assert answer.text.index("<h1>") < answer.text.index(f"{text}</textarea>")


def test_a_refusal_before_the_page_shows_what_was_typed(tmp_path: Path) -> None:
    settings = Settings(llm="openai:m", llm_base_url="http://127.0.0.1:1/v1", llm_api_key="sk", model_requests=1)
    limits = RateLimits({"write": Rate.per_minute(1)})
    with Memory(tmp_path / "m.db", embedder=WordVectors(), settings=settings) as memory:
        service = Service(memory, limits=limits)
        id = remember(service, "Ada has a red hat.", "ada")
        go = threading.Event()
        holding = threading.Thread(target=lambda: asyncio.run(service.places.run(go.wait)))
        holding.start()
        with serving(create_app(service)) as url, httpx.Client(base_url=f"{url}/dashboard") as client:
            while not service.places.taken:
                time.sleep(0.01)
            busy = client.post("/memories", data=HELD)
            _shown(busy, 503, "I &lt;b&gt;do&lt;/b&gt; like tea.", "ada")
            assert int(busy.headers["retry-after"]) >= 1 and "All 1 requests" in busy.text
            often = client.post(f"/memories/{id}", data={"text": "No hat.", "version": "1", "metadata": '{"a": 1}'})
            _shown(often, 429, "No hat.", "{&#34;a&#34;: 1}")
            assert int(often.headers["retry-after"]) >= 1
            part = client.post("/memories", data=HELD, headers={"HX-Request": "true"})
            assert part.status_code == 429 and part.headers["hx-retarget"] == "#said" and "<h1>" not in part.text
            assert int(part.headers["retry-after"]) >= 1
            _, token = service.keys.create("looks", tenant=memory.settings.tenant, rights=["read"])
            client.cookies.set("lamina_key", token)
            _shown(client.post("/chat", data={"question": "Why?", "user_id": "ada"}), 403, "Why?")
        go.set()
        holding.join()


def test_what_is_wrong_in_a_form_shows_what_was_typed(site: str) -> None:
    answer = httpx.post(f"{site}/dashboard/memories/x", data={"text": "Only a text.", "version": "first"})
    _shown(answer, 422, "Only a text.")


def test_a_service_that_is_gone_is_said_on_every_page(context: BrowserContext, site: str, service: Service) -> None:
    id = remember(service, "Nia skates.", "nia")
    page = context.new_page()
    page.goto(f"{site}/dashboard/memories/{id}")
    page.get_by_text("Edit", exact=True).click()
    text = page.get_by_role("textbox", name="Text", exact=True)
    text.fill("Nia skis.")
    page.route("**/dashboard/memories/*", lambda route: route.abort())
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#said").get_by_role("alert")).to_contain_text("cannot be reached")
    expect(text).to_have_value("Nia skis.")
    page.unroute("**/dashboard/memories/*")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("A new version was written").wait_for()
    page.goto(f"{site}/dashboard/chat?user_id=nia")
    page.get_by_label("Say or ask").fill("Why?")
    page.route("**/dashboard/chat", lambda route: route.fulfill(status=502, content_type="text/plain", body="gone"))
    page.get_by_role("button", name="Send", exact=True).last.click()
    expect(page.locator("#said").get_by_role("alert")).to_contain_text("No answer in time")
    expect(page.get_by_label("Say or ask")).to_have_value("Why?")


def test_an_address_with_ends_of_lines_is_no_fault(expiring: Any) -> None:
    url, _, (_, token), _ = expiring
    told = {"key": token, "to": "memories?q=a+b%20c\r\nSet-Cookie: x=1"}
    for headers, name in (({"HX-Request": "true"}, "hx-redirect"), ({}, "location")):
        answer = httpx.post(f"{url}/dashboard/sign-in", data=told, headers=headers)
        assert answer.status_code in (204, 303)
        assert answer.headers[name] == "/dashboard/memories?q=a+b%20c%0D%0ASet-Cookie:%20x=1"
