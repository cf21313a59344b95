"""Explaining: where a memory is and why, in sentences, from the store's log and the account of use."""

from __future__ import annotations

from dataclasses import dataclass

from lamina.errors import NotFound
from lamina.kernel.tiering.decisions import CubeStats, Tier
from lamina.store.base import Event, Store

_MOVES = ("promote", "demote", "refuse")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a memory is and why. ``decisions`` are sentences, newest first; figures are those of this process."""

    id: str
    tier: Tier
    heat: float
    share: float
    uses: int
    pinned: bool
    forms: tuple[str, ...]  # ids of caches and adapters made of it that are in the store
    decisions: tuple[str, ...]


def explain(store: Store, id: str, stats: CubeStats | None, calls: float, now: int, *, last: int = 10) -> Explanation:
    """``stats`` is what is known of its use, ``calls`` the heat of its bundle at ``now``. Raises ``NotFound``."""
    if store.get(id) is None:
        raise NotFound(f"there is no memory {id!r}")
    moves = [event for event in store.events(cube=id) if event.action in _MOVES]
    heat = stats.heat.at(now) if stats else 0.0
    return Explanation(
        id=id,
        tier=stats.tier if stats else Tier.TEXT,
        heat=heat,
        share=min(1.0, heat / calls) if calls > 0 else 0.0,
        uses=stats.uses if stats else 0,
        pinned=stats.pinned if stats else False,
        forms=tuple(store.derived(id)),
        decisions=tuple(_sentence(event) for event in moves[::-1][:last]),
    )


def _sentence(event: Event) -> str:
    told = event.details.get("sentence")
    if told is None:
        figures = event.details
        verb = "was refused as" if event.action == "refuse" else "was moved by"
        told = f"{verb} {figures.get('operation')}: fidelity {figures.get('fidelity', 0):.3f} ({event.reason})"
    return f"{event.at:%Y-%m-%d %H:%M} {told}"
