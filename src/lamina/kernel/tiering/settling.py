"""Settling: the account of use brought in line with what stands in bundles and adapters, and moves into the log.

MemOS, arXiv 2507.03724, section 5.1. What is true is the bundles and the adapters; the account follows them, so that a
move that did not come about, or one that nobody decided, leaves no trace of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from lamina.cube.cube import MemCube
from lamina.kernel.governance import Form, may_take
from lamina.kernel.lifecycle import Read
from lamina.kernel.migration import ACTOR
from lamina.kernel.tiering.decisions import Decision, Reason, Tier
from lamina.kernel.tiering.residents import Residents, is_current
from lamina.kernel.tiering.usage import UsageLedger
from lamina.kernel.tiering.worn import WornAdapters
from lamina.store.base import Store

_SECOND = 10**9


def sweep(ledger: UsageLedger, residents: Residents, worn: WornAdapters, now: int, *, read: Read) -> None:
    """Tell the ledger which cached or worn memories may not be served any more, and why."""
    at = now / _SECOND
    for members in residents.all().values():
        for member in members:
            cube = read(member.id)
            if member.id in ledger and not is_current(member.version, cube, at, read=read):
                ledger.invalidated(member.id, why(cube, now))
    for one in worn.all():
        if not worn.whole(one, at):
            for id in one.parents:
                if id in ledger and ledger[id].tier is Tier.PARAMETER:
                    ledger.invalidated(id, why(read(id), now, "parameter"))


def settle(ledger: UsageLedger, residents: Residents, worn: WornAdapters, now: int) -> None:
    """The ledger's tiers and places, as the bundles and adapters are; a memory that is in none is text, and an adapter
    none of whose memories is used as weights any more is taken off."""
    placed = {member.id: place for members in residents.all().values() for place, member in enumerate(members)}
    for id, stats in list(ledger.cubes.items()):
        if id in placed:
            ledger.moved(now, id, Tier.ACTIVATION, placed[id])
        elif stats.tier is Tier.ACTIVATION:
            ledger.moved(now, id, Tier.TEXT)
    known = ledger.cubes
    idle = [
        one.id for one in worn.all() if not any(id in known and known[id].tier is Tier.PARAMETER for id in one.parents)
    ]
    if idle:
        worn.take_off(idle)


def log(store: Store, decisions: Sequence[Decision]) -> None:
    """A row for each move, of memories that are still there."""
    with store.transaction() as tx:
        for one in decisions:
            if tx.newest(one.cube) is not None:
                action = "demote" if one.target is Tier.TEXT else "promote"
                details = {"sentence": one.sentence().partition(" ")[2], "heat": round(one.heat, 4)}
                tx.note(one.cube, action=action, actor=ACTOR, reason=str(one.reason), details=details)


def why(cube: MemCube | None, now: int, form: Form = "activation") -> Reason:
    """Why the newest version of a memory may not be served in a form that was made of it."""
    if cube is None:
        return Reason.FORGET
    expires = cube.header.expires
    if expires is not None and expires.timestamp() * _SECOND <= now:
        return Reason.TTL
    at = datetime.fromtimestamp(now / _SECOND, UTC)
    return Reason.STALE_PARENT if may_take(cube.header, form, at) else Reason.ACL
