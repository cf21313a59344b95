"""Heat: how much a memory is used now, as one number that fades by itself.

MemOS (arXiv 2507.03724) schedules by "access frequency and recency" and gives no formula; an exponentially
decayed count is the one number that has both, and whose expectation is the rate of use. Unusual: decay is lazy, a
multiplication when the number is read, never a sweep over all rows. Time is an integer (nanoseconds, or
logical calls), so that replaying a log gives the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lamina.errors import InvalidInput

LN2 = math.log(2)


@dataclass(frozen=True, slots=True)
class Heat:
    """Uses, halved every ``half_life``; decayed only when read or touched, so that idle memories cost nothing.

    In steady state it is the rate of use times ``half_life / ln 2``: the number of uses in one such window.
    """

    half_life: int
    value: float = 0.0
    since: int = 0

    def __post_init__(self) -> None:
        if self.half_life <= 0:
            raise InvalidInput(f"half_life={self.half_life!r}: give a positive time, in the clock's units")

    def at(self, now: int) -> float:
        """The heat at ``now``; a clock that went back does not heat."""
        return float(self.value * 2.0 ** (-max(0, now - self.since) / self.half_life))

    def touched(self, now: int, weight: float = 1.0) -> Heat:
        """After one more use. Raises ``InvalidInput`` for a negative or non-finite ``weight``."""
        if not (math.isfinite(weight) and weight >= 0):
            raise InvalidInput(f"weight={weight!r} of a use: give a finite number, not negative")
        return Heat(self.half_life, self.at(now) + weight, max(now, self.since))
