"""Replay a trace under a tier policy and count what it costs: tokens prefilled, attended and built, bytes held.

No wall clock and no model: ``Costs`` turns counted tokens into seconds. A call prefills the memories it uses that are
not cached, and attends to all that is cached, used or not, and to what it prefilled. Promoting appends to the
bundle and prefills the cube; removing the member at place i prefills all that stand behind it, once for all moves of
a tick, and then puts those with the longest-lived version first.

A serve is stale when a call uses a cached version that is not the newest; policies are not protected from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from lamina.bench.experiments.tiers.tier_traces import CUBES, Step, Trace
from lamina.kernel.tiering.decisions import Budgets, Costs, CubeStats, Decision, Policy, Reason, Tier
from lamina.kernel.tiering.usage import UsageLedger

HALF_LIFE = 20  # logical calls
BYTES_PER_TOKEN = 46_080  # SmolLM2-135M, float32
_BUNDLE = "bundle"


class Predictor(Protocol):
    """Learns what is used together; says what is likely next."""

    def observe(self, now: int, used: tuple[str, ...], topics: tuple[str, ...]) -> None:
        """A call."""

    def predict(self, now: int) -> dict[str, float]:
        """Share of the next calls, by id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a policy cost on a trace. Token counts are sums over all calls."""

    prefilled: int  # read as text
    built: int  # read into caches
    attended: int  # tokens that were in context, cached or not
    saved: int  # used from a cache instead of prefilled
    peak_bytes: int
    budget_bytes: int
    stale_serves: int
    seconds: float
    decisions: tuple[Decision, ...] = field(repr=False)

    @property
    def saved_net(self) -> int:
        """Saved, less what building took."""
        return self.saved - self.built


def run(trace: Trace, policy: Policy, costs: Costs, budget: int, predictor: Predictor | None = None) -> Outcome:
    """Replay ``trace`` with at most ``budget`` bytes of caches."""
    replay = _Replay(trace, policy, costs, Budgets(budget), predictor)
    for now, step in enumerate(trace.steps):
        replay.call(now, step)
        replay.change(now, step)
        replay.tick(now)
    return replay.outcome()


def budget_for(trace: Trace, share: float = 0.15) -> int:
    """Bytes: ``share`` of the caches of all memories that are there when the trace begins."""
    first = list(trace.tokens)[:CUBES]
    return int(share * BYTES_PER_TOKEN * sum(trace.tokens[id] for id in first))


class _Replay:
    def __init__(
        self, trace: Trace, policy: Policy, costs: Costs, budgets: Budgets, predictor: Predictor | None
    ) -> None:
        self._trace, self._policy, self._costs, self._budgets = trace, policy, costs, budgets
        self._predictor = predictor
        self._ledger = UsageLedger(HALF_LIFE)
        self._bundle: list[str] = []
        self._built_version: dict[str, int] = {}
        self._prefilled = self._built = self._attended = self._saved = self._peak = self._stale = 0
        self._held = 0  # tokens in the bundle
        self._decisions: list[Decision] = []
        for id, tokens in trace.tokens.items():
            self._ledger.add(
                CubeStats(
                    id=id,
                    bundle=_BUNDLE,
                    tokens=tokens,
                    nbytes=tokens * BYTES_PER_TOKEN,
                    heat=self._ledger.heat(),
                )
            )

    def call(self, now: int, step: Step) -> None:
        tokens = self._trace.tokens
        cached = [id for id in step.used if id in self._built_version]
        read = sum(tokens[id] for id in step.used if id not in self._built_version)
        self._stale += sum(self._built_version[id] != self._ledger[id].version for id in cached)
        self._saved += sum(tokens[id] for id in cached)
        self._prefilled += read
        self._attended += read + self._held
        self._ledger.called(now, _BUNDLE, step.used, session=step.session)
        if self._predictor is not None:
            self._predictor.observe(now, step.used, step.topics)
            self._ledger.predicted(self._predictor.predict(now))

    def change(self, now: int, step: Step) -> None:
        for id in step.updated:
            self._ledger.revised(now, id, self._trace.tokens[id], self._ledger[id].nbytes)
        for id in step.forgotten:
            self._ledger.invalidated(id, Reason.FORGET)

    def tick(self, now: int) -> None:
        decisions = self._policy.decide(self._ledger.stats(now), self._budgets, now)
        self._decisions += decisions
        leaving = {one.cube for one in decisions if one.source is Tier.ACTIVATION}
        arriving = [one.cube for one in decisions if one.target is Tier.ACTIVATION]
        self._remove(leaving, now)
        for id in [one for one in leaving if one not in arriving]:
            self._ledger.moved(now, id, Tier.TEXT)
        for id in arriving:
            if id in leaving:
                self._ledger.moved(now, id, Tier.TEXT)
            self._build(id)
            self._ledger.moved(now, id, Tier.ACTIVATION, len(self._bundle) - 1)

    def outcome(self) -> Outcome:
        return Outcome(
            prefilled=self._prefilled,
            built=self._built,
            attended=self._attended,
            saved=self._saved,
            peak_bytes=self._peak,
            budget_bytes=self._budgets.activation_bytes,
            stale_serves=self._stale,
            seconds=(self._prefilled + self._built) * self._costs.prefill + self._attended * self._costs.resident,
            decisions=tuple(self._decisions),
        )

    def _remove(self, leaving: set[str], now: int) -> None:
        """Cut before the first of ``leaving`` and prefill the others behind it."""
        first = next((i for i, id in enumerate(self._bundle) if id in leaving), len(self._bundle))
        tail = [id for id in self._bundle[first:] if id not in leaving]
        for id in leaving:
            self._built_version.pop(id, None)
        self._held -= sum(self._trace.tokens[id] for id in leaving)
        if self._costs.bundled:
            self._bundle = self._bundle[:first]
            self._held -= sum(self._trace.tokens[id] for id in tail)
            for id in sorted(tail, key=lambda id: (self._ledger[id].version_since, id)):
                self._build(id)
        else:
            self._bundle = self._bundle[:first] + tail
        for place, id in enumerate(self._bundle[first:], first):
            self._ledger.moved(now, id, Tier.ACTIVATION, place)

    def _build(self, id: str) -> None:
        self._bundle.append(id)
        self._built_version[id] = self._ledger[id].version
        self._built += self._trace.tokens[id]
        self._held += self._trace.tokens[id]
        self._peak = max(self._peak, BYTES_PER_TOKEN * self._held)
