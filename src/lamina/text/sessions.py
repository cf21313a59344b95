"""Which session a turn belongs to, and its place there: neighbours in a session explain each other.

A ``run_id`` names the session. Without one, turns that follow the scope's last turn within an hour
continue its session; a longer pause, or a step back in time, begins a new one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lamina.cube.cube import MemCube, Scope, new_id
from lamina.store.base import Store
from lamina.text.base import Turn

PAUSE = timedelta(hours=1)  # a chat resumed after this long is a new conversation; ours
MAX_PLACES = 10_000  # scopes remembered; the others are read from the store when they speak again
CONTEXT = 10  # earlier turns that help to resolve references (Mem0, arXiv 2504.19413: m = 10)


@dataclass(frozen=True, slots=True)
class _Place:
    session: str
    next_ordinal: int
    last: datetime
    recent: tuple[Turn, ...]


class SessionClock:
    """Hands out sessions and ordinals. Remembers each scope's last place; reads the store the first time.

    Two processes writing one session at the same moment may hand out the same ordinal twice; both turns
    are kept, only their neighbourhood in ranking is approximate.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places: OrderedDict[Scope, _Place] = OrderedDict()
        self._lock = threading.Lock()

    def place(self, turns: Sequence[Turn], scope: Scope) -> tuple[list[Turn], tuple[Turn, ...]]:
        """The turns with session and ordinal filled in, and the turns said before them."""
        with self._lock:
            place = self._current(scope, turns[0].at) if turns else None
            if place is None:
                return [], ()
            placed = [
                replace(turn, session=place.session, ordinal=place.next_ordinal + number)
                for number, turn in enumerate(turns)
            ]
            recent = (*place.recent, *placed)[-CONTEXT:]
            after = _Place(place.session, place.next_ordinal + len(placed), placed[-1].at, recent)
            self._places[scope] = after
            self._places.move_to_end(scope)
            while len(self._places) > MAX_PLACES:
                self._places.popitem(last=False)
            return placed, place.recent

    def forget(self) -> None:
        """Let go of every remembered turn; places are read from the store again."""
        with self._lock:
            self._places.clear()

    def _current(self, scope: Scope, at: datetime) -> _Place:
        place = self._places.get(scope) or self._stored(scope)
        if place is not None and (scope.run is not None or timedelta(0) <= at - place.last <= PAUSE):
            return place
        return _Place(scope.run or new_id(), 0, at, ())

    def _stored(self, scope: Scope) -> _Place | None:
        """Where an earlier process left off in exactly this scope."""
        page = self._store.query(scope, {"semantic_type": "turn"}, closed=True, limit=CONTEXT)
        found = [cube for cube in page.cubes if cube.header.scope == scope and cube.header.utterance]
        newest = {cube.id: cube for cube in reversed(found)}  # a turn may have several versions
        turns = list(reversed(newest.values()))
        if not turns:
            return None
        last = _as_turn(turns[0])
        recent = tuple(_as_turn(cube) for cube in reversed(turns) if _session(cube) == last.session)
        ordinal = max(turn.ordinal for turn in recent)
        return _Place(last.session, ordinal + 1, last.at, recent)


def _session(cube: MemCube) -> str:
    assert cube.header.utterance is not None
    return cube.header.utterance.session


def _as_turn(cube: MemCube) -> Turn:
    said = cube.header.utterance
    assert said is not None
    return Turn(cube.text, said.speaker, said.role, cube.header.recorded, said.session, said.ordinal)
