"""Mem0's second phase without a language model: what a new fact does to what is known.

Mem0, arXiv 2504.19413, section 2.1, lets a model choose ADD, UPDATE, DELETE or NOOP. Cosine cannot choose in its
stead ("two cats" and "three cats" are at 0.95, many updates below 0.6), so vectors only propose and slots decide:

1. noop       the same statement again; never if a number, a name or the polarity differs
2. supersede  an attribute with one value gets another, or a taste turns round; the old one stays in history
3. close      an ending without a new value ("I quit my job")
4. late       the clash is older in the world than what is known: it is stored already closed
5. augment    the new statement says the old one and more
6. add        everything else

A wrong supersession hides evidence, so every doubt is an add. Plans, possibilities and hearsay never end an
assertion; a plan may move a plan for the same event. Order is that of the world (``valid_from``, else when it was
said), not of arrival. Attributes that cannot change (name, birth, origin) change only by a spoken correction;
otherwise both stay and the reason says "conflict". As published, DELETE loses the news; here nothing is lost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from lamina.cube.cube import Claim, MemCube
from lamina.text.base import Fact, Operation
from lamina.text.english.places import FROM
from lamina.text.english.qualifiers import is_qualified
from lamina.text.english.readings import CALENDAR
from lamina.text.english.slots import (
    IMMUTABLE,
    base,
    clash,
    is_functional,
    is_region,
    normal,
    reached,
    same_value,
    stem,
    stems,
)
from lamina.text.sameness import claim_of, is_fuller, is_same, names
from lamina.text.time import resolve

_CORRECTION = re.compile(
    r"\b(?:actually|correction|meant|mistake|mistyped|wrong|sorry|typo|not .{2,40} but|should be)\b", re.I
)
_CHANGE = re.compile(
    r"\b(?:now|nowadays|these days|new|moved|relocated|switched|changed|became|promoted|instead|anymore|no longer"
    r"|any longer|transferred|started|joined|left|hired|again|settled)\b",
    re.I,
)
_CONTINUES = re.compile(r"\b(?:has been|have been|since|lives|works|is|are|studies)\b")
_BRACKETS = re.compile(r" \([^()]*\d{4}[^()]*\)")
_SOFT = ("residence", "employer", "school")  # slots where two values may be one thing in two degrees of detail


class RulesUpdater:
    """The default ``Updater``: deterministic, and each decision names the rule that made it."""

    name = "rules"

    def slots_to_compare(self, claim: Claim) -> tuple[str | None, ...]:
        """Which slots' open facts ``decide`` wants to see in ``same_subject``; ``None`` in it means all of them."""
        if claim.slot is None:
            return ()
        return (*reached(claim.slot), f"switch.{claim.value}")  # a change told before what it changed

    def decide(
        self,
        fact: Fact,
        observed: datetime,
        same_subject: Sequence[MemCube],
        nearest: Sequence[tuple[MemCube, float]],
    ) -> Operation:
        """Compare ``fact``, said at ``observed``, with open memories of its subject (those with a slot in
        ``slots.reached(fact.claim.slot)``) and with the nearest by cosine. Pure: nothing is written."""
        known = _of_subject(fact.claim, same_subject, nearest)
        cosine = {cube.id: score for cube, score in nearest}
        again = next((cube for cube in known if is_same(fact, cube, cosine.get(cube.id, 0.0))), None)
        if again is not None:
            return Operation("noop", fact, f"Says again what is known: {_quote(again)}.", again)
        if fact.claim.slot is not None:
            by_slot = _by_slot(fact, observed, known)
            if by_slot is not None:
                return by_slot
        fuller = next((cube for cube in known if is_fuller(fact, cube)), None)
        if fuller is not None:
            return Operation("augment", fact, f"Says the same and more: {_quote(fuller)}.", fuller)
        return Operation("add", fact, "Nothing known says or denies this.")


def _of_subject(
    claim: Claim, same_subject: Sequence[MemCube], nearest: Sequence[tuple[MemCube, float]]
) -> list[MemCube]:
    """Open facts about the subject, newest first, each once."""
    subject = claim.subject.casefold()
    found = {cube.id: cube for cube in (*same_subject, *(cube for cube, _ in nearest))}
    about = [c for c in found.values() if c.header.claim is not None and c.header.claim.subject.casefold() == subject]
    return sorted(
        (c for c in about if c.header.superseded is None), key=lambda c: (c.header.recorded, c.id), reverse=True
    )


# -- slots -----------------------------------------------------------------------------------------------


