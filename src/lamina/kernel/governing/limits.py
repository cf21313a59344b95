"""Rate limits: how often a principal may do what. One token bucket for each principal and action.

MemOS, arXiv 2507.03724, section 5 (MemGovernance). A bucket holds ``burst`` tokens and gets one back every ``every``
nanoseconds. It is kept as one whole number, the moment when it will be full again less what a full one is worth (the
generic cell rate algorithm, ITU-T I.371 annex A, which is a token bucket without the counting): no float drifts, and a
full bucket is worth nothing, so it is forgotten. Who is refused pays nothing and is told when to come again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from lamina.errors import InvalidInput, RateLimited
from lamina.kernel.governance import ACTIONS, Action, Principal

_SECOND = 10**9
_MANY = 10_000  # buckets, above which the full ones are looked for

_Who = tuple[str, str | None, str | None, Action]


@dataclass(frozen=True, slots=True)
class Rate:
    """``burst`` at once, then one every ``every`` nanoseconds."""

    burst: int
    every: int

    def __post_init__(self) -> None:
        if self.burst < 1 or self.every < 1:
            raise InvalidInput(f"Rate({self.burst!r}, {self.every!r}): at least 1 at once, and 1 nanosecond between")

    @classmethod
    def per_minute(cls, count: int, *, burst: int | None = None) -> Self:
        """``count`` a minute, ``burst`` (default: as many) of them at once."""
        if count < 1:
            raise InvalidInput(f"count={count!r}: at least 1 a minute")
        return cls(count if burst is None else burst, -(-60 * _SECOND // count))


class RateLimits:
    """``rates`` by action; an action that is not named is not limited. ``clock`` gives nanoseconds and may be any
    that does not go back for long. Thread-safe: one object for all doors, or they would add up."""

    def __init__(self, rates: Mapping[Action, Rate], *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        if unknown := set(rates) - set(ACTIONS):
            raise InvalidInput(f"rates: {sorted(unknown)} are no actions; they are {', '.join(ACTIONS)}")
        self._rates = dict(rates)
        self._clock = clock
        self._lock = threading.Lock()
        self._full: dict[_Who, int] = {}  # when each bucket will be full

    def spend(self, principal: Principal, action: Action) -> None:
        """Take a token. Raises ``RateLimited``, which says after how many seconds there will be one.

        A user's agents spend what the user has, or one could ask again under another agent's name; roles make nobody
        another.
        """
        rate = self._rates.get(action)
        if rate is None:
            return
        who = (principal.tenant, principal.user, None if principal.user else principal.agent, action)
        with self._lock:
            now = self._clock()
            full = max(self._full.get(who, now), now)
            wait = full + rate.every - rate.burst * rate.every - now  # the bucket lacks (full - now) / every tokens
            if wait > 0:
                raise RateLimited(
                    f"{principal.name} may {action} {rate.burst} times at once, then once every"
                    f" {rate.every / _SECOND:.3g} s: try again in {wait / _SECOND:.3g} s",
                    retry_after=wait / _SECOND,
                )
            self._full[who] = full + rate.every
            if len(self._full) > _MANY:
                self._full = {who: full for who, full in self._full.items() if full > now}

    @property
    def remembered(self) -> int:
        """How many buckets are kept: those that are not full, and some that are."""
        return len(self._full)
