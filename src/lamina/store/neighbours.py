"""Who spoke before and after: the chain of open turns of each session, kept in order of their ordinals.

``array`` is int32 ``(rows, 4)``: the rows at -2, -1, +1, +2 in the same session of the same scope, -1 for
none. Turns may arrive in any order, be revised (the new version takes the place) or closed (the gap closes).
Rows that are no open turns have no neighbours, and are nobody's: each row is the neighbour at a given
distance of one other row at most.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamina.store.growing import Growing

DISTANCES = (-2, -1, 1, 2)
_REACH = 2


class Neighbours:
    def __init__(self) -> None:
        self._links = Growing(np.int32, row=(len(DISTANCES),))
        self._sessions: dict[int, list[tuple[int, int]]] = {}  # (ordinal, row), those touched so far
        self._linked = Growing(np.bool_)
        self._complete = True  # every session with linked rows is in ``_sessions``

    def __len__(self) -> int:
        return len(self._links)

    @property
    def array(self) -> NDArray[Any]:
        return self._links.array

    def extend(self, count: int) -> None:
        """``count`` new rows, without neighbours yet."""
        self._links.extend(np.full((count, len(DISTANCES)), -1))
        self._linked.extend(np.zeros(count, bool))

    def change(
        self, add: Sequence[int], remove: Sequence[int], session: NDArray[Any], ordinal: NDArray[Any]
    ) -> NDArray[np.int64]:
        """Link rows in and out; the rows whose neighbours changed. ``session``/``ordinal`` are the table's columns."""
        first: dict[int, int] = {}  # session -> first place that changed
        for rows, linked in ((remove, False), (add, True)):
            for row in rows:
                if bool(self._linked.array[row]) == linked:
                    continue
                number = int(session[row])
                chain = self._chain(number, session, ordinal)
                entry = (int(ordinal[row]), int(row))
                place = bisect_left(chain, entry)
                if linked:
                    insort(chain, entry)
                else:
                    del chain[place]
                    self.array[row] = -1
                self._linked.array[row] = linked
                first[number] = min(first.get(number, place), place)
        changed = [np.asarray(remove, np.int64)]
        changed += [self._relink(self._sessions[number], place) for number, place in first.items()]
        return np.unique(np.concatenate(changed))

    def _chain(self, number: int, session: NDArray[Any], ordinal: NDArray[Any]) -> list[tuple[int, int]]:
        if number not in self._sessions:
            rows = [] if self._complete else np.flatnonzero((session == number) & self._linked.array).tolist()
            self._sessions[number] = sorted((int(ordinal[row]), row) for row in rows)
        return self._sessions[number]

    def _relink(self, chain: list[tuple[int, int]], place: int) -> NDArray[np.int64]:
        """Write the neighbours of all from two before ``place`` to the end."""
        start = max(0, place - _REACH)
        left = max(0, start - _REACH)
        rows = np.asarray([row for _, row in chain[left:]], np.int64)
        padded = np.concatenate([np.full(_REACH, -1), rows, np.full(_REACH, -1)])
        for column, distance in enumerate(DISTANCES):
            shifted = padded[_REACH + distance : _REACH + distance + len(rows)]
            self.array[rows[start - left :], column] = shifted[start - left :]
        return rows[start - left :]

    # -- snapshots -------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        np.save(folder / "neighbours.npy", self._links.array, allow_pickle=False)
        np.save(folder / "linked.npy", self._linked.array, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Neighbours:
        """What ``save`` wrote. Raises ``OSError`` or ``ValueError``."""
        neighbours = cls()
        neighbours._complete = False
        neighbours._links = Growing.over(np.load(folder / "neighbours.npy", mmap_mode="c", allow_pickle=False))
        neighbours._linked = Growing.over(np.load(folder / "linked.npy", mmap_mode="c", allow_pickle=False))
        return neighbours
