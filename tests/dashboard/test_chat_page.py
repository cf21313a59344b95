"""The chat as a person uses it: a real model in a real browser, a far model, no scripts; and who may not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_server import serving
from openai_standin import StandIn, standing_in
from playwright.sync_api import Browser, Page, expect

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Scope
from lamina.llm.causal import CausalLM
from lamina.server.app import create_app
from lamina.server.caller import operator
from lamina.server.dashboard import conversation
from lamina.server.dashboard.conversation import SHOWN, Conversation, Exchange, Used
from lamina.server.dashboard.suggesting import questions
from lamina.server.service import Service
from lamina.settings import Settings

ALICE = {"user_id": "alice", "memory": "true"}


@pytest.fixture(scope="module")
def alice(service: Service) -> Service:
    """The module's service, with a life of alice."""
    for text in ("I am allergic to walnuts.", "I keep <b>bees</b>.", "I moved to Boulder."):
        service._memory.add(text, user_id="alice")
    return service


@pytest.fixture(scope="module")
def far() -> Iterator[StandIn]:
    with standing_in() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def distant(far: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Memory]]:
    """A service whose model is a server; its address and its memory."""
    settings = Settings(llm_base_url=far.url, durable=False)
    place = tmp_path_factory.mktemp("far") / "m.db"
    with Memory(place, settings=settings, embedder=WordVectors()) as memory:
        memory.add("I avoid nuts.", user_id="bob")
        with serving(create_app(Service(memory))) as url:
            yield url, memory


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, dict[str, str]], dict[str, str]]]:
    """A service of two tenants: its address, cookies by the name of a key, ids by whose memory it is."""
    with Memory(tmp_path_factory.mktemp("keys") / "m.db", embedder=WordVectors()) as memory:
        service = Service(memory)
        made = {
            "acme": service.keys.create("acme", "acme"),
            "reads": service.keys.create("reads", "acme", ["read"]),
            "writes": service.keys.create("writes", "acme", ["write"]),
            "ann": service.keys.create("ann", "acme", user="ann"),
            "other": service.keys.create("other", "umbrella"),
        }
        ids = {}
        for name, user in (("acme", "ann"), ("acme", "ben"), ("other", "eve")):
            told = service.memory(service.identify(made[name][1])).add(f"I am {user}.", user_id=user, infer=False)
            ids[user] = told["results"][0]["id"]
        with serving(create_app(service)) as url:
            yield url, {name: {"lamina_key": token} for name, (_, token) in made.items()}, ids


def state(html: str) -> dict[str, Any]:
    """The conversation that a page carries."""
    found = re.search(r'name="conversation" value="([^"]*)"', html)
    assert found is not None
    return dict(json.loads(unescape(found[1])))


# -- with the packaged model ------------------------------------------------------------------------


@pytest.mark.model
def test_a_talk_shows_what_it_rests_on_and_undo_takes_back_what_was_kept(
    page: Page, site: str, alice: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "TOKENS", 6)
    page.set_default_timeout(30_000)
    page.goto(f"{site}/dashboard/chat")
    expect(page.locator("#start")).to_contain_text("What am I allergic to?")
    page.get_by_label("Say or ask something").fill("Which nuts must I <i>avoid</i>? I moved to Aspen.")
    with alice.model().lock:  # so that it has to wait
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").filter(has_text="answering")).to_be_visible()
        expect(page.get_by_role("button", name="Send")).to_be_disabled()
    answer = page.get_by_role("log").get_by_role("article")
    answer.wait_for()
    expect(answer.get_by_role("heading")).to_have_text("Which nuts must I <i>avoid</i>? I moved to Aspen.")
    expect(answer.locator(".answer")).not_to_be_empty()
    expect(answer.get_by_role("link", name="I keep <b>bees</b>.")).to_be_visible()
    used = answer.locator("li").filter(has_text="allergic to walnuts")
    expect(used).to_contain_text("text")
    expect(used).to_contain_text(re.compile(r"score \d\.\d\d.*meaning\s+0\.\d\d", re.S))
    expect(page.locator("#busy, #start").first).to_be_hidden()
    expect(page.get_by_label("Say or ask something")).to_have_value("")
    expect(page.get_by_label("Say or ask something")).to_be_focused()
    store = alice._memory.store
    lives = {"slot": "residence"}
    assert [cube.text for cube in store.query(Scope("default", "alice"), lives).cubes] == ["Alice moved to Aspen."]
    answer.get_by_role("button", name="Undo").click()
    expect(answer.get_by_text("taken back")).to_have_count(2)
    expect(answer.get_by_role("button", name="Undo")).to_have_count(0)
    assert [cube.text for cube in store.query(Scope("default", "alice"), lives).cubes] == ["Alice moved to Boulder."]


