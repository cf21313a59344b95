"""Acting: on whose behalf the rows of the log are written, where one program works for many.

A service writes as itself for whoever sends a key, and the log would name the service each time. ``on_behalf`` opens a
place for a name, ``of`` fills it once it is known (which may be in another thread that the context was copied to), and
every row written within names that one. Rows of our own parts (``PARTS``) keep theirs: what rules or the kernel decided
by themselves, nobody asked for, and the clock of upkeep must not be driven by its own work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

PARTS = frozenset({"rules", "graph", "notes", "memos", "rhythm", "agent:kernel", "service"})


@dataclass(slots=True)
class _Behalf:
    name: str | None


_behalf: ContextVar[_Behalf | None] = ContextVar("behalf", default=None)


@contextmanager
def on_behalf(name: str | None = None) -> Iterator[None]:
    """Until the block ends rows name ``name``, or whomever ``of`` says; before that, whom they would have named."""
    token = _behalf.set(_Behalf(name))
    try:
        yield
    finally:
        _behalf.reset(token)


def of(name: str) -> None:
    """The innermost ``on_behalf`` is on behalf of ``name``; outside of any this does nothing."""
    behalf = _behalf.get()
    if behalf is not None:
        behalf.name = name


def named(actor: str) -> str:
    """What a row says that ``actor`` would be named in."""
    behalf = _behalf.get()
    return actor if actor in PARTS or behalf is None or behalf.name is None else behalf.name
