"""The scripted server does what its steps say, seen by a plain HTTP client."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from lamina.bench.scripted_llm import Step, failed, form_of, refused, said, scripted, serving, streamed

NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def post(url: str, body: dict[str, Any], timeout: float = 5.0) -> str:
    request = urllib.request.Request(
        f"{url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with NO_PROXY.open(request, timeout=timeout) as response:
        return str(response.read().decode())


def test_steps_are_played_in_order_and_requests_are_kept() -> None:
    with scripted(said("one"), refused("never"), streamed("a", "b")) as server:
        one = json.loads(post(server.url, {"n": 1}))
        two = json.loads(post(server.url, {"n": 2}))
        three = post(server.url, {"n": 3})
        with pytest.raises(urllib.error.HTTPError, match="599"):
            post(server.url, {"n": 4})
    assert one["choices"][0]["message"]["content"] == "one"
    assert two["choices"][0]["message"]["refusal"] == "never"
    assert three.count("data: ") == 3 and three.endswith("[DONE]\n\n")
    assert [body["n"] for body in server.bodies()] == [1, 2, 3, 4]


def test_errors_carry_status_and_headers() -> None:
    with scripted(failed(429, "slow down", retry_after="7")) as server, pytest.raises(urllib.error.HTTPError) as caught:
        post(server.url, {})
    assert caught.value.code == 429 and caught.value.headers["retry-after"] == "7"


def test_half_closed_and_silent() -> None:
    half, late = said("a long enough answer"), said("late")
    half.cut, late.silence = True, 0.5
    with scripted(half, late) as server:
        with pytest.raises(http.client.IncompleteRead):
            post(server.url, {})
        with pytest.raises(TimeoutError):
            post(server.url, {}, timeout=0.1)


def test_answers_may_depend_on_what_is_asked() -> None:
    schema = {"response_format": {"json_schema": {"name": "Notes"}}}
    with serving(lambda body: Step({"form": form_of(body)})) as server:
        assert json.loads(post(server.url, schema)) == {"form": "Notes"}
        assert json.loads(post(server.url, {})) == {"form": ""}
