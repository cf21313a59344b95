"""Slots that the nouns tell rather than the verb: "my phone number is", "Blue is my favourite colour", dates of plans.

Here the owner stands in the subject ("my sister's car" belongs to the sister), or the data show by their form what
they are: an e-mail address, a telephone number, a street address, given as the speaker's own.
"""

from __future__ import annotations

import re
from datetime import datetime

from lamina.text.english.clause import Clause
from lamina.text.english.letters import UPPER
from lamina.text.english.lexicon import CATEGORIES, PARTNERS, RELATIONS, words
from lamina.text.english.limits import leaves_room
from lamina.text.english.readings import NAME, PERSON, PHRASE, VAGUE_FAVOURITE, Found, head_noun
from lamina.text.english.slots import normal, stem
from lamina.text.time import resolve

_OWNER = re.compile(rf"^(?P<owner>(?:[Mm]y|[Oo]ur) (?:[\w-]+ ){{0,2}}?[\w-]+|[{UPPER}][\w-]+)'s? (?P<noun>[\w' -]+)$")
_OWN = re.compile(r"^(?:[Mm]y|[Oo]ur) (?:(?:new|current|own|personal|main|full|home) )*(?P<noun>[\w' -]+)$")
_KIND = words("work office school business company university uni")
_FAVOURITE = re.compile(
    r"^(?:all-time |absolute |new |current )*fav(?:e|ou?rite)? (?P<n>[\w' -]+)$|^go-to (?P<g>[\w' -]+)$"
)
_PARTLY = re.compile(r"\s*(?:in|for|at|on|when|as|during|among|with)\b")
_IS_KIN = re.compile(rf"(?:my|our) (?:[a-z]+ )?(?P<kin>{'|'.join(sorted(RELATIONS))})(?=[\s.!]*$| now\b| these days\b)")
_AFTER_FAVOURITE = "now|these|at|right|ever|of|by"
_FAVOURITE_REST = re.compile(
    r"\bmy (?:all-time |absolute |new |current )*fav(?:e|ou?rite)? "
    rf"(?P<n>[\w'-]+(?: (?!(?:{_AFTER_FAVOURITE}|so|and)\b)[\w'-]+)?)(?= *(?:$|[.,!;]|(?:{_AFTER_FAVOURITE})\b))"
)
_VALUE = re.compile(
    rf"^(?:(?:probably|definitely|still|now|called|named|actually) )*(?:an? |the )?(?:{NAME}|(?P<w>{PHRASE}))"
)
_NAMED = re.compile(rf"^(?:called |named )?{PERSON}(?=[\s.,!;]*(?:$|and\b|now\b)|[.,!])")
_BIRTHDAY = words("birthday birth_date birthdate date_of_birth dob")
_BORN = re.compile(r"born (?:on|in) (?:the )?$")
# "I meant Austin, not Boston": both are names or numbers, so that "it's coffee, not tea" corrects nothing.
_DATUM = rf"(?:[{UPPER}+\d][\w'@.+-]*\w)(?: [{UPPER}\d][\w'.-]*\w)*"
_CORRECTED = re.compile(
    r"\b(?:I (?:meant|mean)|(?:it|that) (?:is|was|should be|should have been)|make (?:it|that))"
    rf" (?:in |at |on )?(?P<v>{_DATUM}),? (?:and )?not (?:in |at |on )?(?P<x>{_DATUM})(?=[\s.,!]*$)"
)
_HOUSE = re.compile(r"^(?:little |small |big |tiny )*(?:apartment|flat|house|home|place|condo)$")
_IN_NAME = re.compile(rf"^(?:right )?in {NAME}")
_HOUSE_IN = re.compile(rf"\b(?:my|our) (?:[\w-]+ ){{0,2}}(?:apartment|flat|house|home|place|condo) in {NAME}")
_ELSEWHERE = re.compile(
    r"\b(?:vacation|holiday|summer|beach|childhood|old|parents'?|former|rental|second|dream)\b", re.I
)
_JOB = words("job job_title title occupation profession position role")
_MOVED = (
    r"(?:set|scheduled|moved|pushed|rescheduled|postponed|bumped|shifted|delayed|planned|booked|due|changed|brought)"
)
_DATED = re.compile(
    rf"^(?:(?:been|now|actually|only) )*(?:{_MOVED} )?(?:back |forward )?(?:in )?"
    r"(?:for |to |on |until |till |by |from )?(?:the )?$"
)
_SHIFT = re.compile(
    r"^(?:back )?(?:my|our|the) (?P<event>[\w' -]+?) (?:back |forward |in )?(?:to|for|until|till) (?:the )?$"
)
_HAVE_EVENT = re.compile(
    r"^(?:an? |my |our |the )(?P<event>[\w' -]+?) (?:on |at |for |scheduled |booked |set |for |coming up |the )*$"
)
_DUE = re.compile(r"^(?:due|expected|booked in) at the (?P<event>[\w-]+) (?:on )?(?:the )?$")
_EVENT_NOUN = words("""
appointment meeting exam interview flight wedding party conference recital concert trip test deadline lesson
class surgery operation checkup check-up reunion ceremony graduation presentation call housewarming viewing race
marathon game match session audition workshop festival show performance tournament competition delivery hearing
funeral christening baptism shower rehearsal retreat vacation holiday gig dinner lunch brunch barbecue bbq
picnic therapist dentist doctor move launch demo review scan procedure
""")
_DAYLIKE = ("day", "hour", "minute", "part", "range", "weekend")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_PHONE = re.compile(r"(?<![\w.@/-])\+?\(?\d[\d ().-]{5,}\d(?![\w@/-])")
_STREET = (
    "Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Court|Ct|Close|Boulevard|Blvd|Way|Place|Pl|Square|Sq|Terrace|Crescent|Hill"
    "|Row|Gardens|Grove|Parkway|Highway|Walk|Mews"
)
_ADDRESS = re.compile(rf"\b\d{{1,5}}[A-Za-z]? (?:[{UPPER}][\w'.]+ ){{1,3}}(?:{_STREET})\b")
_DATA = re.compile(r"[\d@]", re.A)
_MINE = re.compile(
    r"\bme\b|\bI am\b|\bI (?:have|use|changed|live|moved|gave up)\b|\bfrom now on\b|\bwe (?:are|live|moved|have)\b"
    r"|\b(?:my|our) (?:[\w-]+ )?"
    r"(?:e-?mail|gmail|inbox|address|number|cell|phone|mobile|digits|line|sim|place|house|office|home|contact|details|entry)\b",
    re.I,
)
_ASIDE = re.compile(r"^(?:if (?!you (?:need|want) )|unless|for refunds|for help)\b", re.I)
# "I gave up a@x.org and use b@y.org": the last of two is the one in use.
_GAVE_UP = re.compile(r"\b(?:gave up|given up|dropped|closed|replaced|switched|changed|moved|no longer)\b", re.I)


