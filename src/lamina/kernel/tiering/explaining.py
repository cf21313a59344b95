"""Explaining: where a memory is and why, in sentences, from the store's log and the account of use.

None of that needs the model: where it was not loaded (``at_rest``), a memory is where the store keeps it. Whether such
a cache or adapter fits the model that will be loaded shows only then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lamina.cube.cube import MemCube, Scope
from lamina.kernel.governance import Form
from lamina.kernel.rhythms.upkeep_log import UpkeepLog
from lamina.kernel.tiering import pins, saved
from lamina.kernel.tiering.account import Account
from lamina.kernel.tiering.decisions import CubeStats, Tier
from lamina.kernel.tiering.residents import bundle_name, is_current, shared_scope
from lamina.store.base import Event, Store

_MOVES = ("promote", "demote", "refuse")


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a memory is and why. ``decisions`` are sentences, newest first. ``text``: what it says, empty for who may
    not read it as it is now (it expired, say)."""

    id: str
    tier: Tier
    heat: float
    share: float
    uses: int
    pinned: bool
    forms: tuple[str, ...]  # ids of caches and adapters made of it that are in the store
    decisions: tuple[str, ...]
    text: str = ""


def explain(store: Store, id: str, stats: CubeStats | None, calls: float, now: int, *, last: int = 10) -> Explanation:
    """``stats`` is what is known of its use, ``calls`` the heat of its bundle at ``now``."""
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


def at_rest(store: Store, cube: MemCube, now: int) -> Explanation:
    """The same from the store alone, for a process that has not loaded the model."""
    scope = shared_scope(cube.header.scope)
    name = bundle_name(scope)
    account = Account(None, UpkeepLog(store, scope.tenant))
    account.restore(name)
    held = any(one.id == cube.id for one in pins.held(store, scope))
    stats = replace(account.know(cube, now), tier=_kept(store, cube.id, scope, now / 10**9), pinned=held)
    return explain(store, cube.id, stats, account.calls(name, now), now)


def _kept(store: Store, id: str, scope: Scope, at: float) -> Tier:
    """The cheapest form that the store holds of a memory and that may still be served."""

    def current(parent: tuple[str, int], form: Form) -> bool:
        return is_current(parent[1], store.get(parent[0]), at, form, read=store.get)

    bundles = (cube.header.lineage.derived_from for cube in saved.bundles(store, scope))
    if any(one[0] == id and current(one, "activation") for members in bundles for one in members):
        return Tier.ACTIVATION
    taught = (cube.header.lineage.derived_from for cube in saved.adapters(store, scope))
    knows = any(id in dict(all_of) and all(current(one, "parameter") for one in all_of) for all_of in taught)
    return Tier.PARAMETER if knows else Tier.TEXT


def _sentence(event: Event) -> str:
    told = event.details.get("sentence")
    if told is None:
        figures = event.details
        verb = "was refused as" if event.action == "refuse" else "was moved by"
        told = f"{verb} {figures.get('operation')}: fidelity {figures.get('fidelity', 0):.3f} ({event.reason})"
    return f"{event.at:%Y-%m-%d %H:%M} {told}"
