"""``AsyncMemory``: every verb of ``Memory`` as a coroutine, run in a thread. One core, no second copy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar

from lamina.memory import Memory

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _in_thread(
    verb: Callable[Concatenate[Memory, _P], _R],
) -> Callable[Concatenate[AsyncMemory, _P], Awaitable[_R]]:
    async def run(self: AsyncMemory, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return await asyncio.to_thread(verb, self.memory, *args, **kwargs)

    run.__name__, run.__doc__ = verb.__name__, verb.__doc__
    return run


class AsyncMemory:
    """Takes ``Memory``'s arguments; ``AsyncMemory(memory=existing)`` shares one instead."""

    def __init__(self, path: str | Path | None = None, *, memory: Memory | None = None, **arguments: Any) -> None:
        self.memory = memory or Memory(path, **arguments)

    add = _in_thread(Memory.add)
    add_batch = _in_thread(Memory.add_batch)
    retry = _in_thread(Memory.retry)
    search = _in_thread(Memory.search)
    hits = _in_thread(Memory.hits)
    get = _in_thread(Memory.get)
    get_all = _in_thread(Memory.get_all)
    update = _in_thread(Memory.update)
    delete = _in_thread(Memory.delete)
    quarantined = _in_thread(Memory.quarantined)
    accept = _in_thread(Memory.accept)
    restore = _in_thread(Memory.restore)
    delete_all = _in_thread(Memory.delete_all)
    forget = _in_thread(Memory.forget)
    history = _in_thread(Memory.history)
    reset = _in_thread(Memory.reset)
    mend = _in_thread(Memory.mend)
    close = _in_thread(Memory.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        await self.close()
        return False
