"""An end to all that a server may do to be listened to: the client itself only knows a limit on silence.

A server that sends a byte of a header or a body now and then, or ``102 Processing`` without end, is never silent for
long; one that falls silent late is waited for as long as one that was silent from the start. So every read and write
of a connection, not the request at its beginning, gets what time whoever asks has left (``llm.patience``). httpcore
tells of each stream as it is opened (its ``trace`` extension), proxied and encrypted ones too; that is the one public
way in which proxies named by the environment go on working, and the same in both generations of httpx.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from lamina.llm.patience import left

_INSTANT = 0.001  # seconds: what opening a connection gets when the time is up
_PIECE = 16_384  # bytes sent at a time: about what a socket takes at once


def bound(request: Any) -> None:
    """For the ``request`` hooks of an httpx client: requests end as time-outs do when whoever asks waits no longer."""
    limits = {name: _least(limit) for name, limit in request.extensions.get("timeout", {}).items()}
    request.extensions = {**request.extensions, "timeout": limits, "trace": _bound_stream}


def _bound_stream(_: str, told: Mapping[str, Any]) -> None:
    stream: Any = told.get("return_value")
    if not hasattr(stream, "start_tls"):  # only streams have it
        return
    httpcore: Any = importlib.import_module(type(stream).__module__.partition(".")[0])  # differs by the generation
    plain_read, plain_write = stream.read, stream.write

    def check() -> None:
        if not left():  # what never pauses would be read for ever otherwise
            raise httpcore.ReadTimeout("the answer was not complete in time")

    def read(max_bytes: int, timeout: float | None = None) -> Any:
        check()
        return plain_read(max_bytes, _least(timeout))

    def write(buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            check()
            plain_write(buffer[start : start + _PIECE], _least(timeout))

    stream.read, stream.write = read, write


def _least(timeout: float | None) -> float | None:
    rest = max(left(), _INSTANT)
    if timeout is None:
        return None if rest == float("inf") else rest
    return min(timeout, rest)
