"""What answers a chat completion: a status, headers, and a body that comes in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


async def _nothing() -> None: ...


@dataclass(frozen=True, slots=True)
class Reply:
    """``pieces`` of the body as they come: one JSON document, or server-sent events. Whoever has it calls ``close``,
    also in the midst of it: what still works at the answer then stops."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]] = _nothing

    async def read(self) -> bytes:
        """The whole body. Closes."""
        try:
            return b"".join([piece async for piece in self.pieces])
        finally:
            await self.close()


class Upstream(Protocol):
    """A server that speaks OpenAI's chat completions, or stands for one."""

    async def complete(self, body: Mapping[str, Any]) -> Reply:
        """The answer to a request, streamed if it asks for that. Raises ``LLMUnavailable``, ``LLMError``."""

    async def models(self) -> Reply:
        """The models there are. Raises as ``complete``."""

    async def close(self) -> None:
        """Let go of connections."""