@pytest.mark.model
def test_a_model_that_fails_is_told_of_and_the_question_stays(
    page: Page, site: str, alice: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> Iterator[int]:
        raise RuntimeError("not enough memory: you tried to allocate everything")

    monkeypatch.setattr(CausalLM, "steps", failing)
    page.set_default_timeout(30_000)
    page.goto(f"{site}/dashboard/chat?user_id=alice")
    page.get_by_role("button", name="What am I allergic to?").click()
    page.get_by_role("alert").wait_for()
    expect(page.get_by_role("alert")).to_contain_text("The model failed; the log of the service says why.")
    expect(page.get_by_label("Say or ask something")).to_have_value("What am I allergic to?")
    assert not alice._memory.store.query(Scope("default", "alice"), {"role": "assistant"}).cubes


# -- with a model's server ----------------------------------------------------------------------------


def test_without_scripts_a_conversation_goes_on_from_page_to_page(
    browser: Browser, far: StandIn, distant: tuple[str, Memory]
) -> None:
    url, memory = distant
    far.reset()
    far.reply = "Walnuts, <b>surely</b>."
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{url}/dashboard/chat")
        page.get_by_label("Say or ask something").fill("Which nuts must I avoid?")
        page.get_by_role("button", name="Send").click()
        page.get_by_text("Walnuts, <b>surely</b>.").wait_for()
        assert "<memories>" in far.last.messages[-1]["content"]
        far.reply = "None."
        page.get_by_label("Say or ask something").fill("My cat is called Tom. Which others?")
        page.get_by_role("button", name="Send").click()
        page.get_by_text("None.").wait_for()
        assert page.locator("#talk article").count() == 2
        told = [(one["role"], one["content"]) for one in far.last.messages]
        assert told[:2] == [("user", "Which nuts must I avoid?"), ("assistant", "Walnuts, <b>surely</b>.")]
        assert told[2][1].endswith("My cat is called Tom. Which others?")
        kept = page.locator("#talk article").last.locator(".kept")
        kept.get_by_role("button", name="Undo").click()
        assert page.locator("#talk article").last.locator(".kept .gone").count() == 2
        assert page.locator("#talk article").count() == 2
    everything = [cube.text for cube in memory.store.query(Scope("default", "bob"), {"kind": "text"}).cubes]
    assert "Which nuts must I avoid?" in everything and not any("Tom" in text for text in everything)
    assert not any("surely" in text for text in everything)  # a model's words are no memory


def test_without_memory_nothing_is_looked_for_and_nothing_kept(far: StandIn, distant: tuple[str, Memory]) -> None:
    url, memory = distant
    far.reset()
    before = memory.store.last_change()
    told = httpx.post(f"{url}/dashboard/chat", data={"user_id": "bob", "question": "Which nuts must I avoid?"}).text
    assert "Noted." in told and "nothing of this was kept" in told
    assert far.last.messages == [{"role": "user", "content": "Which nuts must I avoid?"}]
    assert memory.store.last_change() == before


def test_a_server_that_refuses_is_quoted_and_what_was_said_is_kept_once(
    page: Page, far: StandIn, distant: tuple[str, Memory]
) -> None:
    url, memory = distant
    far.reset()
    far.refusal = (503, {}, json.dumps({"error": {"message": "<script>overloaded</script>"}}).encode())
    page.goto(f"{url}/dashboard/chat?user_id=bob")
    field = page.get_by_label("Say or ask something")
    field.fill("I play the cello.")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("refused (503): <script>overloaded</script>")
    expect(field).to_have_value("I play the cello.")
    expect(page.locator(".kept")).to_contain_text("I play the cello.")
    far.reset()
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#talk .answer")).to_have_text("Noted.")
    same = {"semantic_type": "turn"}
    said = [cube.text for cube in memory.store.query(Scope("default", "bob"), same).cubes]
    assert said.count("I play the cello.") == 1
    assert [one["question"] for one in state(page.content())["exchanges"]] == ["I play the cello."]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"choices": []}'])
