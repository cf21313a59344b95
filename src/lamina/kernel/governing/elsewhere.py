"""Forgotten elsewhere: what other processes, or other doors of this one, have erased from the store meanwhile.

Who forgets tells the caches of its own process (``kernel.forgetting``); nobody can reach into another's memory. But the
log of the store names every id that went, so each process reads on from where it stopped whenever it is called, and
lets go of the same. When nothing was written that costs one number.
"""

from __future__ import annotations

import threading

from lamina.kernel.governing.audit import head
from lamina.kernel.migration import ACTOR
from lamina.store.base import Store


class Elsewhere:
    """Follows the forgetting of ``store`` from now on. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._change = store.last_change()
        self._row = head(store).seq

    def news(self) -> list[str]:
        """Ids that were forgotten since the last call, by whomever; not those that the kernel replaced by newer copies
        of what is still there."""
        with self._lock:
            change = self._store.last_change()
            if change == self._change:
                return []
            gone = []
            for event in self._store.events(since=self._row):
                self._row = event.seq
                if event.action == "forget" and event.actor != ACTOR:
                    gone.append(event.cube)
            self._change = change
            return gone
