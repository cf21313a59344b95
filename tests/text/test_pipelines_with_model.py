"""Every pipeline in front of a model server that misbehaves: no memory lost, none written twice, still searchable."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lamina import Memory, Scope
from lamina.bench.synthetic import WordVectors
from lamina.llm import OpenAIChat
from lamina.settings import Settings
from lamina.text.pipelines import PIPELINES

STATEMENTS = ("fact", "event", "preference", "plan", "persona")
SCOPE = Scope("default", user="mira")
SAID = (
    "I live in Boston with my dog Rex.",
    "My mentor Alice Johnson works at Initech.",
    "I moved to Denver in June.",
    "Rex is seven years old and likes the garden.",
)


def answer(text: str | None, **more: object) -> bytes:
    message = {"role": "assistant", "content": text, **more}
    return json.dumps({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()


BODIES = {
    "malformed": answer('{"facts": [{"text": "I li'),
    "prose": answer("Sure! Here is what I remember about you."),
    "wrong shape": answer('{"answer": {"unexpected": [1, 2, 3]}}'),
    "empty": answer('{"facts": [], "notes": [], "links": []}'),
    "refusal": answer(None, refusal="I cannot help with that."),
    "not a completion": b'{"hello": "world"}',
}
STATUSES = {"rate limited": 429, "broken": 500, "overloaded": 503}
MODES = (*BODIES, *STATUSES, "silent", "half closed", "unreachable")


@contextmanager
def server(mode: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = BODIES.get(mode, b'{"error": {"message": "no"}}')
            if mode == "silent":
                time.sleep(0.3)
            try:
                self.send_response(STATUSES.get(mode, 200))
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body) + 1000 * (mode == "half closed")))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # the client stopped waiting
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    if mode == "unreachable":
        http.shutdown()
        http.server_close()
    try:
        yield url
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_nothing_is_lost_or_written_twice(
    tmp_path: Path, pipeline: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    settings = Settings(tenant="default", pipeline=pipeline)
    with server(mode) as url:
        model = OpenAIChat("any", base_url=url, api_key="none", timeout=0.1, retries=1, backoff=0.001)
        with Memory(tmp_path / "m.db", embedder=WordVectors(), llm=model, settings=settings) as memory:
            for day, text in enumerate(SAID, 1):
                memory.add(text, user_id="mira", timestamp=f"2024-05-0{day}")
            cubes = memory.store.query(SCOPE, closed=True, limit=1000).cubes
            turns = {cube.id: cube.text for cube in cubes if cube.header.semantic_type == "turn"}
            assert Counter(turns.values()) == Counter(SAID)
            facts = {cube.id: cube.text for cube in cubes if cube.header.semantic_type in STATEMENTS}
            assert len(facts) == len(set(facts.values()))
            for text in SAID:
                found = memory.hits(text, SCOPE, top_k=4)
                assert text in {(hit.source or hit.cube).text for hit in found}
            assert memory.store.verify() == []