def _by_slot(fact: Fact, observed: datetime, known: Sequence[MemCube]) -> Operation | None:
    claim = fact.claim
    assert claim.slot is not None
    if claim.slot.startswith(("switch.", "correction.")):
        return _switch(fact, observed, known)
    if claim.slot in IMMUTABLE:
        return _immutable(fact, known)
    if claim.modality != "asserted" and not (claim.modality == "plan" and claim.slot.startswith("plan.")):
        return None
    if is_qualified(fact.text, claim.slot):
        return None
    rivals = [cube for cube in known if claim_of(cube).modality == claim.modality]
    if not claim.polarity and not _is_taste(claim):
        return _close(fact, [*rivals, *(cube for cube in known if claim.modality == "asserted" and _is_plan(cube))])
    ended = _ended_before(fact, observed, rivals)
    if ended is not None:
        return Operation("late", fact, f"Held before what is known: {_quote(ended)}.", ended)
    target = _turned_round(claim, rivals) or _replaced(fact, observed, rivals)
    if target is None:
        return None
    return _in_order(fact, observed, target)


def _is_plan(cube: MemCube) -> bool:
    """A coming event with its date: calling it off is a statement, not a plan."""
    return claim_of(cube).modality == "plan" and (claim_of(cube).slot or "").startswith("plan.")


def _is_taste(claim: Claim) -> bool:
    """Dislike is a value of its own; for other slots a denial is an ending."""
    return claim.slot == "likes"


def _turned_round(claim: Claim, rivals: Sequence[MemCube]) -> MemCube | None:
    """The open fact with the same slot and value but the opposite polarity."""
    for cube in rivals:
        old = claim_of(cube)
        opposite = old.slot is not None and old.slot == claim.slot and old.polarity != claim.polarity
        if opposite and same_value(claim.slot or "", claim.value, old.value):
            return cube
    return None


def _replaced(fact: Fact, observed: datetime, rivals: Sequence[MemCube]) -> MemCube | None:
    """The open fact whose value cannot hold beside the new one; none if it is not clear which."""
    claim = fact.claim
    if claim.slot is None or not is_functional(claim.slot) or not claim.polarity:
        return None
    clashing = [
        cube
        for cube in rivals
        if claim_of(cube).polarity
        and clash(claim.slot, claim.value, claim_of(cube).slot or "", claim_of(cube).value)
        and _same_rank(fact, cube)
        and _is_lasting(cube)
        and _left(fact, cube)
        and _still_ahead(claim.slot, cube, observed)
    ]
    roles = [cube for cube in clashing if claim_of(cube).slot == "role"]
    if len(roles) > 1:  # which of several trades was given up?
        clashing = [cube for cube in clashing if cube not in roles]
    return clashing[0] if clashing else None


def _ended_before(fact: Fact, observed: datetime, rivals: Sequence[MemCube]) -> MemCube | None:
    """The newer change that ended the fact before it was told: "I use Vim" after "I switched from Vim to Emacs".

    One of several trades may still be followed, so only the single one is taken for ended.
    """
    claim = fact.claim
    if claim.slot == "role":
        known = [cube for cube in rivals if claim_of(cube).slot in ("role", "title")]
        newer = [cube for cube in known if claim_of(cube).slot == "title" and _told(cube, "title") > observed]
        return newer[0] if len(known) == 1 and newer and claim_of(newer[0]).value != claim.value else None
    if claim.slot is None or not is_functional(claim.slot):
        return None
    switched = (cube for cube in rivals if claim_of(cube).slot == f"switch.{claim.value}")
    return next((cube for cube in switched if _told(cube, "switch") > observed), None)


def _same_rank(fact: Fact, cube: MemCube) -> bool:
    """A city and a country, a company and "a bank": not rivals unless the words tell of a change."""
    new, old = fact.claim, claim_of(cube)
    if new.slot not in _SOFT or _CHANGE.search(fact.text):
        return True
    if new.slot == "residence":
        return is_region(new.value or "") == is_region(old.value or "")
    return bool(fact.entities) == bool(cube.header.entities)


def _is_lasting(cube: MemCube) -> bool:
    """A state told with its end ("until Sunday") ends by itself, and is not the one that a new value replaces."""
    return cube.header.valid_to is None or _is_plan(cube)


def _left(fact: Fact, cube: MemCube) -> bool:
    """ "moved to X from Y" ends Y only: where Y is not the known home, X may be no place at all."""
    came = FROM.search(fact.text) if fact.claim.slot == "residence" else None
    if came is None or came["from"].split()[0].lower() in CALENDAR:  # "from March on"
        return True
    origin, known = stems(normal(came["from"])), stems(claim_of(cube).value or "")
    return origin <= known or known <= origin


