"""The fold from what happened to what a policy is told: uses, new versions, moves, and reasons not to serve a form.

The same events in the same order give the same ``Stats``. Only memories that are warm or cached are handed to the
policy, so that a tick costs what moved, not what is stored. Unusual: a memory that is no longer valid in its
cached form stays listed with its reason until the policy has moved it, so that nothing is dropped silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lamina.errors import Conflict, NotFound
from lamina.kernel.tiering.decisions import CubeStats, Reason, Stats, Tier
from lamina.kernel.tiering.heat import Heat

_LUKEWARM = 0.05  # uses: below, a memory in text alone is not worth a policy's time


class UsageLedger:
    """Usage of memories on one clock. Not safe to share between threads without a lock."""

    def __init__(self, half_life: int) -> None:
        self._cold = Heat(half_life)
        self._cubes: dict[str, CubeStats] = {}
        self._watched: dict[str, None] = {}  # a set in order of insertion: iteration must not depend on hashes
        self._calls: dict[str, Heat] = {}
        self._last_call: tuple[str, ...] = ()
        self._last_session: dict[str, str] = {}
        self._forecast: Mapping[str, float] | None = None

    def __getitem__(self, id: str) -> CubeStats:
        try:
            return self._cubes[id]
        except KeyError:
            raise NotFound(f"id={id[:60]!r} was never added to this ledger, or was forgotten; add it first") from None

    def __contains__(self, id: str) -> bool:
        return id in self._cubes

    @property
    def cubes(self) -> Mapping[str, CubeStats]:
        return self._cubes

    def add(self, cube: CubeStats) -> None:
        """A memory, as it stands. Raises ``Conflict`` if the id is known."""
        if cube.id in self._cubes:
            raise Conflict(f"id={cube.id!r} is in the ledger already; tell it of a new version with revised()")
        self._put(cube)

    def called(
        self, now: int, bundle: str, used: Sequence[str], retrieved: Sequence[str] = (), session: str = ""
    ) -> None:
        """A model call that was given ``used`` (the best first), of memories found also ``retrieved`` but left out."""
        self._calls[bundle] = self._calls.get(bundle, self._cold).touched(now)
        for id in used:
            cube = self[id]
            fresh = bool(session) and self._last_session.get(id) != session
            self._last_session[id] = session
            self._put(
                replace(
                    cube,
                    heat=cube.heat.touched(now),
                    last=now,
                    uses=cube.uses + 1,
                    uses_this_version=cube.uses_this_version + 1,
                    sessions=cube.sessions + fresh,
                )
            )
        for id in retrieved:
            self._put(replace(self[id], heat=self[id].heat.touched(now, 0.25)))
        self._last_call = tuple(used)

    def revised(self, now: int, id: str, tokens: int, nbytes: int) -> None:
        """A new version. What was made from the old one may not be used any more; its heat stays."""
        cube = self[id]
        self._put(
            replace(
                cube,
                tokens=tokens,
                nbytes=nbytes,
                version=cube.version + 1,
                version_since=now,
                uses_this_version=0,
                invalid=None if cube.tier is Tier.TEXT else cube.invalid or Reason.STALE_PARENT,
            )
        )

    def described(self, cube: CubeStats) -> None:
        """What the newest version of a memory is and may become; its use and its place stay."""
        known = self[cube.id]
        self._put(
            replace(
                known,
                version=cube.version,
                content=cube.content,
                semantic_type=cube.semantic_type,
                allowed=cube.allowed,
                usable=cube.usable,
                sensitive=cube.sensitive,
            )
        )

    def invalidated(self, id: str, reason: Reason) -> None:
        """The cached or trained form may no longer be used. ``FORGET`` also ends the memory here once it is moved."""
        cube = self[id]
        if cube.tier is not Tier.TEXT:
            self._put(replace(cube, invalid=reason))
        if reason is Reason.FORGET:
            self._put(replace(self[id], usable=False, pinned=False))
            if cube.tier is Tier.TEXT:
                self._drop(id)

    def pinned(self, id: str, pinned: bool = True) -> None:
        """Hold it in activations from the next tick on, or no longer."""
        self._put(replace(self[id], pinned=pinned))

    def predicted(self, shares: Mapping[str, float] | None) -> None:
        """What the conversation makes likely next, in place of the last forecast. Unknown ids are passed over."""
        self._forecast = None if shares is None else {id: shares[id] for id in shares if id in self._cubes}
        self._watched |= dict.fromkeys(self._forecast or ())

    def moved(self, now: int, id: str, tier: Tier, place: int | None = None) -> None:
        """The form it has now, and its place if it is cached in a bundle. A move settles what was invalid."""
        cube = self[id]
        forgotten = cube.invalid is Reason.FORGET
        if tier is not cube.tier:
            cube = replace(cube, resident_since=now, invalid=None)
        self._put(replace(cube, tier=tier, place=place))
        if tier is Tier.TEXT and forgotten:
            self._drop(id)

    def stats(self, now: int) -> Stats:
        """What a policy decides on."""
        for id in [id for id in self._watched if self._is_cold(self._cubes[id], now)]:
            del self._watched[id]
        return Stats(tuple(self._cubes[id] for id in self._watched), dict(self._calls), self._last_call, self._forecast)

    def heat(self) -> Heat:
        """The heat of a memory that was never used."""
        return self._cold

    def _is_cold(self, cube: CubeStats, now: int) -> bool:
        lukewarm = cube.pinned or cube.id in (self._forecast or ()) or cube.heat.at(now) >= _LUKEWARM
        return cube.tier is Tier.TEXT and not lukewarm

    def _put(self, cube: CubeStats) -> None:
        self._cubes[cube.id] = cube
        self._watched[cube.id] = None

    def _drop(self, id: str) -> None:
        for index in (self._cubes, self._watched, self._last_session):
            index.pop(id, None)
        self._last_call = tuple(one for one in self._last_call if one != id)
        if self._forecast is not None:
            self._forecast = {one: share for one, share in self._forecast.items() if one != id}
