"""The task suite by name, at sizes that a small model learns in minutes on a processor.

``task("mqar")`` is one of the standard sizes; ``task("mqar", kv=4)`` the same with something changed. Each size was
tried with an attention arm: what attention does not solve tells nothing about a memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lamina.errors import InvalidInput
from lamina.nn.facts import LongTailFacts
from lamina.nn.tasks import MQAR, CreditStream, InContextRecall, SelectiveCopy, Task

SUITE: dict[str, Task] = {
    "mqar": MQAR(T=64, kv=8, V=256),
    "mqar-tiny": MQAR(T=48, kv=4, V=64),
    "far-mqar": MQAR(T=48, kv=4, V=64, power=1.0),
    "rebound-mqar": MQAR(T=64, kv=8, V=256, updates=4),
    "selective-copy": SelectiveCopy(T=64, n=8, V=16),
    "recall": InContextRecall(T=64, keys=8, V=64),
    "facts": LongTailFacts(N=16_384, subjects=256, relations=64, values=256, zipf=0.5),
    "credit": CreditStream(T=12, k=4, values=8),
}


def task(name: str, **changes: Any) -> Task:
    """A task of the suite, with its sizes changed. Raises ``InvalidInput`` for names and sizes there are not."""
    if name not in SUITE:
        raise InvalidInput(f"task={name!r}: there are {', '.join(SUITE)}")
    known: Any = SUITE[name]
    try:
        changed: Task = replace(known, **changes)
    except TypeError as error:
        raise InvalidInput(f"task={name!r}, {changes!r}: {error}") from error
    return changed
