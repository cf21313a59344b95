"""The clients of a load: one process, many at once, each asking again as soon as it was answered (a closed loop).

Run as ``python -m lamina.bench.load.clients < LOAD``: a ``Load`` as JSON comes in, one JSON object goes out. A process
of its own, so that what asking costs is not taken for what answering costs; its CPU time is reported.

First ``filled`` memories are added, then the mix runs for ``warm`` seconds unmeasured and ``seconds`` measured, then
everything is read back (``readback``). Users follow Zipf's law, so that a few have much and most have little. A client
takes a new connection after every ``_RENEW`` calls: which worker a connection reaches is chance, and stays so while it
lasts. Any service that has mem0's paths can be asked.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamina._optional import require
from lamina.bench.load.figures import Sample, figures
from lamina.bench.load.readback import Expected, read_back
from lamina.bench.synthetic import Chatter

if TYPE_CHECKING:
    import httpx

MIX = {"add": 0.30, "search": 0.60, "list": 0.05, "update": 0.03, "delete": 0.02}
_RENEW = 100
_PATIENCE = 60.0  # seconds until a call counts as failed
_SHOWN = 20  # failures that are told in full
_SEARCHES = 200  # a second, more than a service of two cores answers


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the service at ``url``."""

    url: str
    seed: int
    seconds: float
    warm: float
    clients: int
    users: int
    filled: int


@dataclass(slots=True)
class Clients:
    """All clients of a load and what became of their calls."""

    load: Load
    expected: Expected = field(default_factory=Expected)
    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _written: Iterator[int] = field(default_factory=itertools.count)
    _begun: Iterator[int] = field(default_factory=itertools.count)
    _chatter: Chatter = field(init=False)
    _questions: Iterator[str] = field(init=False)
    _shares: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self._chatter = Chatter(self.load.seed)
        # Hardly ever the same again: encoders remember what they were asked.
        many = self._chatter.questions(1 + int(_SEARCHES * (self.load.warm + self.load.seconds)))
        self._questions = itertools.cycle(many)
        weights = 1.0 / np.arange(1, self.load.users + 1)
        self._shares = np.cumsum(weights) / weights.sum()

    async def fill(self) -> None:
        """The memories that are there before anything is measured, added by all clients at once."""
        each = -(-self.load.filled // self.load.clients)
        await self._all(lambda _: itertools.repeat("add", each))

    async def run(self, until: float) -> None:
        """The mix, until a moment of ``time.monotonic``."""
        await self._all(lambda draws: _mixed(draws, until))

    async def _all(self, verbs: Callable[[np.random.Generator], Iterator[str]]) -> None:
        draws = [np.random.default_rng((self.load.seed, 3, next(self._begun))) for _ in range(self.load.clients)]
        await asyncio.gather(*(self._client(one, verbs(one)) for one in draws))

    async def _client(self, draws: np.random.Generator, verbs: Iterator[str]) -> None:
        own: list[str] = []
        left = True
        while left:
            left = False
            async with connected(self.load.url) as http:
                for verb in itertools.islice(verbs, _RENEW):
                    left = True
                    await self._one(http, verb, draws, own)

    async def _one(self, http: httpx.AsyncClient, verb: str, draws: np.random.Generator, own: list[str]) -> None:
        user = f"user{int(np.searchsorted(self._shares, draws.random()))}"
        if verb == "add" or (verb in ("update", "delete") and not own):
            await self._add(http, user, own)
        elif verb == "search":
            body = {"query": next(self._questions), "filters": {"user_id": user}, "top_k": 10}
            found = await self._ask(http, "search", "POST", "/search", json=body)
            if found is not None and any(row.get("user_id", user) != user for row in found["results"]):
                self.failures.append("search: a memory of another user")
        elif verb == "list":
            await self._ask(http, "list", "GET", "/memories", params={"user_id": user, "top_k": 100})
        else:
            await self._change(http, verb, own, int(draws.integers(len(own))))

    async def _add(self, http: httpx.AsyncClient, user: str, own: list[str]) -> None:
        text = self._text()
        body = {"messages": text, "user_id": user, "infer": False}
        key = {"Idempotency-Key": str(uuid.uuid4())}
        told = await self._ask(http, "add", "POST", "/memories", json=body, headers=key)
        if told is None:
            return
        if len(told["results"]) != 1:
            self.failures.append(f"add: {len(told['results'])} memories of one message")
            return
        id = told["results"][0]["id"]
        self.expected.added(id, user, text)
        own.append(id)

    async def _change(self, http: httpx.AsyncClient, verb: str, own: list[str], place: int) -> None:
        """Of what this client added, so that nobody else changes it at the same time."""
        id = own[place]
        if verb == "delete":
            own.pop(place)
            if await self._ask(http, verb, "DELETE", f"/memories/{id}") is not None:
                self.expected.deleted(id)
            return
        text = self._text()
        if await self._ask(http, verb, "PUT", f"/memories/{id}", json={"text": text}) is not None:
            self.expected.updated(id, text)

    def _text(self) -> str:
        """Never twice the same, or a duplicate could not be told from a repetition."""
        number = next(self._written)
        return f"{self._chatter.messages(1, start=number)[0]} [{number}]"

    async def _ask(self, http: httpx.AsyncClient, verb: str, method: str, path: str, **request: Any) -> Any:
        """The answer, or ``None`` for a call that failed, which is noted."""
        errors = require("httpx", "lamina bench load")
        begin = time.monotonic()
        try:
            answer = await http.request(method, path, **request)
        except errors.HTTPError as error:
            self.failures.append(f"{verb}: {type(error).__name__} {error}")
            return None
        end = time.monotonic()
        if answer.status_code != 200:
            self.failures.append(f"{verb}: {answer.status_code} {answer.text[:200]}")
            return None
        self.samples.append((verb, end, end - begin))
        return answer.json()


def _mixed(draws: np.random.Generator, until: float) -> Iterator[str]:
    verbs, shares = list(MIX), list(MIX.values())
    while time.monotonic() < until:
        yield str(draws.choice(verbs, p=shares))


def connected(url: str) -> httpx.AsyncClient:
    """A client with connections of its own, without TLS or proxies."""
    httpx_ = require("httpx", "lamina bench load")
    client: httpx.AsyncClient = httpx_.AsyncClient(base_url=url, timeout=_PATIENCE, verify=False, trust_env=False)
    return client


async def main(load: Load) -> dict[str, Any]:
    """Fill, load, read back."""
    clients = Clients(load)
    await clients.fill()
    filled = clients.expected.open
    begin = time.monotonic() + load.warm
    await clients.run(begin)
    spent = _cpu()
    await clients.run(begin + load.seconds)
    spent, end = _cpu() - spent, time.monotonic()
    samples = [sample for sample in clients.samples if begin <= sample[1]]
    found: dict[str, Any] = {"began": begin, "ended": end, "memories_begin": filled}
    found |= {"memories_end": clients.expected.open, **figures(samples, begin, end)}
    found |= {"errors": len(clients.failures), "failures": clients.failures[:_SHOWN]}
    found |= {"client_cpu_cores": spent / (end - begin)}
    async with connected(load.url) as http:
        found |= asdict(await read_back(http, clients.expected))
    return found


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(Load(**json.load(sys.stdin))))) + "\n")
