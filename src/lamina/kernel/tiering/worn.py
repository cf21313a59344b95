"""Worn: the adapters that stand ready in this process, and which of them may answer for which memories.

MemOS, arXiv 2507.03724, section 5.1 (parameter memory in use). An adapter knows all it was taught at once and cannot
leave a part out. So it answers for some of its memories only while *every* one of them is what it was: one fact that
was superseded, expired or was withdrawn from weights, and the adapter is refused at the next call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lamina.cube.cube import MemCube
from lamina.kernel.lifecycle import Read
from lamina.kernel.migration import Migrator
from lamina.kernel.tiering.residents import bundle_name, is_current


@dataclass(frozen=True, slots=True)
class Worn:
    """An adapter in use: the memory it is stored as, its name in ``Migrator.adapters``, what it was made from."""

    id: str
    name: str
    parents: Mapping[str, int]


class WornAdapters:
    """Adapters by the bundle name of their scope. Not thread-safe: ``Tiers`` holds its lock."""

    def __init__(self, migrator: Migrator, *, read: Read) -> None:
        """``read`` is ``Store.get``."""
        self._migrator = migrator
        self._read = read
        self._served: dict[str, list[Worn]] = {}

    def put_on(self, cube: MemCube) -> Worn:
        """Serve a stored adapter. Raises ``FingerprintMismatch``, or ``StaleForm`` if what it knows changed."""
        worn = Worn(cube.id, self._migrator.adapter(cube.id), dict(cube.header.lineage.derived_from))
        served = self._served.setdefault(bundle_name(cube.header.scope), [])
        served[:] = [*(one for one in served if one.id != cube.id), worn]
        return worn

    def fitting(self, name: str, ids: Iterable[str], now: float) -> Worn | None:
        """One that knows all of ``ids`` and is whole at ``now`` (seconds since 1970)."""
        asked = set(ids)
        known = (one for one in self._served.get(name, ()) if asked <= one.parents.keys())
        return next((one for one in known if self.whole(one, now)), None)

    def whole(self, one: Worn, now: float) -> bool:
        """Whether all it was made from may still be served so."""
        known = one.parents.items()
        return all(is_current(version, self._read(id), now, "parameter", read=self._read) for id, version in known)

    def all(self) -> list[Worn]:
        """Every adapter in use."""
        return [one for served in self._served.values() for one in served]

    def take_off(self, ids: Sequence[str]) -> list[Worn]:
        """Serve no adapter that is one of ``ids`` or was made of one; those that went."""
        asked = set(ids)
        gone = [one for one in self.all() if one.id in asked or asked & one.parents.keys()]
        for name, served in self._served.items():
            self._served[name] = [one for one in served if one not in gone]
        for one in gone:
            if one.name in self._migrator.adapters.names:
                self._migrator.adapters.remove(one.name)
        return gone
