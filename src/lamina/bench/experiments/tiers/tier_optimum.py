"""What no tier policy can beat on a trace: a lower bound on cost that knows the future, and the best fixed set.

``lower_bound`` solves a relaxation. Cubes are independent (removing one prefills nothing), caches may be built before
the first call, and the byte budget is priced instead of enforced: for any prices mu(t) >= 0 a token and call,

    L(mu) = sum over cubes of the cheapest residency under prices - budget * sum of mu

is at most the cost of every residency that keeps the budget (weak Lagrangian duality). The cheapest residency of one
cube is an exact two-state dynamic programme over calls; prices are improved by subgradient steps, and the best
L is returned. Where the budget never binds, L(0) is the exact optimum of independent cubes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lamina.bench.experiments.tiers import tier_simulation
from lamina.bench.experiments.tiers.tier_baselines import FixedSet
from lamina.bench.experiments.tiers.tier_simulation import BYTES_PER_TOKEN, Outcome
from lamina.bench.experiments.tiers.tier_traces import Trace
from lamina.errors import InvalidInput
from lamina.kernel.tiering.decisions import Costs

_BLOCKS = 40  # prices are constant within a block of calls: still a bound, and quick to improve
_STEPS = 60
_SHARES = (1.0, 0.4, 0.3, 0.2)  # of the budget: how many of those worth it a fixed set holds

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Instance:
    """Calls by cubes; ``changed[t]`` is what changed since call t-1, ``gone[t]`` what was forgotten before call t."""

    ids: tuple[str, ...]
    tokens: Floats
    used: Flags | Floats  # whether, or with which chance
    changed: Flags
    gone: Flags


def lower_bound(trace: Trace, costs: Costs, budget: int, *, foresight: str = "calls") -> float:
    """Seconds that every policy takes at least, in the model of ``tier_simulation``.

    ``foresight="calls"`` knows every call in advance. ``"law"`` knows the chance of every memory in every call, now
    and later, but not how the dice fall: the *expected* cost of the best policy that cannot see the future.
    """
    instance = _read(trace)
    if foresight == "law":
        if trace.law is None:
            raise InvalidInput(f"trace {trace.name!r} was drawn from no law; ask for foresight='calls'")
        instance = replace(instance, used=trace.law)
    room, calls = budget / BYTES_PER_TOKEN, len(trace.steps)
    blocks = min(_BLOCKS, calls)
    block = np.arange(calls) * blocks // max(calls, 1)
    prices = np.zeros(blocks)
    best, rate = -np.inf, costs.resident or costs.prefill / 10
    for step in range(_STEPS):
        per_token, resident = _cheapest(instance, costs, prices[block])
        best = max(best, float(per_token @ instance.tokens - room * prices[block].sum()))
        excess = np.bincount(block, resident @ instance.tokens - room, blocks) / np.bincount(block)
        if (excess <= 0).all() and not prices.any():
            break
        prices = np.maximum(0.0, prices + rate / (1 + 0.2 * step) * excess / room)
    return best


def best_fixed(trace: Trace, costs: Costs, budget: int, *, by: str = "seconds") -> Outcome:
    """The best of several fixed sets chosen knowing the trace: most worth a token first, while they fit.

    ``by``: ``seconds`` for the least cost, ``saved_net`` for the most prefill saved, whatever attending costs.
    """
    ranked = _worth(_read(trace), costs if by == "seconds" else replace(costs, attend=0.0))
    found = []
    for share in _SHARES:
        ids, left = set[str](), share * budget / BYTES_PER_TOKEN
        for id, tokens in ranked:
            if tokens <= left:
                ids.add(id)
                left -= tokens
        found.append(tier_simulation.run(trace, FixedSet(frozenset(ids)), costs, budget))
    return min(found, key=lambda one: one.seconds) if by == "seconds" else max(found, key=lambda one: one.saved_net)


def _worth(instance: _Instance, costs: Costs) -> list[tuple[str, float]]:
    """Ids with tokens, by seconds saved a token when cached always; only those that save any."""
    always = (~instance.gone).sum(0) * costs.resident + (instance.changed & ~instance.gone).sum(0) * costs.prefill
    gain = instance.used.sum(0) * (costs.prefill + costs.resident) - always - costs.prefill
    return [
        (instance.ids[i], float(instance.tokens[i])) for i in np.argsort(-gain, kind="stable").tolist() if gain[i] > 0
    ]


def _cheapest(instance: _Instance, costs: Costs, prices: Floats) -> tuple[Floats, Flags]:
    """Cost a token of each cube's best residency, and when that is resident: (cubes,), (calls, cubes)."""
    calls, cubes = instance.used.shape
    out = np.zeros(cubes)  # cheapest so far, ending as text
    kept = np.full(cubes, np.inf)  # ending cached
    came_from_out, came_from_kept = np.empty((calls, cubes), bool), np.empty((calls, cubes), bool)
    for t in range(calls):
        stay = np.where(instance.changed[t], np.inf, kept)
        enter = np.minimum(out, kept) + costs.prefill
        came_from_kept[t] = kept < out
        came_from_out[t] = enter < stay
        out = np.minimum(out, kept) + instance.used[t] * (costs.prefill + costs.resident)
        kept = np.where(instance.gone[t], np.inf, np.minimum(stay, enter) + costs.resident + prices[t])
    resident = np.empty((calls, cubes), bool)
    state = kept < out
    for t in reversed(range(calls)):
        resident[t] = state
        # A cache that was built at t came from the cheaper of both states; one that stayed was cached before.
        state = np.where(state & ~came_from_out[t], True, came_from_kept[t])
    return np.minimum(out, kept), resident


def _read(trace: Trace) -> _Instance:
    place = {id: i for i, id in enumerate(trace.tokens)}
    shape = len(trace.steps), len(place)
    used, changed, gone = (np.zeros(shape, bool) for _ in range(3))
    for t, step in enumerate(trace.steps):
        used[t, [place[id] for id in step.used]] = True
        if t + 1 < len(trace.steps):
            changed[t + 1, [place[id] for id in step.updated]] = True
            gone[t + 1 :, [place[id] for id in step.forgotten]] = True
    return _Instance(tuple(place), np.asarray(list(trace.tokens.values()), float), used, changed, gone)
