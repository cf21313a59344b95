"""What a person typed is not lost: not by a refusal, not by a key that has ended, not by Enter in the wrong place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from live_server import serving
from playwright.sync_api import Browser, Page, expect
from remembering import remember

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.server.app import create_app
from lamina.server.service import Service


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
