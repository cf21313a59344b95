"""Account: what one process knows of the use of memories, as a policy is told it.

MemOS, arXiv 2507.03724, section 5.1. The fold itself is ``kernel.tiering.usage``; here memories are entered with what
they would take in a cache, and a forecast is added of what the conversation is about to use
(``kernel.tiering.preload``). A forecast brings a memory forward and holds none back. What one scope does foretells
nothing of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lamina.activation.eligibility import layout
from lamina.cube.cube import MemCube
from lamina.kernel.governance import may_take
from lamina.kernel.tiering.census import FORMS
from lamina.kernel.tiering.decisions import DAY, CubeStats, Reason, Stats, Tier
from lamina.kernel.tiering.heat import Heat
from lamina.kernel.tiering.preload import CoUsePredictor
from lamina.kernel.tiering.residents import SERVED, bundle_name
from lamina.kernel.tiering.usage import UsageLedger
from lamina.llm.causal import CausalLM

if TYPE_CHECKING:
    from lamina.kernel.rhythms.upkeep_log import UpkeepLog

HALF_LIFE = DAY  # of heat
_HABITS = 7 * DAY  # half-life of what is used together


class Account:
    """``ledger`` with forecasts. Times are nanoseconds since 1970. Not thread-safe: ``Tiers`` holds its lock."""

    def __init__(self, lm: CausalLM | None, uses: UpkeepLog | None = None) -> None:
        """Without ``lm`` nobody knows how many tokens a memory takes: enough to say how much it is used."""
        self._lm, self._uses = lm, uses
        self.ledger = UsageLedger(HALF_LIFE)
        self._predictors: dict[str, CoUsePredictor] = {}
        self._spoke: set[str] = set()  # scopes with calls since the last forecast

    def know(self, cube: MemCube, now: int) -> CubeStats:
        """Enter a memory, or its newer version; what is known of it. What says the same as before is no new version to
        a policy, but may be allowed less."""
        if cube.id not in self.ledger:
            self.ledger.add(self._entered(cube, now))
        elif cube.header.version > self.ledger[cube.id].version:
            entered = self._entered(cube, now)
            if entered.content != self.ledger[cube.id].content:
                self.ledger.revised(now, cube.id, entered.tokens, entered.nbytes)
            self.ledger.described(entered)
        return self.ledger[cube.id]

    def called(self, now: int, name: str, used: Sequence[MemCube], found: Sequence[MemCube], session: str) -> None:
        """A model call with the bundle ``name`` used ``used``; ``found`` were retrieved as well."""
        if self._uses is not None:
            self._uses.note(now, name, used, found, session)
        self._enter(now, name, used, found, session)

    def restore(self, name: str) -> None:
        """What earlier processes noted of the calls with the bundle ``name``."""
        for call in self._uses.past(name) if self._uses is not None else ():
            self._enter(call.at, name, call.used, call.found, call.session)

    def _enter(self, now: int, name: str, used: Sequence[MemCube], found: Sequence[MemCube], session: str) -> None:
        for cube in (*used, *found):
            self.know(cube, now)
        ids = [cube.id for cube in used]
        self.ledger.called(now, name, ids, [cube.id for cube in found if cube.id not in ids], session)
        self._predictors.setdefault(name, CoUsePredictor(_HABITS)).observe(now, ids)
        self._spoke.add(name)

    def forecast(self, now: int) -> Stats:
        """What the policy decides on, with what the scopes that spoke are likely to use next: at least the share of
        calls in which it is used anyway."""
        self.ledger.predicted(None)
        stats, shares = self.ledger.stats(now), dict[str, float]()
        for name in sorted(self._spoke):
            shares |= self._predictors[name].predict(now)
        self._spoke.clear()
        for cube in stats.cubes:
            calls = stats.calls.get(cube.bundle, Heat(HALF_LIFE)).at(now)
            if calls > 0:
                shares[cube.id] = max(shares.get(cube.id, 0.0), cube.heat.at(now) / calls)
        self.ledger.predicted(shares)
        return self.ledger.stats(now)

    def calls(self, name: str, now: int) -> float:
        """The heat of the calls of a bundle."""
        return self.ledger.stats(now).calls.get(name, Heat(HALF_LIFE)).at(now)

    def forget(self, id: str, now: int) -> None:
        """No trace of a memory stays."""
        if id in self.ledger:
            self.ledger.invalidated(id, Reason.FORGET)  # ends it at once if it is text
        if id in self.ledger:
            self.ledger.moved(now, id, Tier.TEXT)
        for predictor in self._predictors.values():
            predictor.forget(id)

    def _entered(self, cube: MemCube, now: int) -> CubeStats:
        header, at = cube.header, datetime.fromtimestamp(now / 10**9, UTC)
        tokens = len(self._lm.encode(f"- {cube.text}\n")) if self._lm else 0
        return CubeStats(
            id=cube.id,
            bundle=bundle_name(header.scope),
            tokens=tokens,
            nbytes=tokens * layout(self._lm).bytes_per_token if self._lm else 0,
            heat=self.ledger.heat(),
            version=header.version,
            version_since=now,
            created=int(header.created.timestamp() * 10**9),
            semantic_type=header.semantic_type,
            allowed=tuple(form for form in FORMS if may_take(header, form, at)),
            usable=header.state in SERVED and header.superseded is None,
            sensitive=bool(header.sensitivity),
            content=cube.sha256,
        )