def _still_ahead(slot: str, cube: MemCube, observed: datetime) -> bool:
    """A date can be moved only while the event is to come; afterwards the same words mean the next one."""
    return not slot.startswith("plan.") or cube.header.valid_from is None or cube.header.valid_from > observed


def _in_order(fact: Fact, observed: datetime, target: MemCube) -> Operation:
    """Close the older by the newer in the world, whichever was told first."""
    slot = fact.claim.slot or ""
    if _moment(fact, observed) < _told(target, slot):
        return Operation("late", fact, f"Held before what is known of {slot}: {_quote(target)}.", target)
    turned = fact.claim.polarity != claim_of(target).polarity
    rule = "The attitude turned round" if turned else f"{slot} has one value and this is a newer one"
    return Operation("supersede", fact, f"{rule}; before: {_quote(target)}.", target)


def _moment(fact: Fact, observed: datetime) -> datetime:
    """The latest moment the new fact can have begun: a present state at its telling, an event at the end of its
    date, so that "moved last month" is not older than what was said in that month."""
    if (fact.claim.slot or "").startswith("plan.") or fact.valid_from is None or _CONTINUES.search(fact.text):
        return observed
    ends = [span.end for span in resolve(fact.text, observed) if span.start == fact.valid_from]
    return min([*ends, observed])


def _told(cube: MemCube, slot: str) -> datetime:
    if slot.startswith("plan."):
        return cube.header.recorded
    return cube.header.valid_from or cube.header.recorded


def _close(fact: Fact, rivals: Sequence[MemCube]) -> Operation | None:
    """The open fact that an ending names; without a name, the only one of its slot."""
    candidates = [cube for cube in rivals if claim_of(cube).polarity and _is_ended(fact, cube)]
    if not candidates or (fact.claim.value is None and len(candidates) > 1):
        return None
    return Operation("close", fact, f"An ending is told of {_quote(candidates[0])}.", candidates[0])


def _is_ended(fact: Fact, cube: MemCube) -> bool:
    new, old = fact.claim, claim_of(cube)
    if old.slot is None or new.slot is None or old.slot.startswith("former."):
        return False
    if new.slot != "ended" and base(old.slot) not in {base(slot) for slot in reached(new.slot) if slot}:
        return False
    if new.value is None:
        return old.slot in (new.slot, "marital" if new.slot == "partner" else new.slot)
    if new.slot == "ended" and old.slot.startswith("plan."):
        return same_value("plan", stem_words(new.value), old.slot.split(".")[1])
    if old.slot == "pet" and names(cube.header.entities) - {old.value, old.subject.casefold()} - {new.value}:
        return False  # "a dog named Rex and a cat named Tom": Tom lives
    return old.slot not in IMMUTABLE and same_value(old.slot, new.value, old.value)


def stem_words(text: str) -> str:
    return " ".join(stem(word) for word in text.split())


def _switch(fact: Fact, observed: datetime, known: Sequence[MemCube]) -> Operation | None:
    """ "switched from X to Y", "I meant Y, not X": whichever attribute has the value X gets Y.

    Only a correction reaches attributes that cannot change, and it reaches nothing that has many values.
    """
    claim = fact.claim
    kind, _, source = (claim.slot or "").partition(".")
    if claim.modality != "asserted" or not claim.polarity:
        return None
    for cube in known:
        old = claim_of(cube)
        if not old.slot or not old.polarity or old.modality != "asserted":
            continue
        reaches = (
            is_functional(old.slot) or old.slot in IMMUTABLE if kind == "correction" else old.slot not in IMMUTABLE
        )
        if reaches and same_value(old.slot, source, old.value):
            moved = replace(fact, claim=replace(claim, slot=old.slot))
            return _in_order(moved, observed, cube)
    return None


def _immutable(fact: Fact, known: Sequence[MemCube]) -> Operation | None:
    claim = fact.claim
    for cube in known:
        old = claim_of(cube)
        if old.slot != claim.slot or claim.slot is None or same_value(claim.slot, claim.value, old.value):
            continue
        if claim.modality == "asserted" and claim.polarity and _CORRECTION.search(fact.text):
            return Operation("supersede", fact, f"A correction of {claim.slot}; before: {_quote(cube)}.", cube)
        return Operation("add", fact, f"conflict: {claim.slot} does not change, yet it differs from {_quote(cube)}.")
    return None


def _quote(cube: MemCube) -> str:
    text = _BRACKETS.sub("", cube.text)
    return f'"{text if len(text) <= 80 else text[:79] + "…"}"'