def test_an_answer_that_is_none_is_an_error(far: StandIn, distant: tuple[str, Memory], body: bytes) -> None:
    far.reset()
    far.refusal = (200, {}, body)
    sent = {"user_id": "bob", "question": "Hello?"}
    told = httpx.post(f"{distant[0]}/dashboard/chat", data=sent).text
    assert "not with one chat completion" in told and ">Hello?</textarea>" in told


def test_a_server_that_is_away_is_an_error_in_the_talk(tmp_path: Path) -> None:
    settings = Settings(llm_base_url="http://127.0.0.1:9/v1", durable=False)
    memory = Memory(tmp_path / "m.db", settings=settings, embedder=WordVectors())
    with memory, serving(create_app(Service(memory))) as url:
        empty = httpx.get(f"{url}/dashboard/chat").text
        assert "Nothing is remembered of" in empty and "lamina add" in empty
        told = httpx.post(f"{url}/dashboard/chat", data=ALICE | {"question": "Is it <b>late</b>?"})
        assert told.status_code == 200 and "cannot be reached" in told.text
        assert ">Is it &lt;b&gt;late&lt;/b&gt;?</textarea>" in told.text and "<b>late" not in told.text


def test_what_a_page_carries_is_bounded(far: StandIn, distant: tuple[str, Memory]) -> None:
    far.reset()
    full = Conversation(exchanges=[Exchange(question=f"q{n}", answer="a", memory=False) for n in range(SHOWN)])
    sent = {"user_id": "bob", "question": "one more", "conversation": full.model_dump_json()}
    told = httpx.post(f"{distant[0]}/dashboard/chat", data=sent).text
    assert [one["question"] for one in state(told)["exchanges"]] == [f"q{n}" for n in range(1, SHOWN)] + ["one more"]
    assert len(far.last.messages) == 2 * conversation.TOLD + 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"question": "  "}, 400),
        ({"question": "q" * 4001}, 422),
        ({"question": "q", "user_id": ""}, 400),
        ({"question": "q", "conversation": "{"}, 400),
        ({"question": "q", "conversation": json.dumps({"exchanges": [{"question": "q"}] * (SHOWN + 1)})}, 400),
        ({"question": "q", "conversation": '{"exchanges": [{"question": "q", "used": [{"id": "x", "version": 1, '
          '"form": "text", "score": NaN}]}]}'}, 400),
    ],
)  # fmt: skip
def test_bad_input_is_refused(far: StandIn, distant: tuple[str, Memory], sent: dict[str, str], status: int) -> None:
    far.reset()
    answer = httpx.post(f"{distant[0]}/dashboard/chat", data={"user_id": "bob"} | sent)
    assert answer.status_code == status and "<h1>" in answer.text and not far.received


# -- who may --------------------------------------------------------------------------------------------

Locked = tuple[str, dict[str, dict[str, str]], dict[str, str]]


