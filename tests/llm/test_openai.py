"""OpenAIChat against a real HTTP server that behaves, misbehaves, and speaks other dialects."""

from __future__ import annotations

import logging
import socket
from typing import Any

import pytest
from llm_server import Step, failed, said, scripted, streamed
from pydantic import BaseModel

from lamina.errors import InvalidInput, LLMError
from lamina.llm.openai import OpenAIChat

KEY = "sk-very-secret-0123456789"
ASK = [{"role": "user", "content": "What did Ana adopt?"}]


class Fact(BaseModel):
    text: str
    turn: int


GOOD = '{"text": "Ana adopted a dog.", "turn": 3}'
FACT = Fact(text="Ana adopted a dog.", turn=3)


def chat(url: str, **settings: Any) -> OpenAIChat:
    return OpenAIChat("test-model", base_url=url, api_key=KEY, **{"backoff": 0.001, "seed": 0, **settings})


def test_plain_text_is_sent_greedy_with_the_key():
    with scripted(said("  A dog. \n")) as server:
        assert chat(server.url).chat(ASK, max_tokens=17) == "A dog."
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body == {"model": "test-model", "messages": ASK, "max_tokens": 17, "temperature": 0.0}


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Sure! Here it is:\n```\n{GOOD}\n```\nAnything else?",
        f"The answer is {GOOD} as asked.",
        f"<think>maybe {{'text': 1}}</think>{GOOD}",
    ],
)
def test_valid_answers_in_every_wrapping_need_one_request(text):
    with scripted(said(text)) as server:
        assert chat(server.url).chat(ASK, schema=Fact) == FACT
    assert len(server.requests) == 1
    form = server.bodies()[0]["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["schema"] == Fact.model_json_schema()


def test_truncated_answer_is_asked_for_again_and_told_why():
    with scripted(said(GOOD[:20], finish="length"), said(GOOD)) as server:
        assert chat(server.url).chat(ASK, schema=Fact) == FACT
    *_, shown, complaint = server.bodies()[1]["messages"]
    assert shown == {"role": "assistant", "content": GOOD[:20]}
    assert "cut off" in complaint["content"] and "no complete JSON" in complaint["content"]


def test_wrong_schema_twice_then_valid_names_the_field():
    wrong = '{"text": "Ana adopted a dog.", "turn": "third"}'
    with scripted(said(wrong), said("{}"), said(GOOD)) as server:
        assert chat(server.url).chat(ASK, schema=Fact) == FACT
    second, third = server.bodies()[1:]
    assert "turn: Input should be a valid integer" in second["messages"][-1]["content"]
    assert "text: Field required" in third["messages"][-1]["content"]
    assert third["messages"][: len(second["messages"])] == second["messages"]


def test_always_wrong_is_an_error_after_three_attempts():
    with (
        scripted(*[said("I cannot do JSON.")] * 3) as server,
        pytest.raises(LLMError, match=r"no valid Fact in 3 attempts.*I cannot do JSON"),
    ):
        chat(server.url).chat(ASK, schema=Fact)
    assert len(server.requests) == 3


def test_response_format_ladder_is_climbed_once():
    refused = failed(400, "response_format is not supported")
    with scripted(refused, refused, said(GOOD), said(GOOD)) as server:
        model = chat(server.url)
        assert model.chat(ASK, schema=Fact) == FACT
        assert model.chat(ASK, schema=Fact) == FACT
    forms = [body.get("response_format", {}).get("type") for body in server.bodies()]
    assert forms == ["json_schema", "json_object", None, None]
    assert "JSON Schema" in server.bodies()[2]["messages"][0]["content"]


def test_models_with_other_parameters_are_understood():
    steps = [
        failed(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        failed(400, "Unsupported value: 'temperature' does not support 0.0 with this model."),
        said("ok"),
    ]
    with scripted(*steps) as server:
        assert chat(server.url).chat(ASK, max_tokens=9) == "ok"
    assert server.bodies()[-1] == {"model": "test-model", "messages": ASK, "max_completion_tokens": 9}


def test_a_refusal_that_nothing_cures_keeps_the_server_s_words():
    long = failed(400, "This model's maximum context length is 4096 tokens")
    with scripted(long) as server, pytest.raises(LLMError, match=r"HTTP 400.*maximum context length is 4096"):
        chat(server.url).chat(ASK)
    with scripted(long, long, long, said(GOOD)) as server:
        model = chat(server.url)
        with pytest.raises(LLMError, match="maximum context length"):
            model.chat(ASK, schema=Fact)
        model.chat(ASK, schema=Fact)
    assert server.bodies()[-1]["response_format"]["type"] == "json_schema"  # a failed ladder teaches nothing


@pytest.mark.parametrize("asked", ["-5", "Wed, 21 Oct 2026 07:28:00 GMT", "soon"])
def test_a_strange_retry_after_is_survived(asked):
    with scripted(failed(429, Retry_After=asked), said("ok")) as server:
        assert chat(server.url).chat(ASK) == "ok"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_troubles_are_retried(status):
    with scripted(failed(status), failed(status), said("at last")) as server:
        assert chat(server.url).chat(ASK) == "at last"
    assert len(server.requests) == 3


def test_retry_after_is_obeyed(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("lamina.llm.endpoint.time.sleep", waits.append)
    with scripted(failed(429, Retry_After="2"), failed(503), failed(503), said("ok")) as server:
        assert chat(server.url, backoff=0.1).chat(ASK) == "ok"
    assert waits[0] == 2.0
    assert 0 <= waits[1] <= 0.2 and 0 <= waits[2] <= 0.4  # 0.1 s doubled at each attempt, times the jitter


def test_jitter_repeats_with_its_seed(monkeypatch):
    def waits(seed: int) -> list[float]:
        slept: list[float] = []
        monkeypatch.setattr("lamina.llm.endpoint.time.sleep", slept.append)
        with scripted(failed(500), failed(500), said("ok")) as server:
            chat(server.url, seed=seed).chat(ASK)
        return slept

    assert waits(1) == waits(1) != waits(2)


def test_a_wait_that_is_too_long_is_an_error_at_once():
    with (
        scripted(failed(429, "come back tomorrow", Retry_After="86400")) as server,
        pytest.raises(LLMError, match="429"),
    ):
        chat(server.url).chat(ASK)
    assert len(server.requests) == 1


def test_used_up_retries_are_an_error():
    with scripted(*[failed(500, "boom")] * 3) as server, pytest.raises(LLMError, match=r"HTTP 500.*boom"):
        chat(server.url, retries=2).chat(ASK)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "set a valid LAMINA_LLM_API_KEY"), (403, "no right"), (404, "check the model's name")]
)
def test_lasting_troubles_are_not_retried_and_say_what_to_do(status, remedy):
    with scripted(failed(status)) as server, pytest.raises(LLMError, match=f"HTTP {status}.*{remedy}"):
        chat(server.url).chat(ASK)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        "<html>Welcome to the router</html>",
        "{",
        "",
        "[]",
        '{"object": "list"}',
        '{"choices": [{}]}',
        '{"choices": null}',
    ],
)
def test_malformed_bodies(body):
    with scripted(Step(body)) as server, pytest.raises(LLMError, match="not a chat completion"):
        chat(server.url).chat(ASK)


