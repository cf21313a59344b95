"""``AsyncClient``: the calls of ``Memory`` over HTTP, as coroutines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Self, TypeVar

from lamina._optional import require
from lamina.client import answers, calls
from lamina.client.calls import Answer, Request

if TYPE_CHECKING:
    import httpx

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _sent(call: Callable[_P, Request[_R]]) -> Callable[Concatenate[AsyncClient, _P], Coroutine[Any, Any, _R]]:
    async def run(self: AsyncClient, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return await self._send(call(*args, **kwargs))

    answers.described(run, call)
    return run


class AsyncClient:
    """A memory behind ``url``, for one event loop; an asynchronous context manager.

    ``token`` is a key (``lamina keys create``); none is needed on a machine's own service without keys. ``seconds`` an
    answer may take; ``tries`` of a call that can be repeated. Raises ``InvalidInput`` for a URL that is none.
    """

    def __init__(self, url: str, token: str | None = None, *, seconds: float = 60.0, tries: int = 4) -> None:
        self._httpx = require("httpx", "lamina.client")
        self._http: httpx.AsyncClient = self._httpx.AsyncClient(**answers.connection(url, token, seconds, tries))
        self._tries = tries

    add = _sent(calls.add)
    retry = _sent(calls.retry)
    update = _sent(calls.update)
    delete = _sent(calls.delete)
    forget = _sent(calls.forget)
    restore = _sent(calls.restore)
    accept = _sent(calls.accept)
    feedback = _sent(calls.feedback)
    delete_all = _sent(calls.delete_all)
    reset = _sent(calls.reset)
    search = _sent(calls.search)
    get = _sent(calls.get)
    get_all = _sent(calls.get_all)
    history = _sent(calls.history)
    log = _sent(calls.log)
    quarantined = _sent(calls.quarantined)
    chat = _sent(calls.chat)
    explain = _sent(calls.explain)
    tiers = _sent(calls.tiers)
    promote = _sent(calls.promote)
    demote = _sent(calls.demote)
    archive = _sent(calls.archive)
    freeze = _sent(calls.freeze)
    unfreeze = _sent(calls.unfreeze)
    add_job = _sent(calls.add_job)
    learn_job = _sent(calls.learn_job)
    job = _sent(calls.job)
    cancel_job = _sent(calls.cancel_job)
    create_key = _sent(calls.create_key)
    list_keys = _sent(calls.list_keys)
    revoke_key = _sent(calls.revoke_key)

    async def all(
        self, *, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None, page: int = 100
    ) -> AsyncIterator[Answer]:
        """Every memory of an owner, newest first, ``page`` at a time."""
        owner = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
        cursor: str | None = None
        while True:
            found = await self.get_all(filters=owner, top_k=page, cursor=cursor)
            for row in found["results"]:
                yield row
            if (cursor := found["cursor"]) is None:
                return

    async def wait_job(self, job_id: str, *, seconds: float | None = None, every: float = 0.5) -> Answer:
        """The job when it is over, or as it stands after ``seconds``; asked for ``every`` so many."""
        end = None if seconds is None else time.monotonic() + seconds
        while (found := await self.job(job_id))["state"] not in answers.OVER and (
            end is None or time.monotonic() < end
        ):
            await asyncio.sleep(every)
        return found

    async def _send(self, request: Request[_R]) -> _R:
        answers.still_open(self._http)
        sent, tried = answers.built(self._http, request), 0
        while True:
            got: httpx.Response | httpx.TransportError
            try:
                got = await self._http.send(sent)
            except self._httpx.TransportError as error:
                got = error
            tried += 1
            wait = answers.pause(request, got, tried, self._tries)
            if wait is None:
                return answers.told(request, got)
            await asyncio.sleep(wait)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        await self.close()
        return False
