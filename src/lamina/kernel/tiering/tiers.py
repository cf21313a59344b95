"""Tiers: carries out what the policy decides, keeps account of use, and can say why a memory is where it is.

MemOS, arXiv 2507.03724, section 5.1. The policy (``kernel.scheduling``) is told of usage and answers with moves; here
they happen: a memory joins or leaves the bundle of its scope, a group of memories becomes an adapter. Every decision
is a row of the store's log, so that ``explain`` answers in any process, long after.

What is stale is never served, twice over: ``tick`` tells the policy, which demotes at once; and a form compares the
versions it was made from with the store's whenever it is about to be used (``Residents.valid``, ``WornAdapters``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from lamina.activation.prefix import Bundle, Member
from lamina.cube.cube import MemCube, Scope
from lamina.cube.cube import now as utc_now
from lamina.errors import BudgetError, InvalidInput, LaminaError, NotFound
from lamina.kernel.migration import ACTOR, Migration, Migrator
from lamina.kernel.tiering import explaining, saved
from lamina.kernel.tiering.account import Account
from lamina.kernel.tiering.decisions import DAY, Budgets, Decision, Policy, Reason, Tier, decision
from lamina.kernel.tiering.explaining import Explanation
from lamina.kernel.tiering.residents import Residents, bundle_name, is_current, shared_scope
from lamina.kernel.tiering.worn import Worn, WornAdapters
from lamina.llm.causal import CausalLM
from lamina.store.base import Store

_CONTEXT_SHARE = 4  # a bundle takes at most this part of the context window
_SECOND = 10**9

logger = logging.getLogger("lamina.kernel")


class Tiers:
    """The forms of the memories of one store for one model. Thread-safe. ``clock`` gives nanoseconds since 1970."""

    name = "tiers"

    def __init__(
        self, store: Store, lm: CausalLM, migrator: Migrator, *, budget: int, policy: Policy, clock: Callable[[], int]
    ) -> None:
        self.store, self.lm, self.migrator, self.policy = store, lm, migrator, policy
        self.residents = Residents(lm, budget, read=store.get)
        self._worn = WornAdapters(migrator, read=store.get)
        self._clock = clock
        self._account = Account(lm)
        self._ledger = self._account.ledger
        self._retry: dict[str, tuple[int, int]] = {}  # bundle -> no lesson before, and how long it waited
        self._restored: set[Scope] = set()
        self._lock = threading.RLock()

    # -- what chat asks --------------------------------------------------------------------------

    def bundle(self, scope: Scope) -> Bundle | None:
        """What stands ready for a scope, if all of it is current; else ``None``, and what is not is taken out. ``None``
        within a run, too: see ``shared_scope``."""
        if scope.run is not None:
            return None
        self._restore(scope)
        name = bundle_name(scope)
        found, stale = self.residents.valid(name, self._clock() / _SECOND)
        if stale:
            self._drop(name, stale)
            found, _ = self.residents.valid(name, self._clock() / _SECOND)
        return found

    def adapter(self, scope: Scope, ids: Sequence[str]) -> Worn | None:
        """An adapter of this scope that knows all of ``ids`` as they are now."""
        if scope.run is not None:
            return None
        self._restore(scope)
        with self._lock:
            return self._worn.fitting(bundle_name(scope), ids, self._clock() / _SECOND)

    def save(self, scope: Scope) -> MemCube | None:
        """Keep the bundle of a scope in the store, for the next process; the memory it became."""
        scope = shared_scope(scope)
        with self._lock:
            bundle = self.bundle(scope)
            pinned = [id for id, stats in self._ledger.cubes.items() if stats.pinned]
            return saved.save(self.store, scope, bundle, pinned)

    def called(self, scope: Scope, used: Sequence[MemCube], found: Sequence[MemCube], session: str = "") -> None:
        """A model call used ``used``; ``found`` were retrieved as well. ``session``: by default, the day."""
        now, name = self._clock(), bundle_name(scope)
        with self._lock:
            self._account.called(now, name, used, found, session or f"day {now // DAY}")

    # -- moves -----------------------------------------------------------------------------------

    def tick(self) -> list[Decision]:
        """Look at what changed, ask the policy, and do it: the moves that were made, and those into adapters, which
        are left to ``consolidate``."""
        now = self._clock()
        with self._lock:
            self._sweep(now)
            budgets = Budgets(self.residents.room, context_tokens=self.lm.limit // _CONTEXT_SHARE)
            decided = self.policy.decide(self._account.forecast(now), budgets, now)
            moves: dict[str, list[Decision]] = {}
            for one in decided:
                if one.target is not Tier.PARAMETER:
                    moves.setdefault(one.bundle, []).append(one)
            growing = {name for name in moves if any(one.target is Tier.ACTIVATION for one in moves[name])}
            done = [
                one
                for name in sorted(moves, key=growing.__contains__)
                for one in self._carry_out(name, moves[name], now)
            ]  # those that only lose members first: they make room
            return done + [one for one in decided if one.target is Tier.PARAMETER]

    def consolidate(self, decisions: Sequence[Decision], *, seed: int = 0) -> list[Migration]:
        """Teach adapters what ``tick`` decided should become parameters, one group for each scope. What was refused is
        tried again after a day, then two, and so on."""
        made = []
        for name in dict.fromkeys(one.bundle for one in decisions if one.target is Tier.PARAMETER):
            until, waited = self._retry.get(name, (0, DAY // 2))
            if self._clock() < until:
                continue
            ids = [one.cube for one in decisions if one.bundle == name and one.target is Tier.PARAMETER]
            made.append(self.learn(ids, seed=seed))
            if made[-1].cube is None:
                self._retry[name] = self._clock() + 2 * waited, 2 * waited
        return made

    def promote(self, ids: Sequence[str], to: Tier) -> Migration | None:
        """Move memories up by hand: into the bundle of their scope (and hold them there), or into an adapter. Raises
        ``BudgetError`` and ``InvalidInput``, and moves nothing of that scope then."""
        if to is Tier.PARAMETER:
            return self.learn(ids)
        if to is not Tier.ACTIVATION:
            raise InvalidInput(f"to={to!r}: promote to activation or parameter; demote() goes to text")
        now = self._clock()
        with self._lock:
            moves: dict[str, list[Decision]] = {}
            for cube in self._open(ids):
                if not is_current(cube.header.version, cube, now / _SECOND):
                    raise InvalidInput(
                        f"memory {cube.id} is {cube.header.state}, expires {cube.header.expires}, may take the forms"
                        f" {list(cube.header.access)}: it cannot be served from a cache"
                    )
                if (stats := self._account.know(cube, now)).tier is not Tier.ACTIVATION:
                    moves.setdefault(stats.bundle, []).append(decision(stats, Tier.ACTIVATION, Reason.PIN, now))
            for name, wanted in moves.items():
                self._carry_out(name, wanted, now, strict=True)
            for id in ids:
                self._ledger.pinned(id)
        return None

    def learn(self, ids: Sequence[str], *, seed: int = 0) -> Migration:
        """One adapter of these memories, worn from now on where it suffices; or a refusal with its reason."""
        migration = self.migrator.to_parameter(ids, seed=seed)
        if migration.cube is not None:
            now, name = self._clock(), bundle_name(migration.cube.header.scope)
            with self._lock:
                texts = self._texts(id for id, _ in migration.parents)
                self._drop(name, [cube.id for cube in texts])
                self.wear(migration.cube)
                for cube in texts:
                    self._account.know(cube, now)
                    self._ledger.moved(now, cube.id, Tier.PARAMETER)
        return migration

    def wear(self, cube: MemCube) -> Worn:
        """Serve a stored adapter. Raises ``FingerprintMismatch``, or ``InvalidInput`` (``STALE``)."""
        with self._lock:
            return self._worn.put_on(cube)

    def demote(self, ids: Sequence[str]) -> None:
        """Back to text, by hand; nothing is lost. Adapters that hold one of them are ended."""
        now = self._clock()
        with self._lock:
            for cube in self._open(ids):
                self._restore(shared_scope(cube.header.scope))
                self._account.know(cube, now)
                self._ledger.pinned(cube.id, False)
                stats = self._ledger[cube.id]
                if stats.tier is not Tier.TEXT:
                    self._carry_out(stats.bundle, [decision(stats, Tier.TEXT, Reason.PIN, now)], now)
            off = self._take_off(ids, now)
            with self.store.transaction() as tx:
                for worn in off:
                    tx.close(worn.id, at=utc_now(), actor=ACTOR, reason="a memory in it was demoted by hand")

    def explain(self, id: str, *, last: int = 10) -> Explanation:
        """Why a memory is where it is. Raises ``NotFound``."""
        cube = self.store.get(id)
        if cube is None:
            raise NotFound(f"there is no memory {id!r}")
        now = self._clock()
        with self._lock:
            self._restore(shared_scope(cube.header.scope))
            calls = self._account.calls(bundle_name(cube.header.scope), now)
            return explaining.explain(self.store, id, self._ledger.cubes.get(id), calls, now, last=last)

    # -- forgetting (the ``Cache`` of ``kernel.forgetting``) ---------------------------------------

    def forget(self, ids: Sequence[str]) -> None:
        """Nothing of these memories stays in a bundle, an adapter in memory, or the account of use."""
        now = self._clock()
        with self._lock:
            self.residents.forget(ids)
            self._take_off(ids, now)
            for id in ids:
                self._account.forget(id, now)
            self._settle(now)

    def holding(self, ids: Sequence[str]) -> list[str]:
        """Which of ``ids`` something here was made of."""
        resident = {member.id for members in self.residents.all().values() for member in members}
        with self._lock:
            worn = {id for one in self._worn.all() for id in (one.id, *one.parents)}
            return [id for id in ids if id in resident or id in worn or id in self._ledger]

    # -- inside ----------------------------------------------------------------------------------

    def _restore(self, scope: Scope) -> None:
        """Once a scope: take up the bundle and the adapters that an earlier process kept."""
        with self._lock:
            if scope in self._restored:
                return
            self._restored.add(scope)
            now = self._clock()
            for cube in saved.adapters(self.store, scope):
                try:
                    worn = self.wear(cube)
                except LaminaError as error:
                    logger.warning("the adapter %s is not used: %s", cube.id, error)
                    continue
                for text in self._texts(worn.parents):
                    self._account.know(text, now)
                    self._ledger.moved(now, text.id, Tier.PARAMETER)
            found = saved.load(self.store, self.lm, scope)
            if found is not None and self.residents.adopt(bundle_name(scope), found[0]):
                for text in self._texts(member.id for member in found[0].members):
                    self._account.know(text, now)
                    self._ledger.pinned(text.id, text.id in found[1])
                self._settle(now)

    def _sweep(self, now: int) -> None:
        """Tell the ledger which cached or worn memories may not be served any more, and why."""
        at = now / _SECOND
        for members in self.residents.all().values():
            for member in members:
                cube = self.store.get(member.id)
                if member.id in self._ledger and not is_current(member.version, cube, at):
                    self._ledger.invalidated(member.id, _why(cube, now))
        for one in self._worn.all():
            if not self._worn.whole(one, at):
                for id in one.parents:
                    if id in self._ledger and self._ledger[id].tier is Tier.PARAMETER:
                        self._ledger.invalidated(id, _why(self.store.get(id), now, "parameter"))

    def _carry_out(self, name: str, decisions: Sequence[Decision], now: int, *, strict: bool = False) -> list[Decision]:
        """The moves of one bundle at one reading; those that were made. What there is no room for, the least wanted
        first, and what changed since it was decided, does not come; with ``strict``, ``BudgetError`` is raised."""
        here = {member.id for member in self.residents.members(name)}
        drop = [one.cube for one in decisions if one.source is Tier.ACTIVATION and one.cube in here]
        coming = []
        for one in decisions:
            cube = self.store.get(one.cube) if one.target is Tier.ACTIVATION and one.cube not in here else None
            if cube is not None and is_current(cube.header.version, cube, now / _SECOND):
                coming.append((one, _member(cube)))
        while True:
            try:
                self.residents.revise(name, drop=drop, add=[member for _, member in coming])
                break
            except BudgetError:
                if strict or not coming:
                    raise
                coming.pop()
        came = {one.cube for one, _ in coming}
        done = [one for one in decisions if one.target is not Tier.ACTIVATION or one.cube in came]
        self._log(done)
        for one in done:
            self._ledger.moved(now, one.cube, one.target)
        self._settle(now)
        return done

    def _drop(self, name: str, ids: Sequence[str]) -> None:
        """Take members out at once, without asking the policy."""
        now = self._clock()
        with self._lock:
            here = {member.id for member in self.residents.members(name)}
            gone = [self._ledger[id] for id in ids if id in here and id in self._ledger]
            why = {one.id: _why(self.store.get(one.id), now) for one in gone}
            self.residents.revise(name, drop=[id for id in ids if id in here])
            self._log([decision(one, Tier.TEXT, why[one.id], now) for one in gone])
            self._settle(now)

    def _settle(self, now: int) -> None:
        """The ledger's tiers and places, as the bundles and adapters are; a memory that is in none is text, and an
        adapter none of whose memories is used as weights any more is taken off."""
        placed = {member.id: place for members in self.residents.all().values() for place, member in enumerate(members)}
        for id, stats in list(self._ledger.cubes.items()):
            if id in placed:
                self._ledger.moved(now, id, Tier.ACTIVATION, placed[id])
            elif stats.tier is Tier.ACTIVATION:
                self._ledger.moved(now, id, Tier.TEXT)
        known = self._ledger.cubes
        idle = [
            one.id
            for one in self._worn.all()
            if not any(id in known and known[id].tier is Tier.PARAMETER for id in one.parents)
        ]
        if idle:
            self._worn.take_off(idle)

    def _take_off(self, ids: Sequence[str], now: int) -> list[Worn]:
        """Serve no adapter that is one of ``ids`` or was made of one; what they knew is text again."""
        off = self._worn.take_off(ids)
        for id in {id for one in off for id in one.parents}:
            if id in self._ledger and self._ledger[id].tier is Tier.PARAMETER:
                self._ledger.moved(now, id, Tier.TEXT)
        return off

    def _log(self, decisions: Sequence[Decision]) -> None:
        with self.store.transaction() as tx:
            for one in decisions:
                if tx.newest(one.cube) is not None:
                    action = "demote" if one.target is Tier.TEXT else "promote"
                    details = {"sentence": one.sentence().partition(" ")[2], "heat": round(one.heat, 4)}
                    tx.note(one.cube, action=action, actor=ACTOR, reason=str(one.reason), details=details)

    def _texts(self, ids: Iterable[str]) -> list[MemCube]:
        return [cube for id in ids if (cube := self.store.get(id)) is not None]

    def _open(self, ids: Sequence[str]) -> list[MemCube]:
        cubes = self._texts(ids)
        if len(cubes) < len(ids) or any(one.header.superseded or one.header.kind != "text" for one in cubes):
            raise NotFound(f"ids={list(ids)[:3]!r}: not all of them are open memories of text")
        return cubes


def _member(cube: MemCube) -> Member:
    return Member(cube.id, cube.header.version, cube.text, cube.header.recorded.timestamp())


def _why(cube: MemCube | None, now: int, form: str = "activation") -> Reason:
    if cube is None:
        return Reason.FORGET
    expires = cube.header.expires
    if expires is not None and expires.timestamp() * _SECOND <= now:
        return Reason.TTL
    return Reason.ACL if form not in cube.header.access else Reason.STALE_PARENT