def test_no_choices_and_refusals():
    with scripted(Step({"choices": []})) as server, pytest.raises(LLMError, match="no choices"):
        chat(server.url).chat(ASK)
    refusal = Step({"choices": [{"message": {"content": None, "refusal": "I must not."}, "finish_reason": "stop"}]})
    with scripted(refusal) as server, pytest.raises(LLMError, match="I must not"):
        chat(server.url).chat(ASK)


def test_null_content_is_empty_text():
    with scripted(said(None)) as server:
        assert chat(server.url).chat(ASK) == ""


def test_a_server_that_hangs_times_out():
    with (
        scripted(Step(silence=0.5), Step(silence=0.5)) as server,
        pytest.raises(LLMError, match=r"no answer within timeout=0.1 s"),
    ):
        chat(server.url, timeout=0.1, retries=1).chat(ASK)
    assert len(server.requests) == 2


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(LLMError, match=r"cannot be reached.*check base_url"):
        chat(url, retries=1).chat(ASK)


def test_stream_gives_the_pieces_and_retries_before_the_first():
    with scripted(failed(503), streamed("A ", "dog", ".")) as server:
        assert list(chat(server.url).stream(ASK)) == ["A ", "dog", "."]
    assert server.bodies()[1]["stream"] is True


def test_broken_streams_are_errors():
    with scripted(streamed("A ", end="data: {broken\n\n")) as server:
        pieces = chat(server.url).stream(ASK)
        assert next(pieces) == "A "
        with pytest.raises(LLMError, match="malformed event"):
            list(pieces)
    with scripted(failed(401)) as server, pytest.raises(LLMError, match=r"HTTP 401"):
        list(chat(server.url).stream(ASK))


def test_the_key_never_shows(caplog, capsys):
    caplog.set_level(logging.DEBUG)
    with scripted(failed(401, f"Incorrect API key provided: {KEY}"), said("ok")) as server:
        model = chat(server.url)
        with pytest.raises(LLMError) as caught:
            model.chat(ASK)
        model.chat(ASK)
    shown = capsys.readouterr()
    for text in (str(caught.value), repr(model), repr(model._endpoint), caplog.text, shown.out, shown.err):
        assert KEY not in text
    assert "***" in str(caught.value)
    assert caught.value.__suppress_context__


def test_where_the_key_comes_from(monkeypatch):
    with pytest.raises(InvalidInput, match="OPENAI_API_KEY"):
        OpenAIChat("gpt-4o-mini")
    monkeypatch.setenv("OPENAI_API_KEY", "from-openai")
    monkeypatch.setenv("LAMINA_LLM_API_KEY", "from-lamina")
    for expected, key in (("from-lamina", None), ("given", "given")):
        with scripted(said("ok")) as server:
            OpenAIChat("m", base_url=server.url, api_key=key).chat(ASK)
        assert server.requests[0][1]["authorization"] == f"Bearer {expected}"


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([], "at least one"),
        ("hi", "at least one"),
        ([{"role": "user"}], "string 'content'"),
        ([{"role": "robot", "content": "hi"}], "role='robot'"),
    ],
)
def test_malformed_messages_never_leave(messages, problem):
    with scripted() as server, pytest.raises(InvalidInput, match=problem):
        chat(server.url).chat(messages)
    assert server.requests == []


def test_bad_settings():
    for settings in ({"timeout": 0}, {"retries": -1}, {"backoff": -1}):
        with pytest.raises(InvalidInput, match=f"{next(iter(settings))}="):
            chat("http://127.0.0.1:1/v1", **settings)
    with pytest.raises(InvalidInput, match="max_tokens=0"):
        chat("http://127.0.0.1:1/v1").chat(ASK, max_tokens=0)


def test_token_estimate():
    model = chat("http://127.0.0.1:1/v1")
    assert model.count_tokens("") == 0
    assert model.count_tokens("12345678") == 2
    assert model.count_tokens("你好") == 2
