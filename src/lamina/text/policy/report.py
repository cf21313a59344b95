"""What a write policy left in a store: what is out of date, what is there twice, what is filed wrongly.

These are the complaints about memories whose writing is prompted rather than measured. Counted per user over open
memories, from the memories alone: any updater can be judged by it, the rules as well as Mem-alpha.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lamina.cube.cube import MemCube, Scope
from lamina.store.base import Store
from lamina.text.english.slots import clash, is_functional
from lamina.text.policy.features import read


@dataclass(frozen=True, slots=True)
class UserReport:
    """Of one user's ``memories`` open ones: how many are ``stale`` (another open memory gives the same attribute a
    newer value), how many ``duplicate`` an earlier one, and for each type the share that has its form."""

    user: str | None
    memories: int
    stale: int
    duplicates: int
    precision: dict[str, float]

    @property
    def stale_rate(self) -> float:
        return self.stale / self.memories if self.memories else 0.0

    @property
    def duplicate_rate(self) -> float:
        return self.duplicates / self.memories if self.memories else 0.0


def explain(store: Store, scope: Scope) -> list[UserReport]:
    """One report per user of ``scope`` who has memories other than turns, by name."""
    of_user: dict[str | None, list[MemCube]] = defaultdict(list)
    for cube in _facts(store, scope):
        of_user[cube.header.scope.user].append(cube)
    return [_report(user, of_user[user]) for user in sorted(of_user, key=lambda name: name or "")]


def _facts(store: Store, scope: Scope) -> Iterator[MemCube]:
    """Open memories that say something of somebody, the oldest first."""
    cursor: str | None = None
    while True:
        page = store.query(scope, limit=1000, cursor=cursor, newest_first=False)
        yield from (cube for cube in page.cubes if cube.header.claim is not None)
        if (cursor := page.cursor) is None:
            return


def _report(user: str | None, cubes: Sequence[MemCube]) -> UserReport:
    right: dict[str, list[bool]] = defaultdict(list)
    for cube in cubes:
        right[cube.header.semantic_type].append(_has_form(cube))
    return UserReport(
        user=user,
        memories=len(cubes),
        stale=_stale(cubes),
        duplicates=len(cubes) - len({_saying(cube) for cube in cubes}),
        precision={name: sum(found) / len(found) for name, found in sorted(right.items())},
    )


def _saying(cube: MemCube) -> tuple[object, ...]:
    """What two memories that say the same have in common: whom, what, when, and whether it is denied."""
    header, claim = cube.header, cube.header.claim
    assert claim is not None
    happened = header.valid_from if header.semantic_type == "event" else None
    return claim.subject.casefold(), read(cube.text).terms, happened, claim.polarity, claim.modality


def _stale(cubes: Sequence[MemCube]) -> int:
    """Memories of an attribute with one value that a later one gives another value."""
    by_slot: dict[tuple[str, str], list[MemCube]] = defaultdict(list)
    for cube in cubes:
        claim = cube.header.claim
        if claim and claim.slot and is_functional(claim.slot) and claim.polarity and claim.modality == "asserted":
            by_slot[claim.subject.casefold(), claim.slot].append(cube)
    return sum(
        any(_contradicts(later, cube) for later in held if _since(later) > _since(cube))
        for held in by_slot.values()
        for cube in held
    )


def _contradicts(later: MemCube, earlier: MemCube) -> bool:
    new, old = later.header.claim, earlier.header.claim
    assert new is not None and new.slot is not None and old is not None and old.slot is not None
    return clash(new.slot, new.value, old.slot, old.value)


def _since(cube: MemCube) -> float:
    return (cube.header.valid_from or cube.header.recorded).timestamp()


def _has_form(cube: MemCube) -> bool:
    """An event has a time; a trait (persona, preference) an attribute; a fact asks nothing and bears no date."""
    header, claim = cube.header, cube.header.claim
    assert claim is not None
    if header.semantic_type == "event":
        return header.valid_from is not None or read(cube.text).dated
    if header.semantic_type in ("persona", "preference"):
        return claim.slot is not None
    return not (read(cube.text).asks or read(cube.text).dated)
