"""Account: what one process knows of the use of memories, as a policy is told it.

MemOS, arXiv 2507.03724, section 5.1. The fold itself is ``kernel.tiering.usage``; here memories are entered with what
they would take in a cache, and a forecast is added of what the conversation is about to use
(``kernel.tiering.preload``). A forecast brings a memory forward and holds none back. What one scope does foretells
nothing of another.
"""

from __future__ import annotations

from collections.abc import Sequence

from lamina.activation.eligibility import layout
from lamina.cube.cube import MemCube
from lamina.kernel.tiering.decisions import DAY, CubeStats, Reason, Stats, Tier
from lamina.kernel.tiering.heat import Heat
from lamina.kernel.tiering.preload import CoUsePredictor
from lamina.kernel.tiering.residents import SERVED, bundle_name
from lamina.kernel.tiering.usage import UsageLedger
from lamina.llm.causal import CausalLM

HALF_LIFE = DAY  # of heat
_HABITS = 7 * DAY  # half-life of what is used together


class Account:
    """``ledger`` with forecasts. Times are nanoseconds since 1970. Not thread-safe: ``Tiers`` holds its lock."""

    def __init__(self, lm: CausalLM) -> None:
        self._lm = lm
        self.ledger = UsageLedger(HALF_LIFE)
        self._predictors: dict[str, CoUsePredictor] = {}
        self._spoke: set[str] = set()  # scopes with calls since the last forecast

    def know(self, cube: MemCube, now: int) -> CubeStats:
        """Enter a memory, or its new versions; what is known of it."""
        tokens = len(self._lm.encode(f"- {cube.text}\n"))
        nbytes = tokens * layout(self._lm).bytes_per_token
        if cube.id not in self.ledger:
            self.ledger.add(self._entered(cube, tokens, nbytes, now))
        for _ in range(cube.header.version - self.ledger[cube.id].version):
            self.ledger.revised(now, cube.id, tokens, nbytes)
        return self.ledger[cube.id]

    def called(self, now: int, name: str, used: Sequence[MemCube], found: Sequence[MemCube], session: str) -> None:
        """A model call with the bundle ``name`` used ``used``; ``found`` were retrieved as well."""
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

    def _entered(self, cube: MemCube, tokens: int, nbytes: int, now: int) -> CubeStats:
        header = cube.header
        return CubeStats(
            id=cube.id,
            bundle=bundle_name(header.scope),
            tokens=tokens,
            nbytes=nbytes,
            heat=self.ledger.heat(),
            version=header.version,
            version_since=now,
            created=int(header.created.timestamp() * 10**9),
            semantic_type=header.semantic_type,
            allowed=header.access,
            usable=header.state in SERVED,
            sensitive=bool(header.sensitivity),
        )