def split_subject(subject: str) -> tuple[str, str]:
    """Whose and what: "my boss's email" -> ("my boss", "email"), "my email" -> ("I", "email"), "Tom" -> ("Tom", "").

    "my sister" is a person, not an attribute: ("my sister", "").
    """
    m = _OWNER.match(subject)
    if m:
        return m["owner"], m["noun"].lower()
    m = _OWN.match(subject)
    if m:
        noun = m["noun"].lower()
        kin = [w for w in noun.split() if w in RELATIONS]
        return (subject, "") if kin and "favorite" not in noun and "favourite" not in noun else ("I", noun)
    return subject, ""


def correction(text: str) -> Found | None:
    """ "Sorry, I meant Austin, not Boston": whichever attribute was given as Boston is Austin."""
    m = _CORRECTED.search(text)
    return Found(f"correction.{normal(m['x'])}", normal(m["v"]), "event") if m else None


def by_noun(clause: Clause, owner: str, noun: str, anchor: datetime) -> Found | None:
    """What a clause with a noun for its subject says, if anything."""
    if clause.verb in (
        "be",
        "get",
        "move",
        "have",
        "push",
        "reschedule",
        "postpone",
        "shift",
        "delay",
        "bump",
        "fall",
        "see",
        "put",
    ):
        planned = _plan_date(clause, noun, anchor)
        if planned is not None:
            return planned
    if clause.verb != "be":
        return _house_in(clause)
    if noun in _BIRTHDAY or (owner == "I" and clause.rest.startswith("born ")):
        return _birth(clause, noun, anchor)
    if noun:
        return _of_noun(clause, noun)
    return _of_complement(clause, owner)


