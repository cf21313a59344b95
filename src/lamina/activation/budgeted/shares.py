"""How many tokens each layer may keep: whole numbers that share a total by weight, none above its cap.

CAKE, arXiv 2503.12491, section 3.2, shares in proportion to layer preference and rounds. What is unusual: seats are
given by the method of Sainte-Lague, one after the other to whoever has the largest ``weight / (seats + 1/2)``. Then the
total is met exactly, a cap wastes nothing, and another layer never gives an earlier one more: the sets that a cascade
keeps are nested, and its end is that of one allocation over all layers, to the token.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from math import floor, isfinite

from lamina.errors import InvalidInput


def proportional(total: int, weights: Sequence[float], caps: Sequence[int]) -> list[int]:
    """Non-negative integers that sum to ``min(total, sum(caps))``, none above its cap, in proportion to ``weights``;
    of equal claims the first is heard first. No weight counts for less than 1e-9 of the largest; all zero are equal.

    Raises ``InvalidInput`` for negative or infinite numbers and for lists of unequal lengths.
    """
    if len(weights) != len(caps) or min((total, *caps)) < 0 or not all(isfinite(w) and w >= 0 for w in weights):
        raise InvalidInput(f"total={total!r} cannot be shared: {len(weights)} weights, {len(caps)} caps, none negative")
    if sum(caps) <= total:
        return list(caps)
    largest = max(weights)
    claims = [max(weight, 1e-9 * largest) if largest > 0 else 1.0 for weight in weights]
    seats = _under(total, claims, caps)
    waiting = [
        (-claim / (seat + 0.5), i) for i, (claim, seat) in enumerate(zip(claims, seats, strict=True)) if seat < caps[i]
    ]
    heapq.heapify(waiting)
    for _ in range(total - sum(seats)):
        _, i = heapq.heappop(waiting)
        seats[i] += 1
        if seats[i] < caps[i]:
            heapq.heappush(waiting, (-claims[i] / (seats[i] + 0.5), i))
    return seats


def pyramid(total: int, layers: int, beta: float) -> list[float]:
    """PyramidKV's weights (arXiv 2406.02069, section 3.2): a straight line from the first layer down to the last, whose
    share, the window aside, is ``1 / beta`` of the mean one."""
    mean = total / layers
    least = mean / beta
    most = 2 * mean - least
    return [most - (most - least) * i / max(layers - 1, 1) for i in range(layers)]


def _under(total: int, claims: Sequence[float], caps: Sequence[int]) -> list[int]:
    """Seats that all have for sure: those of a divisor at which not more than ``total`` are given, and nearly all."""

    def given(divisor: float) -> list[int]:
        return [min(cap, floor(claim / divisor + 0.5)) for claim, cap in zip(claims, caps, strict=True)]

    low, high = min(claims) / (max(caps) + 1), 2.5 * max(claims)  # gives everything; gives nothing
    for _ in range(100):
        middle = (low * high) ** 0.5
        if sum(given(middle)) <= total:
            high = middle
        else:
            low = middle
    return given(high * (1 + 1e-9))  # ties are left to the order of seats
