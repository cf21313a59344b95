"""An answer that trickles in: an end to all of it, where the client only knows a limit on silence.

A server that sends a byte now and then is never silent for long, and would be listened to for ever.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from lamina.llm.patience import left


def bounding(openai: ModuleType) -> Callable[[Any], None]:
    """For the ``response`` hooks of a client of the ``openai`` package: the body ends as a time-out does when whoever
    asks no longer waits (``llm.patience``)."""
    roots = (kind.__module__.partition(".")[0] for kind in openai.DefaultHttpxClient.__mro__)
    http: Any = importlib.import_module(next(root for root in roots if root != "openai"))  # differs by its version

    class Bounded(http.SyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def __iter__(self) -> Iterator[bytes]:
            for piece in self._stream:
                if not left():
                    raise http.ReadTimeout("the answer was not complete in time")
                yield piece

        def close(self) -> None:
            self._stream.close()

    def bound(response: Any) -> None:
        response.stream = Bounded(response.stream)

    return bound
