"""A server that speaks OpenAI's API. Requests go there as they are, and what it answers comes back as it is.

The key is the operator's; a caller's key of this service never leaves it. Redirects are not followed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from lamina.errors import LLMUnavailable
from lamina.server.upstreams.base import Reply

CONNECT = 10.0  # seconds
_PASSED = ("content-type", "retry-after")  # headers of an answer that callers need; "x-ratelimit-..." too
_PLACEHOLDER = 8  # characters: a shorter key is none, and blotting it out would eat ordinary words


class Remote:
    """``base_url`` usually ends in /v1. ``seconds``: how long it may be silent."""

    def __init__(self, base_url: str, key: str | None, *, seconds: float) -> None:
        self._url, self._key, self._seconds = base_url.rstrip("/"), key or "", seconds
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(seconds, connect=min(CONNECT, seconds)),
        )

    def __repr__(self) -> str:
        return f"Remote({self._url!r})"

    async def complete(self, body: Mapping[str, Any]) -> Reply:
        headers = {"Content-Type": "application/json"}
        content = json.dumps(body).encode()
        return await self._sent(
            self._client.build_request("POST", f"{self._url}/chat/completions", content=content, headers=headers)
        )

    async def models(self) -> Reply:
        return await self._sent(self._client.build_request("GET", f"{self._url}/models"))

    async def close(self) -> None:
        await self._client.aclose()

    async def _sent(self, request: httpx.Request) -> Reply:
        with self._explained():
            response = await self._client.send(request, stream=True)
        headers = {
            name: value
            for name, value in response.headers.items()
            if name in _PASSED or name.startswith("x-ratelimit-")
        }
        pieces = self._pieces(response) if response.is_success else self._refusal(response)
        return Reply(response.status_code, headers, pieces, response.aclose)

    async def _pieces(self, response: httpx.Response) -> AsyncIterator[bytes]:
        with self._explained():
            async for piece in response.aiter_bytes():
                yield piece

    async def _refusal(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The body of an error; a server may quote the key in it, which is not the caller's to see."""
        with self._explained():
            said = await response.aread()
        yield said.replace(self._key.encode(), b"***") if len(self._key) >= _PLACEHOLDER else said

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            wait = f"{min(CONNECT, self._seconds) if isinstance(error, httpx.ConnectTimeout) else self._seconds:g} s"
            raise LLMUnavailable(f"the model's server was silent for {wait}; try again", code="TIMEOUT") from None
        except httpx.HTTPError as error:
            kind = type(error).__name__
            raise LLMUnavailable(f"the model's server cannot be reached, or broke off ({kind}); try again") from None
