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
from lamina.kernel.rhythms.upkeep_log import UpkeepLog
from lamina.kernel.tiering import explaining, pins, saved, settling
from lamina.kernel.tiering.account import Account
from lamina.kernel.tiering.decisions import DAY, MANDATORY, Budgets, Decision, Policy, Reason, Tier, decision
from lamina.kernel.tiering.explaining import Explanation
from lamina.kernel.tiering.residents import Residents, bundle_name, is_current, refused, shared_scope
from lamina.kernel.tiering.worn import Worn, WornAdapters
from lamina.llm.causal import CausalLM
from lamina.parameter.distillation import Progress
from lamina.store.base import Store

_CONTEXT_SHARE = 4  # a bundle takes at most this part of the context window
_SECOND = 10**9

logger = logging.getLogger("lamina.kernel")


class Tiers:
    """The forms of the memories of one store for one model. Thread-safe. ``clock`` gives nanoseconds since 1970."""

    name = "tiers"

    def __init__(
        self,
        store: Store,
        lm: CausalLM,
        migrator: Migrator,
        *,
        budget: int,
        policy: Policy,
        clock: Callable[[], int],
        uses: UpkeepLog | None = None,
    ) -> None:
        self.store, self.lm, self.migrator, self.policy = store, lm, migrator, policy
        self.residents = Residents(lm, budget, read=store.get)
        self._worn = WornAdapters(migrator, read=store.get)
        self._clock = clock
        self._account = Account(lm, uses)
        self._ledger = self._account.ledger
        self._retry: dict[str, tuple[int, int]] = {}  # bundle -> no lesson before, and how long it waited
        self._restored: set[Scope] = set()
        self._window = lm.limit // _CONTEXT_SHARE  # tokens
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
            return saved.save(self.store, scope, self.bundle(scope))

    def called(self, scope: Scope, used: Sequence[MemCube], found: Sequence[MemCube], session: str = "") -> None:
        """A model call used ``used``; ``found`` were retrieved as well. ``session``: by default, the day."""
        now, name = self._clock(), bundle_name(scope)
        with self._lock:  # so that what is forgotten meanwhile is either not entered, or taken out again
            used, found = (list(filter(self._there, cubes)) for cubes in (used, found))
            self._account.called(now, name, used, found, session or f"day {now // DAY}")

    # -- moves -----------------------------------------------------------------------------------

    def tick(self, permits: Callable[[str], bool] = lambda _: True) -> list[Decision]:
        """Look at what changed, ask the policy, and do it: the moves that were made, and those into adapters, which
        are left to ``consolidate``. ``permits`` says of an id whether it may be moved for use; what is stale or
        forbidden goes whoever asks."""
        now = self._clock()
        with self._lock:
            settling.sweep(self._ledger, self.residents, self._worn, now, read=self.store.get)
            budgets = Budgets(self.residents.room, context_tokens=self._window)
            decided = self.policy.decide(self._account.forecast(now), budgets, now)
            decided = [one for one in decided if one.reason in MANDATORY or permits(one.cube)]
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
            return done + [one for one in decided if one.target is Tier.PARAMETER and self._teachable(one, now)]

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

    def promote(self, ids: Sequence[str], to: Tier, *, progress: Progress | None = None) -> Migration | None:
        """Move memories up by hand: into the bundle of their scope (and hold them there), or into an adapter. Raises
        ``BudgetError`` and ``InvalidInput``, and moves nothing of that scope then. What ``progress`` raises ends a
        lesson, and leaves nothing of it."""
        ids = list(dict.fromkeys(ids))
        if to is Tier.PARAMETER:
            return self.learn(ids, progress=progress)
        if to is not Tier.ACTIVATION:
            raise InvalidInput(f"to={to!r}: promote to activation or parameter; demote() goes to text")
        now = self._clock()
        with self._lock:
            cubes = self._open(ids)
            scopes = dict.fromkeys(shared_scope(cube.header.scope) for cube in cubes)
            for scope in scopes:
                self._restore(scope)
            for cube in cubes:
                if why := refused(cube.header, "activation", now / _SECOND):
                    raise InvalidInput(f"memory {cube.id} cannot be served from a cache: {why}")
                self._account.know(cube, now)
            for scope in scopes:
                mine = [cube.id for cube in cubes if shared_scope(cube.header.scope) == scope]
                self._hold(scope, mine, now)
        return None

    def learn(self, ids: Sequence[str], *, seed: int = 0, progress: Progress | None = None) -> Migration:
        """One adapter of these memories, worn from now on where it suffices; or a refusal with its reason."""
        migration = self.migrator.to_parameter(ids, seed=seed, progress=progress)
        if migration.cube is not None:
            now, name = self._clock(), bundle_name(migration.cube.header.scope)
            with self._lock:
                self._restore(shared_scope(migration.cube.header.scope))
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
            adapters: dict[str, None] = {}
            for cube in self._open(ids):
                scope = shared_scope(cube.header.scope)
                self._restore(scope)
                stats = self._account.know(cube, now)
                if stats.pinned:
                    pins.note(self.store, scope, [cube.id], pinned=False)
                    self._ledger.pinned(cube.id, False)
                if stats.tier is not Tier.TEXT:
                    self._carry_out(stats.bundle, [decision(stats, Tier.TEXT, Reason.PIN, now)], now)
                taught = saved.adapters(self.store, scope)  # those of other models as well
                adapters |= {one.id: None for one in taught if cube.id in dict(one.header.lineage.derived_from)}
            self._take_off(ids, now)
            with self.store.transaction() as tx:
                for id in adapters:
                    tx.close(id, at=utc_now(), actor=ACTOR, reason="a memory in it was demoted by hand")

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
            settling.settle(self._ledger, self.residents, self._worn, now)

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
            self._account.restore(bundle_name(scope))
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
            for text in pins.held(self.store, scope):
                self._account.know(text, now)
                self._ledger.pinned(text.id)
            name, found = bundle_name(scope), saved.load(self.store, self.lm, scope)
            if found is not None and self.residents.adopt(name, found):
                for text in self._texts(member.id for member in found.members):
                    self._account.know(text, now)
                settling.settle(self._ledger, self.residents, self._worn, now)
                if changed := self.residents.valid(name, now / _SECOND)[1]:
                    self._drop(name, changed)

    def _hold(self, scope: Scope, ids: Sequence[str], now: int) -> None:
        """Take memories of one scope into its bundle, pinned; and, while there is room, those that are pinned already
        and lost their place when another one changed."""
        name = bundle_name(scope)
        coming = [stats for id in ids if (stats := self._ledger[id]).tier is not Tier.ACTIVATION]
        tokens = sum(one.tokens for one in coming) + sum(
            self._ledger[member.id].tokens for member in self.residents.members(name) if member.id in self._ledger
        )
        if coming and tokens > self._window:
            raise BudgetError(
                f"the cache of {name!r} would take {tokens} tokens; it may fill {self._window} of the {self.lm.limit} "
                f"that {self.lm.name} reads (one part in {_CONTEXT_SHARE}): promote fewer, or demote some"
            )
        self._carry_out(name, [decision(one, Tier.ACTIVATION, Reason.PIN, now) for one in coming], now, strict=True)
        pins.note(self.store, scope, [id for id in ids if not self._ledger[id].pinned], pinned=True)
        for id in ids:
            self._ledger.pinned(id)
        for one in list(self._ledger.cubes.values()):
            waits = one.bundle == name and one.pinned and one.tier is Tier.TEXT
            if waits and tokens + one.tokens <= self._window:
                self._carry_out(name, [decision(one, Tier.ACTIVATION, Reason.PIN, now)], now)
                tokens += one.tokens

    def _carry_out(self, name: str, decisions: Sequence[Decision], now: int, *, strict: bool = False) -> list[Decision]:
        """The moves of one bundle at one reading; those that were made. What there is no room for, the least wanted
        first, and what changed since it was decided, does not come; with ``strict``, ``BudgetError`` is raised."""
        here = {member.id for member in self.residents.members(name)}
        drop = [one.cube for one in decisions if one.source is Tier.ACTIVATION and one.cube in here]
        coming = []
        for one in decisions:
            cube = self.store.get(one.cube) if one.target is Tier.ACTIVATION and one.cube not in here else None
            if cube is not None and is_current(cube.header.version, cube, now / _SECOND, read=self.store.get):
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
        settling.log(self.store, done)
        for one in done:
            self._ledger.moved(now, one.cube, one.target)
        settling.settle(self._ledger, self.residents, self._worn, now)
        return done

    def _drop(self, name: str, ids: Sequence[str]) -> None:
        """Take members out at once, without asking the policy."""
        now = self._clock()
        with self._lock:
            here = {member.id for member in self.residents.members(name)}
            gone = [self._ledger[id] for id in ids if id in here and id in self._ledger]
            why = {one.id: settling.why(self.store.get(one.id), now) for one in gone}
            self.residents.revise(name, drop=[id for id in ids if id in here])
            settling.log(self.store, [decision(one, Tier.TEXT, why[one.id], now) for one in gone])
            settling.settle(self._ledger, self.residents, self._worn, now)

    def _take_off(self, ids: Sequence[str], now: int) -> list[Worn]:
        """Serve no adapter that is one of ``ids`` or was made of one; what they knew is text again."""
        off = self._worn.take_off(ids)
        for id in {id for one in off for id in one.parents}:
            if id in self._ledger and self._ledger[id].tier is Tier.PARAMETER:
                self._ledger.moved(now, id, Tier.TEXT)
        return off

    def _there(self, cube: MemCube) -> bool:
        return self.store.get(cube.id) is not None

    def _teachable(self, one: Decision, now: int) -> bool:
        """Whether a memory is what was decided on, and may be taught; if not, the account learns what it is."""
        cube = self.store.get(one.cube)
        if is_current(one.version, cube, now / _SECOND, "parameter", read=self.store.get):
            return True
        if cube is not None:
            self._account.know(cube, now)
        return False

    def _texts(self, ids: Iterable[str]) -> list[MemCube]:
        return [cube for id in ids if (cube := self.store.get(id)) is not None]

    def _open(self, ids: Sequence[str]) -> list[MemCube]:
        cubes = self._texts(ids)
        if len(cubes) < len(ids) or any(one.header.superseded or one.header.kind != "text" for one in cubes):
            raise NotFound(f"ids={list(ids)[:3]!r}: not all of them are open memories of text")
        return cubes


def _member(cube: MemCube) -> Member:
    return Member(cube.id, cube.header.version, cube.text, cube.header.recorded.timestamp())
