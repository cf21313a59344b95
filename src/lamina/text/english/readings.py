"""What the words after a verb mean for a slot: one small function a kind of attribute, and the shapes they read.

A reading gets the match of a row of ``families`` and the parsed clause, and returns the slot and value it finds
or ``None`` where the words only look alike ("I work at night", "I'm seeing the dentist", "I loved the show").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lamina.text.english.clause import Clause
from lamina.text.english.letters import LOWER, UPPER
from lamina.text.english.lexicon import (
    ANIMALS,
    CATEGORIES,
    COUNTABLE,
    HABITS,
    INSTRUMENTS,
    LANGUAGES,
    OCCUPATIONS,
    PRODUCTS,
    SPORTS,
    STOP,
    words,
)
from lamina.text.english.limits import is_limited, leaves_room
from lamina.text.english.numbers import parse_number
from lamina.text.english.slots import normal, stem
from lamina.text.english.verbs import is_ing_verb

Kind = Literal["state", "event", "done", "end"]


@dataclass(frozen=True, slots=True)
class Found:
    """A slot filled by a clause; ``value`` is normalised, ``None`` where an ending names none."""

    slot: str
    value: str | None
    kind: Kind = "state"
    negative: bool = False  # the words themselves deny ("hate", "broke up"), whatever the clause's polarity


Check = Callable[[re.Match[str], Clause], Found | None]


# A name: capitalised words, with small words between them ("University of Leeds", "Trader Joe's").
CAP = rf"(?!I\b)i?[{UPPER}0-9][\w&'.-]*"
NAME = rf"(?P<v>(?:[Tt]he )?(?=i?[{UPPER}]|\d+[A-Z]){CAP}(?:,? (?:(?:of|de|del|la|the|&) )?{CAP})*)"
PERSON = rf"(?P<v>[{UPPER}][{LOWER}'-]+(?: [{UPPER}][{LOWER}'-]+){{0,2}})"
# A plain noun phrase, up to where the clause goes on to something else.
STOPS = (
    r"and|but|or|because|since|for|with|which|who|that|where|when|while|so|as|after|before|until|if|now|these|anymore"
    r"|any|again|right|currently|nowadays|at|in|on|from|to|by|last|next|this|yesterday|today|tomorrow|instead|too|lately"
    r"|of late|every|each|anyway|per|than|then|is|are|was|were|has|have|had|recently|already|all|just|here|there|though"
    r"|up|off"
)
_NOT_FIRST = rf"(?!(?:{STOPS}|me|it|him|them|you|that|this|how|what|to|your|being|there)\b)"
PHRASE = rf"{_NOT_FIRST}[\w'&-]+(?: (?!(?:{STOPS})\b)[\w'&-]+){{0,3}}"
THING = rf"(?P<v>{PHRASE})"
SOME = rf"(?:an? |the |my |our |some |another |these |those )?{THING}"
_ADJ = r"(?:[\w-]+ ){0,3}?"
_NEVER_EMPLOYER = words(
    "home night least first times living myself ourselves free fun it that them him her hours the a now"
)
CALENDAR = words("""
monday tuesday wednesday thursday friday saturday sunday january february march april may june july august
september october november december
""")
_KEPT = COUNTABLE | frozenset(CATEGORIES)
BAD_OBJECT = words("""
it that this them him her you everything nothing something anything one all us me what how when being way idea
same
""")
DIETS = words("vegan vegetarian pescatarian pescetarian omnivore flexitarian carnivore plant-based veggie")
REGIMES = words("keto ketogenic paleo mediterranean low-carb carnivore atkins dash whole30 gluten-free")
_MARITAL = {word: word for word in ("single", "married", "engaged", "divorced", "widowed", "separated")} | {
    "hitched": "married",
    "a widow": "widowed",
    "a widower": "widowed",
    "in a relationship": "relationship",
    "in a serious relationship": "relationship",
}
VAGUE_FAVOURITE = words("part thing moment time memory memories one ones way day spot")
CHANGE = words("now nowadays currently began anymore instead recently become") | {
    "these days",
    "right now",
    "at the moment",
}


def is_name_like(value: str) -> bool:
    first, *others = value.split()
    newer = first == "New" and len(others) > 0 and others[0][0].isupper()  # New York
    return newer or first.lower().strip(".") not in CALENDAR | STOP


def employer(m: re.Match[str], _clause: Clause) -> Found | None:
    value = normal(m["v"])
    if not value or set(value.split()) & (_NEVER_EMPLOYER | CALENDAR) or parse_number(value.split()[0]) is not None:
        return None
    return Found("employer", value)


def head_noun(phrase: str) -> str:
    """The last word of a noun phrase, singular: "two lovely cats" -> "cat"."""
    word = phrase.lower().split()[-1]
    if word in COUNTABLE or word in OCCUPATIONS:
        return word
    irregular = {"children": "child", "puppies": "puppy", "mice": "mouse", "geese": "goose", "wives": "wife"}
    if word in irregular:
        return irregular[word]
    for ending, to in (("ies", "y"), ("es", ""), ("s", "")):
        if word.endswith(ending) and word[: -len(ending)] + to in COUNTABLE | OCCUPATIONS:
            return word[: -len(ending)] + to
    return word.removesuffix("s") if len(word) > 3 and not word.endswith("ss") else word


def is_trade(phrase: str) -> bool:
    low = phrase.lower()
    return low in OCCUPATIONS or head_noun(low) in OCCUPATIONS or low.split()[-1].endswith(("ologist", "ographer"))


def role(m: re.Match[str], clause: Clause) -> Found | None:
    """ "I'm a nurse" may be one role of several; "I'm a nurse now" tells of a change."""
    if not is_trade(m["v"]):
        return None
    changed = clause.flags & CHANGE or "these days" in clause.lead or "now" in clause.lead
    return Found("title" if changed else "role", normal(m["v"]))


def title(m: re.Match[str], _clause: Clause) -> Found | None:
    return Found("title", normal(m["v"])) if is_trade(m["v"]) else None


def marital(m: re.Match[str], _clause: Clause) -> Found | None:
    return Found("marital", _MARITAL[m["v"].lower()])


def partner(m: re.Match[str], _clause: Clause) -> Found | None:
    return Found("partner", normal(m["v"])) if is_name_like(m["v"]) else None


def split_up(m: re.Match[str], clause: Clause) -> Found | None:
    """ "Tom and I broke up", "I broke up with Omar"; "we split up" names nobody."""
    named = m["v"] or _companion(clause.subject)
    if not named and clause.subject.lower() not in ("we", "i"):
        return None
    return Found("partner", normal(named) if named else None, "end", negative=True)


def _companion(subject: str) -> str | None:
    """The other one in "Tom and I", "me and Lucy"."""
    m = re.fullmatch(rf"([{UPPER}]\w+) and (?:I|me)|(?:[Mm]e|I) and ([{UPPER}]\w+)", subject)
    return (m[1] or m[2]) if m else None


def divorced(_m: re.Match[str], _clause: Clause) -> Found | None:
    return Found("marital", "divorced")


def seeing(m: re.Match[str], clause: Clause) -> Found | None:
    """ "I've been seeing Ana" is a relationship, "I'm seeing Ana on Friday" an appointment."""
    lasting = clause.progressive and clause.tense == "perfect"
    return partner(m, clause) if lasting else None


def couple(_m: re.Match[str], clause: Clause) -> Found | None:
    named = _companion(clause.subject)
    return Found("partner", normal(named)) if named else None


def diet(m: re.Match[str], _clause: Clause) -> Found | None:
    value = m["v"].lower()
    value = {"veggie": "vegetarian", "plant-based": "vegan", "pescetarian": "pescatarian", "ketogenic": "keto"}.get(
        value, value
    )
    if value in REGIMES:
        return Found("regime", value)
    return Found("diet", value) if value in DIETS else None


def meat(_m: re.Match[str], clause: Clause) -> Found | None:
    if clause.negated:
        return Found("diet", "vegetarian", negative=False)
    return Found("diet", "omnivore")


def no_meat(_m: re.Match[str], _clause: Clause) -> Found | None:
    return Found("diet", "vegetarian")


def count(m: re.Match[str], clause: Clause) -> Found | None:
    number, noun = parse_number(m["n"]), m["v"].lower()
    if number is None or "named" in noun:
        return None
    nouns = [head_noun(word) for word in noun.split()]
    at = next((i for i, word in enumerate(nouns) if word in COUNTABLE), None)
    if at is None and clause.verb == "own":
        at = len(nouns) - 1
    if at is None or (nouns[at + 1 : at + 2] and not is_ing_verb(noun.split()[at + 1])):
        return None  # "two car loans"
    tail = _AT_HOME.sub("", re.split(r"\b(?:and|plus|named|called)\b", clause.rest[m.end() :])[0])
    some = (
        clause.verb != "be"
        and bool(  # "down to five" tells of a change
            set(noun.split()[:at]) - _PRAISE or nouns[at + 1 :] or leaves_room(tail, dated=False)
        )
    )
    return Found(f"count.{stem(nouns[at])}{'.also' if some else ''}", str(number))  # "two cats in Rome" beside three


_AT_HOME = re.compile(r"\b(?:at home|in (?:the|our|my) (?:yard|garden|house|home|flat|apartment|barn))\b")
_PRAISE = words("lovely beautiful wonderful great sweet cute adorable amazing awesome gorgeous little")


def pet(m: re.Match[str], _clause: Clause) -> Found | None:
    kind = m["kind"].lower()
    if head_noun(kind) not in ANIMALS and kind not in ANIMALS:
        return None
    return Found("pet", normal(m["name"]) if m["name"] else head_noun(kind))


def language(_m: re.Match[str], clause: Clause) -> Found | None:
    spoken = [m for m in list(re.finditer(r"\w+", clause.rest.lower()))[:4] if m[0] in LANGUAGES]
    if not spoken or (clause.negated and is_limited(clause, clause.rest[spoken[0].end() :], happened=clause.ended)):
        return None
    return Found("language", spoken[0][0])


def plays(m: re.Match[str], _clause: Clause) -> Found | None:
    value = normal(m["v"])
    return Found("skill", value) if value and value.split()[-1] in INSTRUMENTS | SPORTS else None


def habit(_m: re.Match[str], clause: Clause) -> Found | None:
    if clause.verb not in HABITS or (clause.tense != "present" and not clause.ended):
        return None
    if (clause.progressive and not clause.ended) or "can" in clause.flags:
        return None
    return Found("habit", stem(clause.verb))


def product(m: re.Match[str], _clause: Clause) -> Found | None:
    value = normal(m["v"])
    category = next((PRODUCTS[w] for w in (value, *value.split()) if w in PRODUCTS), None)
    return Found(f"uses.{category}", value) if category else None


def used_as(m: re.Match[str], _clause: Clause) -> Found | None:
    category = CATEGORIES.get(m["c"].lower())
    return Found(f"uses.{category}", normal(m["v"])) if category else None


def car(m: re.Match[str], clause: Clause) -> Found | None:
    return Found("uses.car", normal(m["v"])) if clause.tense == "present" and normal(m["v"]) else None


def switch(m: re.Match[str], _clause: Clause) -> Found | None:
    return Found(f"switch.{normal(m['x'])}", normal(m["v"]), "event")


def visit(m: re.Match[str], clause: Clause) -> Found | None:
    if clause.tense == "present" or not is_name_like(m["v"]):
        return None
    return Found("visit", normal(m["v"]), "done")


def lost_job(m: re.Match[str], clause: Clause) -> Found | None:
    named = m.groupdict().get("v")
    if clause.verb == "leave" and m[0] == "work":
        return None  # for the day
    return Found("employer", normal(named) if named else None, "end", negative=True)


def started_at(m: re.Match[str], clause: Clause) -> Found | None:
    school = re.search(r"\b(?:University|College|School|High|Academy|Institute|Uni)\b", m["v"])
    return Found("school", normal(m["v"])) if school else employer(m, clause)


def no_more(m: re.Match[str], clause: Clause) -> Found | None:
    return Found("ended", normal(m["v"]), "end", negative=True) if clause.ended else None


def thing_ended(m: re.Match[str], clause: Clause) -> Found | None:
    value = normal(re.sub(r"\b(?:subscription|membership|account)$", "", m["v"]).strip())
    first = value.split()[0] if value else ""
    if clause.verb in ("leave", "drop", "stop", "end", "quit") and head_noun(value or "it") in _KEPT:
        return None  # "I left my bike", "I dropped my phone", "I stopped the car"
    return Found("ended", value, "end", negative=True) if value and first not in BAD_OBJECT else None


def age(m: re.Match[str], clause: Clause) -> Found | None:
    number = parse_number(m["v"])
    if number is None or re.search(r"couple|dozen", m["v"]) or not 0 < number < 120:
        return None
    return Found("age", str(number), "event" if clause.verb in ("turn", "hit") else "state")


def possession(m: re.Match[str], _clause: Clause) -> Found | None:
    value = normal(m["v"])
    return Found("possession", head_noun(value)) if value and value.split()[0] not in BAD_OBJECT else None


def _subscription(m: re.Match[str], _clause: Clause) -> Found | None:
    return Found("subscription", normal(m["v"])) if normal(m["v"]) else None


def tied_the_knot(_m: re.Match[str], _clause: Clause) -> Found | None:
    return Found("marital", "married")


def goes_doing(m: re.Match[str], clause: Clause) -> Found | None:
    regular = clause.tense == "present" and not clause.progressive and clause.modality == "asserted"
    return Found("habit", stem(m["v"])) if regular else None


def dropped_out(_m: re.Match[str], _clause: Clause) -> Found | None:
    return Found("school", None, "end", negative=True)


def birthplace(m: re.Match[str], _clause: Clause) -> Found | None:
    return Found("birthplace", normal(m["v"]), "event") if is_name_like(m["v"]) else None


END = r"(?=[\s,.;:!?)]*$|[,.;:!?]|\s+(?:" + STOPS + r"|years|yrs|old)\b)"
_SCHOOL_KIND = "University|College|School|High|Academy|Institute|Uni"
SCHOOL = rf"(?P<v>(?:the )?(?:{CAP} ){{0,4}}(?:{_SCHOOL_KIND})(?: of {CAP}(?: {CAP})*)?)"
SINCE_JOB = r"(?:an? |my |the )?(?:[\w-]+ ){0,3}?(?:job|position|role|gig|work|internship)"
