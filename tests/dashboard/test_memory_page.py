"""One memory as a person uses it, by mouse and by keyboard; and who may not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_server import serving
from playwright.sync_api import Browser, Page, expect
from remembering import bytes_of, put_form, remember

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Header, Lineage, MemCube, Provenance, Scope, Source, now
from lamina.cube.payload import TextPayload
from lamina.server.app import create_app
from lamina.server.dashboard.history import compared
from lamina.server.service import Service
from lamina.store.base import Edge, Write


@pytest.fixture(scope="module", autouse=True)
def ready(service: Service) -> None:
    """The encoder is loaded once, before anybody waits for a page."""
    service._memory.embedder.encode(["ready"])


def test_an_edit_is_a_new_version_and_the_history_shows_the_words(page: Page, site: str, service: Service) -> None:
    id = remember(service, "Ivan works at the old mill.", "ivan", metadata={"sure": False})
    page.goto(f"{site}/dashboard/memories/{id}")
    page.get_by_text("Edit", exact=True).click()
    page.get_by_role("textbox", name="Text", exact=True).fill("Ivan works at the new mill.")
    page.get_by_label("Metadata").fill("{sure")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("alert").get_by_text("not JSON").wait_for()
    page.get_by_label("Metadata").fill('{"sure": true}')
    page.get_by_role("button", name="Save").click()
    page.get_by_text("A new version was written").wait_for()
    history = page.locator("#history")
    assert [one.strip() for one in history.locator("del").all_inner_texts()] == ["old", "false"]
    assert [one.strip() for one in history.locator("ins").all_inner_texts()] == ["new", "true"]
    expect(history).to_contain_text("by operator")
    assert service._memory.get(id)["metadata"] == {"sure": True}
    stale = {"text": "Ivan sleeps.", "version": "1"}
    assert httpx.post(f"{site}/dashboard/memories/{id}", data=stale).status_code == 409


def test_saving_without_a_change_writes_no_version(page: Page, site: str, service: Service) -> None:
    for text in ("\nfirst line\r\nsecond line  ", "plain"):
        id = remember(service, text, "iris")
        page.goto(f"{site}/dashboard/memories/{id}")
        page.get_by_text("Edit", exact=True).click()
        page.get_by_role("button", name="Save").click()
        page.get_by_role("status").get_by_text("Nothing was changed").wait_for()
        assert [one.text for one in service._memory.store.versions(id)] == [text]
    form = {"text": "two\r\nlines", "version": "1"}
    assert httpx.post(f"{site}/dashboard/memories/{id}", data=form).status_code == 303
    assert service._memory.get(id)["memory"] == "two\nlines"


def test_a_fact_names_the_words_it_came_from_and_what_it_is_linked_with(
    page: Page, site: str, service: Service
) -> None:
    told = service._memory.add("Well, my boat is called Zenith.", user_id="jo")
    fact = next(row for row in told["results"] if row["semantic_type"] == "fact")
    other = remember(service, "Jo sails on Sundays.", "jo")
    edge = Edge(source=other, target=fact["id"], relation="goes with", weight=0.5, recorded=now())
    with service._memory.store.transaction() as tx:
        tx.connect([edge])
    page.goto(f"{site}/dashboard/memories/{fact['id']}")
    assert "boat is called Zenith" in page.locator("blockquote mark").inner_text()
    expect(page.locator("#where")).to_contain_text("text")
    expect(page.locator("#links")).to_contain_text("goes with")
    page.get_by_role("link", name="Jo sails on Sundays.").click()
    assert page.url.endswith(other)
    expect(page.locator("#links")).to_contain_text("boat is called Zenith")


def test_deleting_is_taken_back_and_freezing_too(page: Page, site: str, service: Service) -> None:
    id = remember(service, "Kim is a pilot.", "kim")
    page.goto(f"{site}/dashboard/memories/{id}")
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("Taken out of use.").wait_for()
    page.goto(f"{site}/dashboard/memories?user_id=kim")
    page.get_by_role("heading", name="Nothing fits").wait_for()
    page.get_by_label("Which").select_option("closed")
    gone = page.get_by_role("link", name="Kim is a pilot.")
    assert "line-through" in gone.evaluate("one => getComputedStyle(one).textDecorationLine")
    gone.click()
    page.get_by_role("button", name="Restore").click()
    page.get_by_text("In use again.").wait_for()
    page.get_by_role("button", name="Archive").click()
    page.get_by_text("no search finds it").wait_for()
    page.get_by_role("button", name="Restore").click()
    page.get_by_text("In use again.").wait_for()
    page.get_by_role("button", name="Freeze", exact=True).click()
    page.get_by_text("Frozen: nothing changes it").first.wait_for()
    assert page.get_by_role("button", name="Delete").count() == page.get_by_text("Edit", exact=True).count() == 0
    assert httpx.post(f"{site}/dashboard/memories/{id}/delete").status_code == 403
    page.get_by_role("button", name="Unfreeze").click()
    page.get_by_role("button", name="Delete").wait_for()


def test_what_is_forgotten_is_in_no_page_and_no_file(page: Page, site: str, service: Service) -> None:
    service._memory.add("My secret island is Quirpalo.", user_id="lea")
    page.goto(f"{site}/dashboard/memories?user_id=lea&kind=fact")
    page.locator("#found .entry .text").first.click()
    address = page.url
    page.get_by_role("link", name="Forget…").click()
    page.get_by_text("My secret island is Quirpalo.", exact=True).wait_for()  # the turn goes too
    expect(page.get_by_text("2 memories will be erased")).to_be_visible()
    folder = service._memory.store.path.parent
    assert b"Quirpalo" in bytes_of(folder)
    page.get_by_label("Type the word").fill("yes")
    page.get_by_role("button", name="Erase for good").click()
    page.get_by_role("alert").get_by_text("Nothing was erased").wait_for()
    assert b"Quirpalo" in bytes_of(folder)
    page.get_by_label("Type the word").fill("forget")
    page.get_by_role("button", name="Erase for good").click()
    page.get_by_text("Erased everywhere").wait_for()
    for state in ("open", "closed", "archived"):
        assert "Quirpalo" not in httpx.get(f"{site}/dashboard/memories?state={state}&user_id=lea").text
    assert httpx.get(address).status_code == 404
    assert b"quirpalo" not in bytes_of(folder).lower()


def test_what_is_frozen_keeps_others_from_being_forgotten(site: str, service: Service) -> None:
    told = service._memory.add("I keep a diary in Lisbon.", user_id="mo")["results"]
    turn, fact = ({row["semantic_type"] == "turn": row["id"] for row in told}[is_turn] for is_turn in (True, False))
    assert httpx.post(f"{site}/dashboard/memories/{fact}/freeze").status_code == 303
    page = httpx.get(f"{site}/dashboard/memories/{turn}/forget").text
    assert "Some of it is frozen" in page and "<input" not in page
    answer = httpx.post(f"{site}/dashboard/memories/{turn}/forget", data={"word": "forget"})
    assert answer.status_code == 403 and service._memory.get(turn) is not None


def test_caches_and_adapters_have_pages_without_text(site: str, service: Service) -> None:
    id = remember(service, "Ada plays the lute.", "ada")
    for kind in ("activation", "parameter"):
        form = put_form(service._memory, id, kind)
        page = httpx.get(f"{site}/dashboard/memories/{form}")
        assert (
            page.status_code == 200 and f"{kind.capitalize()} of 1 memory" in page.text and "<textarea" not in page.text
        )
        assert f"/memories/{form}" in httpx.get(f"{site}/dashboard/memories/{id}").text
    preview = httpx.get(f"{site}/dashboard/memories/{id}/forget").text
    assert "3 memories will be erased" in preview and "Parameter of 1 memory" in preview


def test_by_keyboard_alone(page: Page, site: str, service: Service) -> None:
    remember(service, "Max has a red bicycle.", "max")
    page.goto(f"{site}/dashboard/memories?user_id=max")
    page.keyboard.press("/")
    page.keyboard.type("bicycle")
    expect(page.locator("#found .score")).to_have_count(1)

    def tab_to(role: str, name: str) -> None:
        wanted = page.get_by_role(role, name=name, exact=True).last  # type: ignore[arg-type]
        for _ in range(40):
            page.keyboard.press("Tab")
            if wanted.evaluate("one => one === document.activeElement"):
                return
        pytest.fail(f"Tab never came to the {role} {name!r}")

    tab_to("link", "Max has a red bicycle.")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Turn of max").wait_for()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    page.keyboard.press("Enter")
    tab_to("textbox", "Text")
    page.keyboard.press("Control+a")
    page.keyboard.type("Max has a blue bicycle.")
    tab_to("button", "Save")
    page.keyboard.press("Enter")
    page.get_by_text("A new version was written").wait_for()
    assert page.locator("ins").inner_text().strip() == "blue"


@pytest.mark.parametrize("width", [1280, 390])
def test_texts_are_text(browser: Browser, site: str, service: Service, width: int) -> None:
    """Markup, long words, other scripts."""
    evil = '<img src=x onerror="document.title=1"><script>document.title=2</script>{{ 7 * 7 }} javascript:alert(1) '
    text = evil + "x" * 2000 + " مرحبا"
    id = remember(service, text, "nina", metadata={evil: evil})
    with browser.new_context(viewport={"width": width, "height": 800}) as context:
        page = context.new_page()
        for path in (
            f"memories/{id}",
            f"memories/{id}/forget",
            "memories?user_id=nina",
            f"memories?user_id=nina&q={evil[:50]}",
        ):
            page.goto(f"{site}/dashboard/{path}")
            assert page.locator("main img, main script").count() == 0 and page.title() not in ("1", "2")
            assert "{{ 7 * 7 }}" in page.locator("main").inner_text() and "<img" in page.locator("main").inner_text()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path


# -- who may --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str], dict[str, str]]]:
    """An address, keys by name, and ids of memories of ada, of bob, and of another tenant."""
    with Memory(tmp_path_factory.mktemp("guarded") / "m.db", embedder=WordVectors()) as memory:
        service = Service(memory)
        tenant = memory.settings.tenant
        wanted: dict[str, Any] = {
            "all": (tenant, {"read", "write", "forget"}, None),
            "reads": (tenant, {"read"}, None),
            "ada": (tenant, {"read", "write", "forget"}, "ada"),
            "foreign": ("elsewhere", {"read", "write", "forget", "admin"}, None),
        }
        keys = {
            name: service.keys.create(name, tenant=of, rights=frozenset(rights), user=user)[1]
            for name, (of, rights, user) in wanted.items()
        }
        ids = {
            user: remember(service, f"secret of {user}", user, agent_id=f"helper-of-{user}") for user in ("ada", "bob")
        }
        made_of = {
            "provenance": Provenance((Source(ids["bob"], 0, 6),)),
            "lineage": Lineage(((ids["bob"], 1),), "import"),
        }
        gossip = MemCube(Header(scope=Scope(tenant, "ada"), **made_of), TextPayload("gossip"))
        with memory.store.transaction() as tx:
            tx.insert([Write(gossip, memory.embedder.encode(["gossip"])[0])])
        ids["gossip"] = gossip.id
        with serving(create_app(service)) as url:
            yield url, keys, ids


def as_key(key: str) -> httpx.Client:
    return httpx.Client(cookies={"lamina_key": key}, follow_redirects=False)


WRITES = {
    "": {"text": "overwritten", "version": "1"},
    "/delete": {},
    "/restore": {},
    "/accept": {},
    "/forget": {"word": "forget"},
}


@pytest.mark.parametrize(("who", "whose"), [("foreign", "ada"), ("ada", "bob")])
def test_of_others_there_is_nothing(guarded: Any, who: str, whose: str) -> None:
    url, keys, ids = guarded
    with as_key(keys[who]) as client:
        nothing = client.get(f"{url}/dashboard/memories/no-such-id")
        for path in (ids[whose], f"{ids[whose]}/forget"):
            answer = client.get(f"{url}/dashboard/memories/{path}")
            assert answer.status_code == 404 and f"secret of {whose}" not in answer.text
            assert answer.text == nothing.text.replace("no-such-id", ids[whose])
        for path, data in WRITES.items():
            assert client.post(f"{url}/dashboard/memories/{ids[whose]}{path}", data=data).status_code == 404
        for asked in ("", "?q=secret", "?state=closed", "?as_of=2100-01-01", "?q=secret&state=archived"):
            assert f"secret of {whose}" not in client.get(f"{url}/dashboard/memories{asked}").text
    assert guarded_text(guarded, whose) == f"secret of {whose}"


def guarded_text(guarded: Any, whose: str) -> str:
    url, keys, ids = guarded
    headers = {"Authorization": f"Bearer {keys['all']}"}
    return str(httpx.get(f"{url}/memories/{ids[whose]}", headers=headers).json()["memory"])


def test_a_memory_that_names_the_words_of_others_shows_them_to_those_alone_who_may_read_them(guarded: Any) -> None:
    url, keys, ids = guarded
    for path in (ids["gossip"], f"{ids['gossip']}/forget"):
        shown = {who: as_key(keys[who]).get(f"{url}/dashboard/memories/{path}") for who in ("all", "ada")}
        assert {answer.status_code for answer in shown.values()} == {200}
        texts = {who: re.sub("<.*?>", "", answer.text) for who, answer in shown.items()}
        assert "secret of bob" in texts["all"] and "secret of bob" not in texts["ada"]
    assert "And 1 more that are not shown here" in texts["ada"]


def test_a_key_of_one_user_sees_and_writes_its_own_alone(guarded: Any) -> None:
    url, keys, _ = guarded
    with as_key(keys["ada"]) as client:
        shown = client.get(f"{url}/dashboard/memories").text
        assert "secret of ada" in shown and "bob" not in shown
        assert client.get(f"{url}/dashboard/memories?user_id=bob").status_code == 403
        answer = client.post(f"{url}/dashboard/memories", data={"text": "mine too", "user_id": "bob"})
        assert answer.status_code == 403
        assert client.post(f"{url}/dashboard/memories", data={"text": "mine too"}).status_code == 303
        shown = client.get(f"{url}/dashboard/memories").text
        assert "mine too" in shown
        new = re.search(r'/dashboard/memories/([0-9a-f-]{36})">[^<]*mine too', shown)
        assert new and "1 memory will be erased" in client.get(f"{url}/dashboard/memories/{new[1]}/forget").text
        assert client.post(f"{url}/dashboard/memories/{new[1]}/forget", data={"word": "forget"}).status_code == 303
        assert "mine too" not in client.get(f"{url}/dashboard/memories").text


def test_a_key_that_reads_sees_no_buttons_and_its_writes_are_refused(page: Page, guarded: Any) -> None:
    url, keys, ids = guarded
    page.context.add_cookies([{"name": "lamina_key", "value": keys["reads"], "url": f"{url}/dashboard"}])
    page.goto(f"{url}/dashboard/memories")
    assert page.locator("main button").all_inner_texts() == ["Search"]
    page.get_by_role("link", name="secret of bob").click()
    page.get_by_role("heading", name="Turn of bob").wait_for()
    assert page.locator("main button, main form").count() == 0
    assert page.get_by_role("link", name="Forget…").count() == 0
    with as_key(keys["reads"]) as client:
        for path, data in WRITES.items():
            answer = client.post(f"{url}/dashboard/memories/{ids['bob']}{path}", data=data)
            assert answer.status_code == 403 and "may not" in answer.text
        assert client.post(f"{url}/dashboard/memories", data={"text": "a", "user_id": "b"}).status_code == 403
        assert client.get(f"{url}/dashboard/memories/{ids['bob']}/forget").status_code == 403
    with as_key(keys["all"]) as client:  # governance is an administrator's
        assert "Freeze" not in client.get(f"{url}/dashboard/memories/{ids['bob']}").text
        assert client.post(f"{url}/dashboard/memories/{ids['bob']}/freeze").status_code == 403


# -- words ----------------------------------------------------------------------------------------------

_text = st.text(alphabet="ab ñ語\n.,<", max_size=40)


@given(_text, _text)
def test_a_comparison_holds_both_texts(old: str, new: str) -> None:
    found = compared(old, new)
    assert "".join(text for kind, text in found if kind != "ins") == old
    assert "".join(text for kind, text in found if kind != "del") == new


def test_very_long_texts_are_replaced_and_not_compared() -> None:
    old, new = "a " * 3000, "b " * 3000
    assert compared(old, new) == [("del", old), ("ins", new)]
