"""Spans: one a request, with what operators may see and nothing else; also from ``lamina serve`` itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_server import serving
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from lamina import Memory
from lamina.errors import InvalidInput
from lamina.llm.base import Embedder
from lamina.server import tracing
from lamina.server.app import create_app
from lamina.server.service import Service

pytestmark = pytest.mark.model
SECRETS = ("absinthe", "ada-lovelace", "lk_")


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, minilm: Embedder) -> Iterator[tuple[httpx.Client, Any]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with Memory(tmp_path_factory.mktemp("traced") / "m.db", embedder=minilm) as memory:
        service = Service(memory)
        app = create_app(service)
        app.state.tracer = tracing.tracer(provider)
        token = service.keys.create("test", "acme", ["admin"])[1]
        with serving(app) as url, httpx.Client(base_url=url, headers={"X-API-Key": token}, timeout=60) as client:
            yield client, exporter


def _spans(exporter: InMemorySpanExporter, count: int) -> list[ReadableSpan]:
    """The next ``count``, in the order of their requests: a span ends a moment after its answer has arrived."""
    while len(found := exporter.get_finished_spans()) < count:
        time.sleep(0.01)
    exporter.clear()
    return sorted(found, key=lambda span: span.start_time or 0)


def _told(span: ReadableSpan) -> tuple[str, dict[str, Any]]:
    return span.name, dict(span.attributes or {})


def test_a_span_for_each_request_and_nothing_of_what_it_says(
    traced: tuple[httpx.Client, InMemorySpanExporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, exporter = traced
    user = "ada-lovelace"
    said = {"messages": "I drink absinthe.", "user_id": user, "infer": False}
    id = client.post("/memories", json=said, headers={"X-Request-ID": "r-1"}).json()["results"][0]["id"]
    client.get("/memories", params={"user_id": user, "filter": "absinthe"}, headers={"X-Request-ID": "r-2"})
    client.get(f"/memories/{id}", headers={"X-Request-ID": "r-3"})
    client.post("/search", json={"query": "absinthe", "filters": {"user_id": user}}, headers={"X-Request-ID": "r-4"})
    client.get("/absinthe/ada-lovelace", headers={"X-Request-ID": "r-5"})
    client.get("/memories?user_id=ada-lovelace", headers={"X-Request-ID": "r-6", "X-API-Key": "lk_absinthe"})

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the memory says: absinthe")

    monkeypatch.setattr(Memory, "get_all", broken)
    client.get("/memories", params={"user_id": user}, headers={"X-Request-ID": "r-7"})
    spans = _spans(exporter, 7)
    assert [_told(span) for span in spans] == [
        (
            f"{verb} {route}" if route else verb,
            {"http.request.method": verb, "lamina.request_id": f"r-{n}", "http.response.status_code": status}
            | ({"http.route": route} if route else {})
            | ({"error.type": "500"} if status == 500 else {}),
        )
        for n, (verb, route, status) in enumerate(
            [
                ("POST", "/memories", 200),
                ("GET", "/memories", 200),
                ("GET", "/memories/{memory_id}", 200),
                ("POST", "/search", 200),
                ("GET", None, 404),
                ("GET", "/memories", 401),
                ("GET", "/memories", 500),
            ],
            start=1,
        )
    ]
    assert [span.status.status_code is StatusCode.ERROR for span in spans] == [*[False] * 6, True]
    whole = " ".join(span.to_json() for span in spans)
    assert not any(secret in whole for secret in (*SECRETS, id))


def test_it_continues_the_callers_trace(traced: tuple[httpx.Client, InMemorySpanExporter]) -> None:
    client, exporter = traced
    client.get("/health", headers={"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"})
    client.get("/health", headers={"traceparent": "00-nonsense", "tracestate": "=,="})
    known, fresh = _spans(exporter, 2)
    assert known.context and known.context.trace_id == int("ab" * 16, 16)
    assert known.parent is not None and known.parent.span_id == int("cd" * 8, 16)
    assert fresh.context and fresh.parent is None


def test_what_the_environment_asks_for(caplog: pytest.LogCaptureFixture) -> None:
    for none in (
        {},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SDK_DISABLED": "TRUE", "OTEL_TRACES_EXPORTER": "console"},
    ):
        assert tracing.provider(none) is None
    made = tracing.provider({"OTEL_TRACES_EXPORTER": "console"})
    assert made is not None and made.resource.attributes["service.name"] == "lamina"
    made.shutdown()
    with pytest.raises(InvalidInput, match="zipkin"):
        tracing.provider({"OTEL_TRACES_EXPORTER": "zipkin"})


def test_a_missing_package_is_said_and_does_no_harm(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert tracing.provider({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) is None
    assert "lamina[telemetry]" in caplog.text


SERVED = """
import sys, httpx
from live_server import serving
from lamina.server.worker import create

with serving(create()) as url:
    httpx.get(f"{url}/memories", params={"user_id": "ada-lovelace"}, headers={"X-Request-ID": "r-1"}, timeout=60)
"""


def test_a_worker_prints_them_when_it_is_told_to(tmp_path: Path) -> None:
    home = {"LAMINA_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent), "NO_PROXY": "127.0.0.1"}
    asked = {"OTEL_TRACES_EXPORTER": "console", "OTEL_SERVICE_NAME": "memories"}
    done = subprocess.run(
        [sys.executable, "-c", SERVED], env=os.environ | home | asked, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["name"] == "GET /memories" and told["attributes"]["lamina.request_id"] == "r-1"
    assert told["resource"]["attributes"]["service.name"] == "memories" and "lovelace" not in done.stdout
