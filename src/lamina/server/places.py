"""Places for work that may wait for a model: so many, and who finds none is told at once.

A model's server that hangs holds whoever asks it. Work that may ask one therefore has threads of its own, and the
others' answer all that needs no model, whatever becomes of these. A place is free again when its work has really ended,
not when nobody waits for it any more: a request that was given up leaves a thread behind that still waits.

The threads end with the process, or a service that is told to stop would wait for the model as well.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from contextvars import copy_context
from types import TracebackType
from typing import Any, TypeVar

from lamina.errors import Busy, InvalidInput

T = TypeVar("T")


_Task = tuple[Future[Any], Callable[[], Any]]


class Places:
    """``count`` threads, started as they are needed. Thread-safe."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise InvalidInput(f"model_requests={count}: must be at least 1")
        self.count = count
        self._taken = self._threads = 0
        self._lock = threading.Lock()
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()

    @property
    def taken(self) -> int:
        """Places whose work has not ended."""
        with self._lock:
            return self._taken

    async def run(self, work: Callable[[], T]) -> T:
        """What ``work`` gives, in a place, with the context of here. Cancelled, it stops waiting, and the work goes on.

        Raises ``Busy``, and what ``work`` raises."""
        with self._lock:
            if self._taken == self.count:
                raise Busy(f"all {self.count} requests that may wait for a model do; nothing was done: come again soon")
            if self._taken >= self._threads:
                self._start()
            self._taken += 1
            future: Future[T] = Future()
            future.set_running_or_notify_cancel()  # it has its thread: no cancelling takes it back
            context = copy_context()
            self._tasks.put((future, lambda: context.run(work)))
        return await asyncio.wrap_future(future)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._serve, args=(self._tasks,), name="lamina-model", daemon=True).start()
        except RuntimeError as error:  # the system gives no more threads
            raise Busy(f"{error}; nothing was done: come again soon") from error
        self._threads += 1

    def close(self) -> None:
        """Threads end, each when its work has; nobody waits for that. New work starts new ones."""
        with self._lock:
            for _ in range(self._threads):
                self._tasks.put(None)
            self._threads = 0
            self._tasks = queue.SimpleQueue()  # in the old one stands the end of threads that work still

    def _serve(self, tasks: queue.SimpleQueue[_Task | None]) -> None:
        while (task := tasks.get()) is not None:
            future, work = task
            with _Telling(future, self._leave):
                result = work()
                self._leave()
                future.set_result(result)
            del task, future, work  # or what was asked last would stay in memory until the next

    def _leave(self) -> None:
        with self._lock:
            self._taken -= 1


class _Telling(AbstractContextManager[None]):
    """Whatever fails inside is told to who waits, and ``leave`` called before that."""

    def __init__(self, future: Future[Any], leave: Callable[[], None]) -> None:
        self._future, self._leave = future, leave

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> bool:
        if error is not None:
            self._leave()
            self._future.set_exception(error)
        return True
