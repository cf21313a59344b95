"""Models that hang: what needs them waits in places of its own, and everything else goes on."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from live_server import serving
from openai_standin import StandIn, standing_in

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.errors import LLMUnavailable
from lamina.llm.patience import left, within
from lamina.server.app import Limits, create_app
from lamina.server.places import Busy, Places
from lamina.server.service import Service
from lamina.settings import Settings

PLACES = 3
MANY = (os.cpu_count() or 1) + 4 + 40  # more than the threads of the event loop and of its routes together


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def _threads() -> int:
    return sum(thread.name == "lamina-model" for thread in threading.enumerate())


# -- the places themselves -------------------------------------------------------------------------


def test_a_place_is_free_when_its_work_ends_and_not_when_nobody_waits_for_it() -> None:
    async def run() -> None:
        places, go = Places(2), threading.Event()
        waiting = [asyncio.create_task(places.run(go.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        assert places.taken == 2
        for task in waiting:
            task.cancel()
        done, _ = await asyncio.wait(waiting)
        assert all(task.cancelled() for task in done) and places.taken == 2
        with pytest.raises(Busy, match="all 2") as refused:
            await places.run(lambda: 1)
        assert refused.value.retry_after > 0
        go.set()
        while places.taken:
            await asyncio.sleep(0.01)
        assert await places.run(lambda: 7) == 7 and places.taken == 0

    asyncio.run(run())


def test_what_work_raises_is_raised_here_and_frees_its_place() -> None:
    def fail() -> None:
        raise KeyError("gone")

    async def run() -> None:
        places = Places(1)
        for _ in range(5):
            with pytest.raises(KeyError, match="gone"):
                await places.run(fail)
        assert await places.run(threading.get_ident) != threading.get_ident()

    asyncio.run(run())


def test_threads_are_started_as_they_are_needed_and_then_stay() -> None:
    async def run() -> None:
        before, places = _threads(), Places(4)
        for _ in range(20):
            await places.run(lambda: None)
        assert _threads() - before == 1
        for _ in range(3):
            await asyncio.gather(*(places.run(lambda: time.sleep(0.05)) for _ in range(4)))
        assert _threads() - before == 4
        places.close()
        _until(lambda: _threads() == before)
        assert await places.run(lambda: 7) == 7

    asyncio.run(run())


def test_work_after_a_close_is_done_while_older_work_hangs() -> None:
    async def run() -> None:
        places, go = Places(4), threading.Event()
        hanging = [asyncio.create_task(places.run(go.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        places.close()
        for _ in range(3):
            assert await asyncio.wait_for(places.run(lambda: 7), 20) == 7
        go.set()
        assert await asyncio.gather(*hanging) == [True, True] and places.taken == 0

    asyncio.run(run())


def test_a_thread_that_cannot_be_started_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def run() -> None:
        places = Places(1)
        with monkeypatch.context() as none_left:
            none_left.setattr(threading.Thread, "start", full)
            for _ in range(2):
                with pytest.raises(Busy, match="can't start new thread"):
                    await places.run(lambda: 7)
        assert places.taken == 0 and await places.run(lambda: 7) == 7

    asyncio.run(run())


def test_the_context_of_who_asks_goes_along() -> None:
    async def run() -> float:
        with within(1000):
            return await Places(1).run(left)

    assert 990 < asyncio.run(run()) <= 1000


# -- a real server over a model's server that hangs ------------------------------------------------


@pytest.fixture(scope="module")
def far() -> Iterator[StandIn]:
    with standing_in() as stand_in:
        yield stand_in


@pytest.fixture
def memory(far: StandIn, tmp_path: Path) -> Iterator[Memory]:
    settings = Settings(
        llm="openai:gpt-stand-in", llm_base_url=far.url, llm_api_key="sk", model_requests=PLACES, durable=False
    )
    with Memory(tmp_path / "m.db", embedder=WordVectors(), settings=settings) as memory:
        yield memory
        far.reset()


def _post(url: str, path: str, number: int) -> httpx.Response:
    bodies = {
        "/memories": {"messages": f"I live in Town{number}.", "user_id": f"u{number}"},
        "/v1/chat/completions": {
            "model": "m",
            "user": f"u{number}",
            "messages": [{"role": "user", "content": f"I live in Town{number}."}],
        },
    }
    return httpx.post(f"{url}{path}", json=bodies[path], timeout=60)


@pytest.mark.parametrize("path", ["/memories", "/v1/chat/completions"])
def test_more_hangs_than_threads_leave_the_rest_of_the_service_alone(path: str, far: StandIn, memory: Memory) -> None:
    service = Service(memory)
    before = _threads()
    with (
        serving(create_app(service, limits=Limits(seconds=30))) as url,
        httpx.Client(base_url=url, timeout=20) as client,
        ThreadPoolExecutor(MANY) as many,
    ):
        client.post("/memories", json={"messages": "I keep bees.", "user_id": "ada", "infer": False})
        far.pause = 0
        hanging = [many.submit(_post, url, path, number) for number in range(PLACES)]
        _until(lambda: service.places.taken == PLACES and len(far.received) >= PLACES)
        for attempt in range(2):
            refused = [answer.result() for answer in [many.submit(_post, url, path, n) for n in range(MANY)]]
            assert Counter(answer.status_code for answer in refused) == {503: MANY}
            assert {answer.json()["error"]["code"] for answer in refused} == {"BUSY"}
            assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
            rows = client.get("/memories", params={"user_id": "ada"}).json()["results"]
            assert [row["memory"] for row in rows] == ["I keep bees."]
            found = client.post("/search", json={"query": "bees", "filters": {"user_id": "ada"}})
            assert len(found.json()["results"]) == 1 and client.get("/ready").status_code == 200
            assert client.request("DELETE", "/memories", params={"user_id": f"nobody{attempt}"}).status_code == 200
            names = Counter(thread.name for thread in threading.enumerate())
            assert names["lamina-model"] - before == PLACES and names["AnyIO worker thread"] <= 40  # as many as ever
        assert service.places.taken == PLACES and not any(task.done() for task in hanging)
        far.go.set()
        assert {answer.result().status_code for answer in hanging} == {200}
        _until(lambda: service.places.taken == 0)
        assert _post(url, path, 99).status_code == 200


def test_a_request_that_was_given_up_keeps_its_place_until_its_work_ends(far: StandIn, memory: Memory) -> None:
    service = Service(memory)
    with serving(create_app(service, limits=Limits(seconds=30))) as url:
        far.pause = 0
        for number in range(PLACES):
            with pytest.raises(httpx.ReadTimeout):
                body = {"messages": f"I live in Town{number}.", "user_id": "ada"}
                httpx.post(f"{url}/memories", json=body, timeout=0.5)
        assert service.places.taken == PLACES and _post(url, "/memories", 8).status_code == 503
        far.go.set()
        _until(lambda: service.places.taken == 0)
        assert _post(url, "/memories", 9).status_code == 200


def test_models_are_waited_for_no_longer_than_the_answer(far: StandIn, memory: Memory) -> None:
    """Its own limits, a minute for each of four tries, would be longer: what was said is kept, and waits."""
    service = Service(memory)
    with serving(create_app(service, limits=Limits(seconds=2))) as url:
        far.pause = 0
        answer = _post(url, "/memories", 1)
        assert answer.status_code == 200 and "waits for the model" in answer.json()["results"][0]["reason"]
        _until(lambda: service.places.taken == 0)  # and the hanging server was never let go


def test_a_trickle_is_no_answer(tmp_path: Path) -> None:
    """A server that sends a byte now and then is never silent for long."""
    import socket

    from lamina.llm.openai import OpenAIChat

    stop = threading.Event()

    def trickle(server: socket.socket) -> None:
        connection, _ = server.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
        while not stop.wait(0.05):
            try:
                connection.sendall(b" ")
            except OSError:
                break
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=trickle, args=(server,))
        thread.start()
        chat = OpenAIChat("m", base_url=f"http://127.0.0.1:{server.getsockname()[1]}/v1", api_key="sk", retries=0)
        with within(0.5), pytest.raises(LLMUnavailable, match="time of the request"):
            chat.chat([{"role": "user", "content": "Hello"}])
        stop.set()
        thread.join()
