"""Erasing: forgetting for one principal, with all that this process and this store keep: caches, indexes, copies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lamina.kernel.forgetting import Cache, Forgetting, Receipt
from lamina.kernel.governance import Principal, granted
from lamina.kernel.governing import exports
from lamina.memory import Memory


class Erasing:
    """``kernel.forgetting`` over ``memory``. ``caches`` gives what the process holds when it is asked."""

    def __init__(self, memory: Memory, principal: Principal, caches: Callable[[], Sequence[Cache]]) -> None:
        self._memory, self._principal, self._caches = memory, principal, caches

    def resume(self) -> None:
        """Finish what a crash interrupted."""
        self._forgetting(()).resume()

    def erase(self, ids: list[str], actor: str, reason: str, *, legal_override: bool = False) -> Receipt:
        """Erase memories everywhere, also the turns they were taken from where the principal may erase those, and mend
        what rests on them. Whether it may happen at all is governance's question, and was asked."""
        store = self._memory.store
        cubes = [cube for id in ids if (cube := store.get(id)) is not None]
        mine = partial(granted, self._principal, "forget")
        forgetting = self._forgetting(self._caches())
        receipt = forgetting.forget(ids, actor=actor, reason=reason, legal_override=legal_override, erasable=mine)
        for cube in cubes:
            self._memory.mend(cube)
        return receipt

    def _forgetting(self, caches: Sequence[Cache]) -> Forgetting:
        memory, place = self._memory, notes_of(self._memory)
        return Forgetting(
            memory.store,
            embedder=memory.embedder,
            indexes=memory.indexes,
            caches=caches,
            exports=exports.beside(place),
            notes=self._notes(place),
        )

    def _notes(self, place: Path) -> Path:
        """Of a server whose tenants are kept apart each has its own: one cannot see, so not finish, another's."""
        if place == getattr(self._memory.store, "path", None):
            return place
        tenant = hashlib.sha256(self._memory.settings.tenant.encode()).hexdigest()[:16]
        return place.with_name(f"{place.name}-{tenant}")


def notes_of(memory: Memory) -> Path:
    """Beside what unfinished forgetting and copies are noted: the store's file or, for a server, one named after its
    address in the data folder of this machine."""
    path: Path | None = getattr(memory.store, "path", None)
    if path is not None:
        return path
    home = memory.settings.home
    home.mkdir(parents=True, exist_ok=True)
    return home / f"server-{hashlib.sha256(str(memory.settings.database_path).encode()).hexdigest()[:16]}"