def death(clause: Clause) -> Found | None:
    """ "Our dog Rex died": what is known of Rex as a living pet ends."""
    if clause.verb != "die" and not (clause.verb == "pass" and re.match(r"away\b", clause.rest)):
        return None
    named = re.findall(rf"(?<!^)\b[{UPPER}][\w-]+|^(?!My\b|Our\b|The\b|I\b|We\b)[{UPPER}][\w-]+", clause.subject)
    own = clause.subject.lower().startswith(("my ", "our "))
    value = named[-1] if named else head_noun(clause.subject) if own and "'s" not in clause.subject else ""
    return Found("ended", normal(value), "end", negative=True) if value else None


def _of_noun(clause: Clause, noun: str) -> Found | None:
    rest = clause.rest
    relation = noun.removesuffix("'s name").removesuffix(" name").removesuffix("'s") if "name" in noun else noun
    favourite = _FAVOURITE.match(noun)
    if favourite:
        return _favourite(favourite["n"] or favourite["g"], rest)
    if noun in ("name", "first name", "last name") and (m := _NAMED.match(rest)):
        return Found("name", normal(m["v"]))
    if relation in RELATIONS and (m := _NAMED.match(rest)):
        return Found(_kin_slot(relation), normal(m["v"]))
    if _HOUSE.match(noun) and (m := _IN_NAME.match(rest)):
        return Found("residence", normal(m["v"]))
    if noun in _JOB and (m := _VALUE.match(rest)):
        return Found("title", normal(m["v"] or m["w"]))
    if noun == "major" and (m := _VALUE.match(rest)):
        return Found("major", normal(m["v"] or m["w"]))
    if noun in CATEGORIES and (m := re.match(rf"(?:now )?(?:an? |the )?(?:new )?{NAME}", rest)):
        return Found(f"uses.{CATEGORIES[noun]}", normal(m["v"]))
    return None


def _birth(clause: Clause, noun: str, anchor: datetime) -> Found | None:
    """ "03-03" of "my birthday is on March 3rd", with the year or the year alone where it is said."""
    spans = resolve(clause.rest, anchor)
    if not spans or not (noun or _BORN.match(clause.rest[: spans[0].char_start])):
        return None
    day, dated = spans[0].start, re.search(r"\d{4}", spans[0].text)
    if spans[0].granularity == "year" and dated and not noun:
        return Found("birth", f"{day:%Y}", "event")
    if spans[0].granularity != "day":
        return None
    return Found("birth", f"{day:%Y-%m-%d}" if dated else f"{day:%m-%d}", "event")


def kin_name(clause: Clause, owner: str) -> Found | None:
    """ "My girlfriend is Anna": the subject is the person, the slot the speaker's."""
    if clause.verb != "be" or not owner.lower().startswith(("my ", "our ")):
        return None
    relation = owner.lower().split()[-1]
    m = _NAMED.match(clause.rest)
    if relation not in RELATIONS or m is None:
        return None
    return Found(_kin_slot(relation), normal(m["v"]))


def _kin_slot(relation: str) -> str:
    return "partner" if relation in PARTNERS else f"relative.{relation}"


def _favourite(thing: str, rest: str) -> Found | None:
    m = _VALUE.match(rest)
    key = normal(thing)
    if m is None or not key or key.split()[0] in VAGUE_FAVOURITE:
        return None
    slot = " ".join(s for s in (stem(w) for w in key.split()) if s)
    tail = rest[m.end() :]  # "in autumn", "for walls": one favourite of several
    some = _PARTLY.match(tail) is not None and leaves_room(tail, dated=False)
    return Found(f"favourite.{slot}{'.also' if some else ''}", normal(m["v"] or m["w"]))


