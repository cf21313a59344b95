"""How long whoever asks will wait: a limit on all that a model's server is waited for on behalf of one request.

One request may ask a model several times, and each time may be tried again: limits of single tries add up to minutes
that nobody waits any more. ``within`` sets one end for all of it, which goes with the context into threads;
``llm.endpoint`` keeps to it. Without it there is none, as for a program that writes overnight.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_end: ContextVar[float] = ContextVar("end", default=math.inf)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """In the block servers of models are waited for until ``seconds`` from now, whatever a block around it says."""
    token = _end.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


def left() -> float:
    """Seconds until the end, not below 0; infinite if there is none."""
    return max(0.0, _end.get() - time.monotonic())
