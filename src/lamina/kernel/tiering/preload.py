"""Preload: what the turns just spoken make likely in the next calls, from what was used together before.

MemOS (arXiv 2507.03724, section 5.1) asks for "predictive preloading" and names no method. This is the simplest that
can be wrong in a measured way: a first-order model. A *cue* is whatever a call shows (memories used, entities,
topics); the chance that a memory is used in the next call is, pooled over the cues of the last calls,

    sum over cues of (uses of the memory in the call after the cue) / sum over cues of (calls after the cue + 1)

Counts fade like heat. The one in the denominator keeps a cue seen once from being certain. Of too many, the warmest
half is kept, so that what is known of a conversation of years takes no more than of one of weeks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from lamina.errors import InvalidInput
from lamina.kernel.tiering.heat import Heat

_CUES = 2048  # kept at most
_AFTER = 256  # memories kept at most after each: a chance of 2 % leaves room for 50


class CoUsePredictor:
    """Learns from each call, forecasts the next. Cues of the last ``memory`` calls count; not thread-safe.

    ``half_life`` in the clock's units should span many sessions: what goes together changes slower than what is hot.
    """

    def __init__(self, half_life: int, *, memory: int = 1, least: float = 0.02) -> None:
        if memory < 1:
            raise InvalidInput(f"memory={memory!r}: give at least 1 call to take cues from")
        self._cold = Heat(half_life)
        self._least = least
        self._recent: deque[tuple[str, ...]] = deque(maxlen=memory)
        self._after: dict[str, dict[str, Heat]] = {}  # cue -> memory -> uses in the call after
        self._calls: dict[str, Heat] = {}  # cue -> calls after

    def observe(self, now: int, used: Sequence[str], topics: Sequence[str] = ()) -> None:
        """A call used ``used`` in a turn about ``topics``."""
        here = tuple(f"topic:{topic}" for topic in topics)
        for cue in dict.fromkeys([*(self._recent[-1] if self._recent else ()), *here]):
            self._calls[cue] = self._calls.get(cue, self._cold).touched(now)
            after = self._after.setdefault(cue, {})
            for id in used:
                after[id] = after.get(id, self._cold).touched(now)
            if len(after) > _AFTER:
                self._after[cue] = _warmest(after, _AFTER // 2, now)
        if len(self._calls) > _CUES:
            self._calls = _warmest(self._calls, _CUES // 2, now)
            self._after = {cue: self._after[cue] for cue in self._calls}
        self._recent.append((*here, *used))

    def forget(self, id: str) -> None:
        """No trace of a memory stays, neither as a cue nor as a consequence."""
        self._after.pop(id, None)
        self._calls.pop(id, None)
        for after in self._after.values():
            after.pop(id, None)
        recent = [tuple(cue for cue in cues if cue != id) for cues in self._recent]
        self._recent = deque(recent, self._recent.maxlen)

    def predict(self, now: int) -> dict[str, float]:
        """Chance of each memory to be used in the next call, where it is at least ``least``."""
        uses, calls = dict[str, float](), 0.0
        for cue in dict.fromkeys(cue for cues in self._recent for cue in cues):
            if cue not in self._calls:
                continue
            calls += self._calls[cue].at(now) + 1.0
            for id, heat in self._after[cue].items():
                uses[id] = uses.get(id, 0.0) + heat.at(now)
        return {id: count / calls for id, count in uses.items() if count / calls >= self._least}


def _warmest(heats: dict[str, Heat], count: int, now: int) -> dict[str, Heat]:
    kept = sorted(heats, key=lambda name: (-heats[name].at(now), name))[:count]
    return {name: heats[name] for name in kept}
