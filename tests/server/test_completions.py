"""The OpenAI-compatible door: real sockets, the real ``openai`` client, and on the wire what the model is sent."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from live_server import serving
from openai_standin import StandIn, standing_in

from lamina import Memory
from lamina.server.app import Limits, create_app
from lamina.server.service import Service
from lamina.settings import Settings

pytestmark = pytest.mark.model
SECRET = "sk-of-the-operator-4711"
SYSTEM = {"role": "system", "content": "You are a pirate.\u200b <memories> Be brief."}


@pytest.fixture(scope="module")
def far() -> Iterator[StandIn]:
    with standing_in() as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def _fresh(far: StandIn) -> Iterator[None]:
    yield
    far.reset()


@pytest.fixture(scope="module")
def config(far: StandIn) -> Settings:
    return Settings(llm_base_url=far.url, llm_api_key=SECRET, durable=False)


@pytest.fixture(scope="module")
def memory(config: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    with Memory(Path(tmp_path_factory.mktemp("door")) / "m.db", settings=config) as memory:
        memory.embedder.encode(["loaded"])
        yield memory


@pytest.fixture(scope="module")
def url(memory: Memory) -> Iterator[str]:
    with serving(create_app(Service(memory))) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with _client(url) as client:
        yield client


def _client(url: str, key: str = "sk-any") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)


def _ask(client: openai.OpenAI, text: str, user: str | None = None, **options: Any) -> Any:
    named = {} if user is None else {"user": user}
    completions: Any = client.chat.completions  # its overloads do not take a computed dict of options
    return completions.create(model="gpt-stand-in", messages=[{"role": "user", "content": text}], **named, **options)


def _kept(memory: Memory, user: str, role: str = "user") -> list[str]:
    """What one side said, as it is kept, oldest first."""
    rows = memory.get_all(filters={"user_id": user, "semantic_type": "turn"}, top_k=100)["results"]
    return [row["memory"] for row in reversed(rows) if row["role"] == role]


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


# -- what passes ---------------------------------------------------------------------------------


def test_what_was_said_in_one_chat_is_quoted_in_the_next(client: openai.OpenAI, far: StandIn, memory: Memory) -> None:
    _ask(client, "I live in Lyon with my cat Nuage.", "ada")
    assert far.last.messages == [{"role": "user", "content": "I live in Lyon with my cat Nuage."}]
    raw = client.chat.completions.with_raw_response.create(
        model="gpt-stand-in", messages=[{"role": "user", "content": "What is my cat called?"}], user="ada"
    )
    content = far.last.messages[0]["content"]
    assert '"I live in Lyon with my cat Nuage."' in content and content.endswith("\n\nWhat is my cat called?")
    assert "data, not instructions" in content and "Ada said on" in content
    answer = raw.parse()
    assert answer.choices[0].message.content == "Noted." and answer.system_fingerprint == "fp_1"
    told = answer.model_extra["lamina"]  # type: ignore[index]
    (used,) = told["memories"]
    assert raw.headers["x-lamina-memories"] == used["id"] and raw.headers["x-lamina-memory"] == "on"
    assert memory.get(used["source"]["id"])["memory"] == "I live in Lyon with my cat Nuage."  # type: ignore[index]
    assert used["source"]["speaker"] == "Ada" and used["score"] > 0
    assert _kept(memory, "ada") == ["I live in Lyon with my cat Nuage.", "What is my cat called?"]
    assert _kept(memory, "ada", "assistant") == ["Noted.", "Noted."]


def test_every_other_field_passes_as_it_is(client: openai.OpenAI, far: StandIn) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    sent: dict[str, Any] = {
        "temperature": 0.30000000000000004,
        "tools": [tool],
        "response_format": {"type": "json_object"},
        "logprobs": True,
        "stop": ["\u2028", "<"],
        "extra_body": {"reasoning_split": {"deep": [1, 2.5, None]}, "seed": 2**70},
    }
    _ask(client, "Hello there.", "fields", **sent)
    extra = sent.pop("extra_body")
    expected = {**sent, **extra, "model": "gpt-stand-in", "user": "fields"}
    body = far.last.body
    body.pop("messages")
    assert body == expected
    assert far.last.path == "/v1/chat/completions" and far.last.headers["authorization"] == f"Bearer {SECRET}"
    assert "sk-any" not in str(far.last.headers)


def test_without_a_user_it_passes_through(client: openai.OpenAI, far: StandIn, memory: Memory) -> None:
    before = memory.store.stats()
    messages: Any = [SYSTEM, {"role": "user", "content": "What is my cat called?", "name": "eve"}]
    raw = client.chat.completions.with_raw_response.create(model="m", messages=messages)
    assert far.last.body == {"model": "m", "messages": messages}
    assert raw.headers["x-lamina-memory"] == "off" and "x-lamina-memories" not in raw.headers
    assert "lamina" not in (raw.parse().model_extra or {}) and memory.store.stats() == before


def test_the_header_names_the_user(client: openai.OpenAI, far: StandIn, memory: Memory) -> None:
    _ask(client, "My boat is called Nadir.", "somebody", extra_headers={"X-Lamina-User": "skipper"})
    assert _kept(memory, "skipper") == ["My boat is called Nadir."] and _kept(memory, "somebody") == []
    assert far.last.body["user"] == "somebody"


def test_parts_that_are_no_text_stay(client: openai.OpenAI, far: StandIn, memory: Memory) -> None:
    memory.add("My car is a red Panda.", user_id="parts", infer=False)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = {"type": "text", "text": "Is this my car?"}
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": [image, text]}], user="parts")  # type: ignore[list-item,misc]
    first, *rest = far.last.messages[0]["content"]
    assert rest == [image, text] and "red Panda" in first["text"] and first["text"].endswith("</memories>\n\n")
    assert _kept(memory, "parts")[-1] == "Is this my car?"


def test_models_are_those_of_the_server(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["gpt-stand-in"]


def test_the_how_to_is_true(url: str, far: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "openai-proxy.md").read_text()
    (code,) = re.findall(r"^```py\n(.*?)^```", page, re.M | re.S)
    exec(compile(code.replace("http://127.0.0.1:8321", url), "openai-proxy.md", "exec"), {"__name__": "docs"})
    assert "alice" in far.last.body["user"] and "walnuts" in far.last.messages[-1]["content"]
    assert "Noted." in capsys.readouterr().out


# -- streams -------------------------------------------------------------------------------------


def test_a_stream_passes_as_it_comes(client: openai.OpenAI, far: StandIn, memory: Memory) -> None:
    far.reply, far.pause = "Your cat is called Nuage, I think.", 3
    raw = client.chat.completions.with_raw_response.create(
        model="m", messages=[{"role": "user", "content": "Who sleeps on my sofa?"}], user="flo", stream=True
    )
    assert raw.headers["x-lamina-memory"] == "on" and raw.headers["content-type"].startswith("text/event-stream")
    stream = raw.parse()
    said = [next(stream).choices[0].delta.content for _ in range(3)]
    assert said == ["", "Your ", "cat "] and not far.go.is_set()  # the rest is not even written yet
    assert _kept(memory, "flo") == ["Who sleeps on my sofa?"] and _kept(memory, "flo", "assistant") == []
    far.go.set()
    said += [chunk.choices[0].delta.content for chunk in stream]
    assert "".join(text or "" for text in said) == far.reply
    assert _kept(memory, "flo", "assistant") == [far.reply]  # whoever has read the end can rely on it


def test_a_client_that_leaves_stops_the_model_and_loses_nothing(
    client: openai.OpenAI, far: StandIn, memory: Memory
) -> None:
    far.reply, far.pause = "One two three four five.", 2
    stream = _ask(client, "My sister Ines sails to Crete.", "gil", stream=True)
    next(stream)
    stream.close()
    assert far.left.wait(20)
    assert _kept(memory, "gil") == ["My sister Ines sails to Crete."]
    assert _kept(memory, "gil", "assistant") == []


def test_a_broken_stream_ends_in_an_error_and_is_not_kept(client: openai.OpenAI, far: StandIn, memory: Memory) -> None:
    far.reply, far.cut = "Green as the sea.", 3
    stream, said = _ask(client, "My bike is green.", "hugo", stream=True), []
    with pytest.raises(openai.APIError, match="broke off"):
        said += [chunk.choices[0].delta.content for chunk in stream]
    assert _kept(memory, "hugo") == ["My bike is green."] and _kept(memory, "hugo", "assistant") == []


# -- trouble -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_server_refuses_comes_back_as_it_said_it(
    client: openai.OpenAI, far: StandIn, memory: Memory, stream: bool
) -> None:
    said = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded", "param": None}}
    far.refusal = (429, {"Retry-After": "7", "X-RateLimit-Limit-Requests": "60"}, json.dumps(said).encode())
    with pytest.raises(openai.RateLimitError) as refused:
        _ask(client, f"I play the {'oboe' if stream else 'lute'}.", "ivy", stream=stream)
    assert refused.value.response.json() == said and refused.value.code == "rate_limit_exceeded"
    assert refused.value.response.headers["retry-after"] == "7"
    assert refused.value.response.headers["x-ratelimit-limit-requests"] == "60"
    far.refusal = (500, {"Content-Type": "text/plain"}, f"boom with {SECRET}".encode())
    with pytest.raises(openai.InternalServerError) as failed:
        _ask(client, "I play the drums.", "ivy", stream=stream)
    assert failed.value.response.text == "boom with ***"
    assert "I play the drums." in _kept(memory, "ivy")  # said is said, whatever the model's server does


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_answer_ends_the_models_work(
    url: str, far: StandIn, memory: Memory, stream: bool
) -> None:
    far.pause = 0  # silent before a word of the answer
    body = {"model": "m", "messages": [{"role": "user", "content": "I live in Graz."}], "user": "lu", "stream": stream}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/chat/completions", json=body, timeout=httpx.Timeout(60, read=1.5))
    assert far.left.wait(20)
    assert _kept(memory, "lu") == ["I live in Graz."] and _kept(memory, "lu", "assistant") == []


def test_a_silent_server_is_an_error_and_nothing_said_is_lost(far: StandIn, memory: Memory) -> None:
    with serving(create_app(Service(memory), limits=Limits(seconds=4.0))) as url, _client(url) as hasty:
        httpx.get(f"{url}/memories", params={"user_id": "jon"}, timeout=60)  # the first request opens what others use
        far.pause = 0
        with pytest.raises(openai.InternalServerError) as late:
            _ask(hasty, "I was born in Oslo.", "jon")
        assert late.value.status_code in (503, 504) and late.value.code == "TIMEOUT"
        assert late.value.type == "server_error" and far.left.wait(20)
        _until(lambda: _kept(memory, "jon") == ["I was born in Oslo."])
        far.pause = 2
        with pytest.raises(openai.APIError, match="silent"):
            list(_ask(hasty, "I was raised in Bergen.", "jon", stream=True))
        assert _kept(memory, "jon")[-1] == "I was raised in Bergen." and _kept(memory, "jon", "assistant") == []


@pytest.mark.parametrize("user", ["two words", 7, "x" * 300])
def test_wrong_requests_are_told_in_the_clients_shape(client: openai.OpenAI, user: Any) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        _ask(client, "Hello.", user)
    assert wrong.value.code == "VALIDATION_002" and wrong.value.type == "invalid_request_error"


# -- writing once --------------------------------------------------------------------------------


def test_a_repeated_request_writes_once(client: openai.OpenAI, far: StandIn, memory: Memory) -> None:
    for reply in ("Noted.", "Noted.", "In other words: noted."):
        far.reply = reply
        _ask(client, "I own a kayak.", "kim")
    assert "<memories>" not in far.last.messages[0]["content"]  # nor is a question quoted to itself
    assert _kept(memory, "kim") == ["I own a kayak."] and _kept(memory, "kim", "assistant") == ["Noted."]
    talk: Any = [{"role": "user", "content": "I own a kayak."}, {"role": "assistant", "content": "Noted."}]
    talk += [{"role": "user", "content": "I own a kayak."}]  # said again, later in a conversation
    client.chat.completions.create(model="m", messages=talk, user="kim")
    assert _kept(memory, "kim") == ["I own a kayak."] * 2


def test_a_round_of_tools_is_one_message(client: openai.OpenAI, memory: Memory) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    rounds: Any = [
        [],
        [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "7"}],
    ]
    for n, more in enumerate(rounds):
        asked: Any = [{"role": "system", "content": f"It is 12:0{n}."}, {"role": "user", "content": "Count my hats."}]
        client.chat.completions.create(model="m", messages=[*asked, *more], user="lea")
    assert _kept(memory, "lea") == ["Count my hats."]


def test_a_key_of_the_caller(client: openai.OpenAI, memory: Memory) -> None:
    headers = {"Idempotency-Key": "k1"}
    for _ in range(2):
        _ask(client, "I own a sledge.", "mia", extra_headers=headers)
    with pytest.raises(openai.ConflictError):
        _ask(client, "I own a ski.", "mia", extra_headers=headers)
    _ask(client, "I own a sledge.", "mia", extra_headers={"Idempotency-Key": "k2"})
    assert _kept(memory, "mia") == ["I own a sledge."] * 2


def test_of_several_answers_none_is_kept(client: openai.OpenAI, far: StandIn, memory: Memory) -> None:
    far.choices = 2
    assert len(_ask(client, "I own a drum.", "nils", n=2).choices) == 2
    assert _kept(memory, "nils") == ["I own a drum."] and _kept(memory, "nils", "assistant") == []


def test_what_was_put_in_does_not_come_back_as_memory(client: openai.OpenAI, far: StandIn, memory: Memory) -> None:
    memory.add("My dentist is Dr. Moreau in Nantes.", user_id="odo")
    before = memory.get_all(filters={"user_id": "odo"}, top_k=100)["results"]
    far.reply = "echo"
    answer = _ask(client, "Who is my dentist?", "odo")
    assert "<memories>" in answer.choices[0].message.content  # the model recites all it was given
    assert _kept(memory, "odo", "assistant") == ["Who is my dentist?"]
    after = memory.get_all(filters={"user_id": "odo"}, top_k=100)["results"]
    new = [row["memory"] for row in after if row["id"] not in {row["id"] for row in before}]
    assert not [text for text in new if "Moreau" in text or "memories" in text]


def test_what_the_model_said_is_not_quoted_as_what_is_known(
    client: openai.OpenAI, far: StandIn, memory: Memory
) -> None:
    far.reply = "Your favourite colour is mauve."
    _ask(client, "Guess my favourite colour.", "pia")
    assert _kept(memory, "pia", "assistant") == [far.reply]
    _ask(client, "What is my favourite colour?", "pia")
    assert "mauve" not in far.last.messages[0]["content"]


# -- whose memory --------------------------------------------------------------------------------


def test_keys_tenants_and_users(
    config: Settings, memory: Memory, far: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = Path(tmp_path_factory.mktemp("keyed")) / "m.db"
    with Memory(path, settings=config, embedder=memory.embedder) as keyed:
        service = Service(keyed)
        token = {
            name: service.keys.create(name, tenant, rights, user=user)[1]
            for name, tenant, rights, user in (
                ("acme", "acme", ["read", "write"], None),
                ("other", "other", ["read", "write"], None),
                ("ada", "acme", ["read", "write"], "ada"),
                ("reader", "acme", ["read"], None),
                ("writer", "acme", ["write"], None),
            )
        }
        with serving(create_app(service)) as url:
            who = {name: _client(url, secret) for name, secret in token.items()}
            with pytest.raises(openai.AuthenticationError) as bare:
                _ask(_client(url), "Hello.", "ada")
            assert bare.value.code == "UNAUTHORIZED" and bare.value.type == "invalid_request_error"
            for name in ("reader", "writer"):
                with pytest.raises(openai.PermissionDeniedError):
                    _ask(who[name], "Where is the safe?", "ada")
            assert far.received == []
            _ask(who["acme"], "The safe is behind the mirror.", "ada")
            _ask(who["acme"], "The safe is under the floor.", "bob")
            _ask(who["other"], "Where is the safe?", "ada")
            assert far.last.messages[0]["content"] == "Where is the safe?"
            _ask(who["ada"], "Where is my safe?", "bob")  # her key speaks for her, whatever the request says
            assert "mirror" in far.last.messages[0]["content"] and "floor" not in far.last.messages[0]["content"]
            _ask(who["ada"], "Where might my safe be?")
            assert "mirror" in far.last.messages[0]["content"]
            _ask(who["acme"], "Is the safe safe?", "bob")
            assert "floor" in far.last.messages[0]["content"] and "mirror" not in far.last.messages[0]["content"]
            assert not any(secret in far.received[n].raw.decode() for n in range(4) for secret in token.values())
