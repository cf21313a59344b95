"""What the clock (``lamina.kernel.rhythm``) is made of: ticks, the actions they are given to, levels, the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Tick:
    """What an action is asked to do: consume the events in ``(since, input]``, of which ``done`` units are done.

    ``n`` is the event at which the tick fell, ``due`` all levels that fell on it, ``budget`` the work units granted,
    carry included. ``input`` is how far the level below had come, ``sequence`` the items since the last tick of level 0
    (empty for other levels: they read the log).
    """

    n: int
    level: int
    due: tuple[int, ...]
    budget: float
    sequence: tuple[Any, ...]
    since: int
    input: int
    done: int = 0


Action = Callable[[Tick], Iterator[int]]


class Journal(Protocol):
    """Where the cascade is made durable: all of one trough, the clock's own state included, or nothing."""

    def transaction(self) -> AbstractContextManager[Any]:
        """Begin; commit on exit; on an exception undo everything, in memory too."""

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep the state of the clock (JSON values), within the transaction."""


class NoJournal:
    """For actions that need no disk: simulations and tests."""

    def transaction(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def save(self, state: Mapping[str, Any]) -> None:
        """Nothing is kept."""


@dataclass(slots=True)
class Level:
    """One level: its action and where it stands. ``carry`` is unspent (or overdrawn) budget in work units."""

    action: Action
    budget: float  # A0: mean work units a tick
    carry: float = 0.0
    watermark: int = 0  # the last event consumed
    open: Tick | None = None  # cut by its budget, with ``done`` units behind it
    work: int = 0
    ticks: int = 0
    forced: int = 0
    strikes: int = 0
    disabled: bool = False
    lag: int = 0  # summed over ticks: how many events older than its tick the input was
    steps: Iterator[int] | None = field(default=None, repr=False)

    def state(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in KEPT}
        return kept | {"open": None if self.open is None else asdict(replace(self.open, sequence=()))}


KEPT = ("carry", "watermark", "work", "ticks", "forced", "strikes", "disabled", "lag")