def _of_complement(clause: Clause, owner: str) -> Found | None:
    """ "Blue is my favourite colour", "Denver is home", "Chrome is my browser"."""
    m = _FAVOURITE_REST.search(clause.rest)
    if m and owner and owner.lower() not in ("it", "that", "this", "he", "she", "they", "i", "one", "these", "those"):
        return _favourite(m["n"], owner) if not re.match(r"one of", clause.rest) else None
    named = owner[:1].isupper() and owner.lower() not in (
        "i",
        "it",
        "he",
        "she",
        "we",
        "they",
        "you",
        "that",
        "this",
    )
    if owner.lower() == "home" and (m := _IN_NAME.match(f"in {clause.rest}")):
        return Found("residence", normal(m["v"]))
    if named and re.match(r"(?:my |our )?(?:new )?home\b(?! (?:to|of|for the|from)\b)", clause.rest):
        return Found("residence", normal(owner))
    kin = _IS_KIN.match(clause.rest)
    if named and kin and not clause.negated:  # "May is my sister"
        return Found(_kin_slot(kin["kin"]), normal(owner))
    m = re.match(r"my (?:new )?([\w ]+?)(?= *(?:$|[.,!;]|now\b|these days))", clause.rest)
    if named and m and m[1].lower() in CATEGORIES:
        return Found(f"uses.{CATEGORIES[m[1].lower()]}", normal(owner))
    return _house_in(clause)


def _house_in(clause: Clause) -> Found | None:
    """The speaker's own home, mentioned in passing: "loving my new flat in Lyon"."""
    if clause.tense == "past" and clause.verb not in ("settle", "get", "move"):
        return None
    m = _HOUSE_IN.search(clause.rest)
    return Found("residence", normal(m["v"]), "event") if m and not _ELSEWHERE.search(m[0]) else None


def _plan_date(clause: Clause, noun: str, anchor: datetime) -> Found | None:
    """The day of a coming event: "the exam is on", "has been moved to", "I have a dentist appointment on"."""
    spans = [s for s in resolve(clause.rest, anchor) if s.granularity in _DAYLIKE]
    if not spans:
        return None
    before, event = clause.rest[: spans[0].char_start], ""
    subject = noun or re.sub(r"^(?:the|our|my|his|her) ", "", clause.subject.lower())
    moved = re.search(rf"^(?:now |been )*{_MOVED}\b", before)
    if clause.verb in ("be", "get", "fall") and _DATED.match(before) and (clause.tense != "past" or moved):
        event = subject
    elif clause.verb == "be" and (m := _DUE.match(before)):
        event = m["event"]
    elif clause.verb == "see" and "can" in clause.flags and re.match(r"(?:me|us) (?:on )?(?:the )?$", before):
        event = subject  # "the dentist can see me on"
    elif clause.verb == "have" and clause.tense == "present" and (m := _HAVE_EVENT.match(before)):
        event = m["event"]
    elif clause.verb in ("push", "move", "reschedule", "postpone", "shift", "delay", "bump", "put"):
        m = _SHIFT.match(before)
        event = m["event"] if m else ""
    words_ = event.split()
    if not words_ or (
        subject in ("it", "that", "this", "there", "i", "we", "he", "she", "they", "today") and event == subject
    ):
        return None
    kinds = {head_noun(w) for w in words_}
    if not kinds & _EVENT_NOUN:
        return None
    named = [w for w in normal(event).split() if w not in ("with", "next", "for", "at", "about", "upcoming")]
    visit = [w for w in named if w not in ("appointment", "checkup", "check-up")]  # with the dentist: the dentist
    key = " ".join(stem(w) for w in visit or named)
    return Found(f"plan.{key}.date", spans[0].start.isoformat(timespec="minutes"), "event")


def contact(text: str, noun: str, *, owned: bool = False) -> Found | None:
    """An address, number or e-mail that the words give as the owner's; ``noun`` is what the subject calls it;
    ``owned``: the subject says whose ("my boss's email")."""
    if not _DATA.search(text) or _ASIDE.match(text) or not (owned or _MINE.search(text)):
        return None
    kind = next((f".{w}" for w in re.findall(r"[a-z]+", noun) if w in _KIND), "").replace(".work", ".office")
    if emails := list(_EMAIL.finditer(text)):
        if len(emails) > 1 and not _GAVE_UP.search(text[: emails[0].start()]):
            return None  # which of them is in use?
        return Found(f"email{kind}", emails[-1][0].lower())
    if m := _ADDRESS.search(text):
        return Found(f"address{kind}", normal(m[0]))
    m = _PHONE.search(text)
    if m and 7 <= sum(c.isdigit() for c in m[0]) <= 15 and not re.match(r"\d{4}-\d\d-\d\d", m[0]):
        return Found(f"phone{kind}", re.sub(r"[^\d+]", "", m[0]))
    return None