def test_a_key_that_only_reads_or_only_writes_cannot_talk(locked: Locked) -> None:
    url, cookies, _ = locked
    page = httpx.get(f"{url}/dashboard/chat?user_id=ann", cookies=cookies["reads"])
    assert page.status_code == 200 and "This key may not talk" in page.text and "<textarea" not in page.text
    for name in ("reads", "writes"):
        sent = {"user_id": "ann", "question": "Who am I?", "memory": "true"}
        assert httpx.post(f"{url}/dashboard/chat", data=sent, cookies=cookies[name]).status_code == 403
    assert httpx.get(f"{url}/dashboard/chat", cookies=cookies["writes"]).status_code == 403


def test_whose_memory_is_asked_for_when_there_are_several(page: Page, locked: Locked) -> None:
    url, cookies, _ = locked
    page.context.add_cookies([{"name": "lamina_key", "value": cookies["acme"]["lamina_key"], "url": url}])
    page.goto(f"{url}/dashboard/chat")
    assert page.get_by_label("Say or ask something").count() == 0
    assert page.get_by_role("navigation", name="Whose memory").get_by_role("link").all_inner_texts() == ["ann", "ben"]
    page.get_by_role("link", name="ben").click()
    expect(page.get_by_label("Whose memory")).to_have_value("ben")
    expect(page.get_by_label("Say or ask something")).to_be_visible()


def test_a_key_of_one_user_speaks_for_that_one(locked: Locked) -> None:
    url, cookies, _ = locked
    told = httpx.get(f"{url}/dashboard/chat", cookies=cookies["ann"]).text
    assert 'name="user_id" value="ann"' in told and "ben" not in told
    assert httpx.get(f"{url}/dashboard/chat?user_id=ben", cookies=cookies["ann"]).status_code == 403
    sent = {"user_id": "ben", "question": "Who am I?"}
    assert httpx.post(f"{url}/dashboard/chat", data=sent, cookies=cookies["ann"]).status_code == 403


@pytest.mark.parametrize(("key", "foreign"), [("ann", "ben"), ("acme", "eve"), ("ann", "eve")])
def test_memories_of_others_cannot_be_read_or_taken_back(locked: Locked, key: str, foreign: str) -> None:
    url, cookies, ids = locked
    used = Used(id=ids[foreign], version=1, form="text", score=1.0, parts={"dense": 1.0})
    forged = Conversation(exchanges=[Exchange(question="q", answer="a", used=[used], kept=[ids[foreign]])])
    sent = {"user_id": "ann", "conversation": forged.model_dump_json()}
    told = httpx.post(f"{url}/dashboard/chat/undo", data=sent | {"undo": ""}, cookies=cookies[key])
    assert told.status_code == 200 and "or not for this key" in told.text and f"I am {foreign}." not in told.text
    missing = httpx.post(f"{url}/dashboard/chat/undo", data=sent | {"undo": "nothing"}, cookies=cookies[key])
    there = httpx.post(f"{url}/dashboard/chat/undo", data=sent | {"undo": ids[foreign]}, cookies=cookies[key])
    assert missing.status_code == there.status_code == 404
    assert there.text.replace(ids[foreign], "nothing") == missing.text


def test_questions_come_from_what_the_user_said() -> None:
    with Memory(":memory:", embedder=WordVectors()) as memory:
        caller = operator("default")
        assert questions(memory.store, caller, "alice") == []
        memory.add("Nothing to note here", user_id="alice", infer=False)
        assert questions(memory.store, caller, "alice") == ["What do you know about me?"]
        memory.add("My boat is called Zenith.", user_id="alice")
        memory.add("I live in Denver.", user_id="alice")
        memory.add("I live in Rome.", user_id="bob")
        assert questions(memory.store, caller, "alice") == [
            "Where do I live?",
            "What do you know about Denver?",
            "What do you know about Zenith?",
        ]
