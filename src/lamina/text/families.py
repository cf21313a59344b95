"""Pattern families: what a parsed clause says about which attribute of its subject.

A row says: after one of these verbs, a rest that begins like this fills that slot. Since ``clause.parse`` has
dealt with tense, negation, plans and endings, a row stays one short pattern, and each row serves "I live in",
"I've been living in", "my sister no longer lives in" alike. Kinds of row:

``state``  holds now; in the past tense it is a ``former.`` fact that ends nothing
``event``  brings a state about ("moved to"); its past tense asserts the state from then on
``done``   happened ("visited"); many values, never ends anything
``end``    ends the value it names ("sold my boat")
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lamina.text import readings
from lamina.text.clause import Clause
from lamina.text.lexicon import ANIMALS, CATEGORIES, HABITS, PARTNERS
from lamina.text.numbers import NUMBER
from lamina.text.readings import (
    CAP,
    DIETS,
    END,
    NAME,
    PERSON,
    REGIMES,
    SCHOOL,
    SINCE_JOB,
    SOME,
    STOPS,
    THING,
    Check,
    Found,
    Kind,
)
from lamina.text.slots import normal


@dataclass(frozen=True, slots=True)
class Family:
    verbs: frozenset[str]
    pattern: re.Pattern[str]
    slot: str
    kind: Kind
    check: Check | None
    negative: bool


def _family(
    verbs: str, slot: str, kind: Kind, *pattern: str, check: Check | None = None, negative: bool = False
) -> Family:
    return Family(frozenset(verbs.split()), re.compile("".join(pattern)), slot, kind, check, negative)


FAMILIES: tuple[Family, ...] = (
    # where one lives
    _family("live reside settle stay", "residence", "state", rf"^(?:[\w]+ ){{0,2}}?in {NAME}", check=readings.place),
    _family("be", "residence", "state", rf"^(?:based|living|settled|located) (?:\w+ )?in {NAME}", check=readings.place),
    _family("move relocate", "residence", "event", rf"^(?:\w+ ){{0,4}}?(?:to|into) {NAME}", check=readings.place),
    # where one works
    _family(
        "start accept take",
        "employer",
        "event",
        rf"^(?:as an? [\w -]{{2,30}}? )?{SINCE_JOB} (?:at|with|for|in) (?:an? |the )?{NAME}",
        check=readings.employer,
    ),
    _family("start begin", "employer", "event", rf"^(?:[\w-]+ )?at {NAME}", check=readings.started_at),
    _family(
        "get land find accept take start",
        "title",
        "event",
        rf"^{SINCE_JOB} as (?:an? |the ){THING}",
        check=readings.title,
    ),
    _family(
        "get land find have accept take",
        "employer",
        "event",
        rf"^{SINCE_JOB} (?:at|with) (?:an? |the )?{NAME}",
        check=readings.employer,
    ),
    _family("be get", "employer", "event", rf"^(?:employed|hired) (?:by|at) {SOME}", check=readings.employer),
    _family(
        "work",
        "employer",
        "state",
        rf"^(?:[\w-]+ ){{0,3}}?(?:at|for) (?:an? |the |my )?{NAME}",
        check=readings.employer,
    ),
    _family("work", "employer", "state", rf"^(?:[\w-]+ )??(?:at|for) (?:an? |the ){THING}", check=readings.employer),
    _family(
        "leave quit",
        "employer",
        "end",
        rf"^(?:my |the )?(?:job|work|position|role|company)(?: (?:at|with) {NAME})?",
        check=readings.lost_job,
        negative=True,
    ),
    _family("lose", "employer", "end", rf"^my job(?: (?:at|with) {NAME})?", check=readings.lost_job, negative=True),
    _family(
        "be get",
        "employer",
        "end",
        rf"^(?:fired|sacked|laid off|let go|made redundant)(?: (?:from|by|at) {NAME})?",
        check=readings.lost_job,
        negative=True,
    ),
    _family("resign retire", "employer", "end", rf"^(?:from {NAME})?", check=readings.lost_job, negative=True),
    # what one is
    _family("work", "title", "state", rf"^(?:[\w-]+ )?as (?:an? |the ){THING}", check=readings.title),
    _family("become", "title", "event", rf"^(?:an? |the ){THING}", check=readings.title),
    _family("be get", "title", "event", rf"^(?:promoted|hired) (?:to|as) (?:an? |the )?{THING}", check=readings.title),
    _family("make", "title", "event", rf"^me (?:an? |the |their )?{THING}", check=readings.title),
    _family("retrain train", "title", "event", rf"^as an? {THING}", check=readings.title),
    # study
    _family("major", "major", "state", rf"^in {THING}"),
    _family("do pursue get finish study", "major", "state", rf"^(?:for )?(?:an? |my )?(?:[\w']+ )?degree in {THING}"),
    _family("switch change", "major", "event", rf"^(?:my )?(?:major|course|degree) (?:from [\w ]+ )?to {THING}"),
    _family("study", "school", "state", rf"^(?:[\w-]+ )??at {NAME}"),
    _family("go attend", "school", "state", rf"^(?:to )?{SCHOOL}"),
    _family("transfer", "school", "event", rf"^(?:\w+ )?to {NAME}"),
    _family("be", "school", "state", rf"^(?:an? )?(?:[\w-]+ ){{0,2}}student at {NAME}"),
    _family("study", "studies", "state", rf"^(?!for\b|at\b|with\b|in\b){THING}"),
    # relationships
    _family("be get", "partner", "state", rf"^(?:already |happily )?married to {PERSON}", check=readings.partner),
    _family("marry", "partner", "event", rf"^{PERSON}", check=readings.partner),
    _family(
        "be",
        "marital",
        "state",
        r"^(?:happily |still )?(?P<v>single|married|engaged|divorced|widowed|separated|in a ",
        rf"(?:serious )?relationship|a widower?)(?! (?:in|by|from|to)\b){END}",
        check=readings.marital,
    ),
    _family(
        "get", "marital", "event", rf"^(?P<v>married|engaged|divorced|separated|hitched){END}", check=readings.marital
    ),
    _family("tie", "marital", "event", r"^the (?P<v>knot)", check=readings.tied_the_knot),
    _family("date", "partner", "state", rf"^{PERSON}", check=readings.partner),
    _family("date", "partner", "state", r"^[\s.,!]*$", check=readings.couple),
    _family(
        "break split",
        "partner",
        "end",
        rf"^up(?: with (?:(?:my \w+,? )?{PERSON})?)?",
        check=readings.split_up,
        negative=True,
    ),
    _family(
        "be",
        "partner",
        "state",
        rf"^(?:together|a couple|an item|an official couple|dating){END}",
        check=readings.couple,
    ),
    _family(
        "have",
        "partner",
        "state",
        rf"^an? (?:new )?(?:{'|'.join(sorted(PARTNERS))})(?:,| named| called) {PERSON}",
        check=readings.partner,
    ),
    # body and food
    _family(
        "be turn become",
        "age",
        "state",
        rf"^(?:only |exactly |about )?(?P<v>{NUMBER})(?: years? old| years? of age)?(?! (?:minutes?",
        r"|hours?|miles?|km|days?|weeks?|months?|years?|percent|of|feet|people|cm|pounds|kg)\b",
        rf"|%){END}",
        check=readings.age,
    ),
    _family(
        "be become go turn",
        "diet",
        "event",
        rf"^(?:an? )?(?:strict |fully |mostly )?(?P<v>{'|'.join(sorted(DIETS | REGIMES))})\b",
        check=readings.diet,
    ),
    _family(
        "follow do eat be start try",
        "diet",
        "state",
        rf"^(?:on )?(?:an? |the )?(?P<v>{'|'.join(sorted(DIETS | REGIMES))}|[Mm]editerranean|[Kk]eto)\b",
        check=readings.diet,
    ),
    _family("eat", "diet", "state", r"^(?:red )?(?P<v>meat)\b", check=readings.meat),
    _family("be", "allergy", "state", rf"^(?:[\w-]+ )?allergic to {SOME}"),
    _family("have", "allergy", "state", r"^an? (?:[\w-]+ )??(?P<v>[\w-]+) allergy"),
    _family("be", "allergy", "state", r"^(?P<v>[\w-]+)[ -]intolerant"),
    _family("be get", "health", "done", rf"^diagnosed with {SOME}"),
    _family(
        "have suffer",
        "health",
        "state",
        r"^(?:from )?(?:type \d )?(?P<v>diabetes|asthma|migraines?|epilepsy|arthritis|adhd|ADHD",
        r"|anxiety|depression|celiac disease|coeliac disease|insomnia|high blood pressure)\b",
    ),
    # tastes
    _family("love like enjoy adore prefer", "likes", "state", rf"^{SOME}", check=readings.likes),
    _family(
        "love like enjoy adore prefer",
        "likes",
        "state",
        rf"^to (?P<v>[a-z]+(?: (?!(?:{STOPS})\b)[\w'-]+)?)",
        check=readings.likes,
    ),
    _family("hate dislike detest loathe", "likes", "state", rf"^(?:to )?{SOME}", check=readings.likes, negative=True),
    _family("stand bear", "likes", "state", rf"^{SOME}", check=readings.likes),
    _family(
        "be",
        "likes",
        "state",
        r"^(?:an? )?(?:(?:really|huge|big|massive|great|die-hard|total|absolutely|very|so",
        r"|totally) )*(?:fan of|obsessed with|into|fond of|crazy about|passionate about|keen on",
        rf"|hooked on) {SOME}",
        check=readings.likes,
    ),
    # abilities and habits
    _family("speak", "language", "state", r"", check=readings.language),
    _family("play", "skill", "state", r"^(?:the )?(?P<v>[\w-]+)(?=\W|$)", check=readings.plays),
    _family(
        " ".join(HABITS),
        "habit",
        "state",
        r"^(?=[\s.!,]*$|(?:every|a lot|daily|regularly|occasionally|too|anymore|any|like|cigar))",
        check=readings.habit,
    ),
    _family(
        "go",
        "habit",
        "state",
        r"^(?P<v>[a-z]+ing)\b",
        check=readings.goes_doing,
    ),
    # animals, numbers, things
    _family(
        "have adopt get own keep rescue buy",
        "pet",
        "event",
        r"^(?:an? |the |another |our )(?:(?!second|new)[\w-]+ ){0,3}?",
        rf"(?P<kind>{'|'.join(sorted(ANIMALS, key=len, reverse=True))})\b,?(?: (?:and )?(?:(?:named",
        r"|called)(?: (?:him|her|it))? )?(?P<name>[A-Z][\w'-]+))?",
        check=readings.pet,
    ),
    _family(
        "have own keep raise",
        "count",
        "state",
        rf"^(?P<n>{NUMBER}) (?P<v>[\w-]+(?: (?!(?:{STOPS}|named|called)\b)[\w-]+){{0,2}})",
        check=readings.count,
    ),
    _family(
        "be",
        "count",
        "state",
        rf"^(?:now )?(?:up|down) to (?P<n>{NUMBER}) (?P<v>[\w-]+(?: (?!",
        rf"(?:{STOPS})\b)[\w-]+){{0,2}})",
        check=readings.count,
    ),
    _family(
        "have get buy",
        "subscription",
        "state",
        r"^(?:an? |the |my )(?P<v>[\w' ]{2,30}?) (?:subscription|membership)\b",
    ),
    _family(
        "have use own be get buy",
        "uses",
        "state",
        rf"^(?:using |with )?(?:an? |the )?(?:new )?{NAME}",
        check=readings.product,
    ),
    _family(
        "use",
        "uses",
        "state",
        rf"^(?:an? |the )?{NAME} (?:as|for) (?:my |our )?(?:\w+ )??",
        rf"(?P<c>{'|'.join(sorted(CATEGORIES, key=len, reverse=True))})\b",
        check=readings.used_as,
    ),
    _family("drive", "uses.car", "state", rf"^(?:an? |the |my )(?:(?!new)[a-z-]+ ){{0,2}}?{NAME}", check=readings.car),
    _family(
        "switch change move migrate go upgrade",
        "switch",
        "event",
        rf"^(?:over )?from (?:an? |the |my )?(?P<x>[\w' .-]{{2,30}}?) to (?:an? |the |my )?{THING}",
        check=readings.switch,
    ),
    _family(
        "swap trade exchange replace ditch drop abandon",
        "switch",
        "event",
        r"^(?:an? |the |my |our )(?P<x>[\w' .-]{2,30}?) (?:in )?(?:for|with) (?:an? |the ",
        rf"|my )?{THING}",
        check=readings.switch,
    ),
    _family(
        "swap trade exchange replace ditch drop abandon",
        "switch",
        "event",
        rf"^(?P<x>{CAP}(?: {CAP})*) (?:in )?(?:for|with) (?:an? |the |my )?{THING}",
        check=readings.switch,
    ),
    _family(
        "drop",
        "school",
        "end",
        r"^out of (?:my |the )?(?P<v>college|school|university|uni)\b",
        check=readings.dropped_out,
        negative=True,
    ),
    _family("go", "ended", "end", rf"^to (?:the |my )?{THING}", check=readings.gave_up_going, negative=True),
    _family(
        "switch migrate upgrade change go",
        "uses",
        "event",
        rf"^(?:[\w-]+ )?(?:over )?to (?:an? |the )?(?:new )?{NAME}",
        check=readings.product,
    ),
    _family("own", "possession", "state", rf"^(?:an? |the |my ){THING}", check=readings.possession),
    _family(
        "buy purchase", "possession", "event", rf"^(?:myself )?(?:an? )(?:new )?{THING}", check=readings.possession
    ),
    _family(
        "sell donate lose cancel return drop quit leave stop end ditch scrap",
        "ended",
        "end",
        rf"^(?:out of )?(?:my|our|the) {THING}",
        check=readings.thing_ended,
        negative=True,
    ),
    _family(
        "give",
        "ended",
        "end",
        rf"^(?:up|away) (?:on )?(?:my |our |the )?{THING}",
        check=readings.thing_ended,
        negative=True,
    ),
    _family("quit leave", "ended", "end", rf"^{NAME}", check=readings.thing_ended, negative=True),
    _family(
        "be join",
        "member",
        "event",
        r"^(?:in |part of )?(?:an? |the |our |my )(?P<v>(?:[\w-]+ ){0,2}(?:club|choir|band|team",
        r"|league|group|orchestra|society|association|gym|class))\b",
    ),
    # places and origins
    _family("visit", "visit", "done", rf"^{NAME}", check=readings.visit),
    _family(
        "go travel fly be get", "visit", "done", rf"^(?:back )?(?:on a trip )?(?:to|from) {NAME}", check=readings.visit
    ),
    _family(
        "be",
        "birthplace",
        "event",
        rf"^born (?:and raised )?in {NAME}",
        check=readings.birthplace,
    ),
    _family("be come", "origin", "event", rf"^originally from {NAME}"),
    _family("grow", "raised", "done", rf"^up in {NAME}"),
    # trades last: "I'm a nurse" must not shadow the rows above
    _family("be", "role", "state", rf"^(?:an? )(?:(?:full|part)-time )?{THING}", check=readings.role),
)

_BY_VERB: dict[str, tuple[Family, ...]] = {}
for _row in FAMILIES:
    for _verb in _row.verbs:
        _BY_VERB[_verb] = (*_BY_VERB.get(_verb, ()), _row)


def by_verb(clause: Clause) -> Found | None:
    """The first family of the clause's verb whose pattern fits the words after it."""
    for family in _BY_VERB.get(clause.verb, ()):
        m = family.pattern.search(clause.rest)
        if m is None:
            continue
        found = family.check(m, clause) if family.check else Found(family.slot, normal(m["v"]))
        if found is not None and found.value != "":
            return Found(
                found.slot,
                found.value,
                family.kind if found.kind == "state" else found.kind,
                family.negative or found.negative,
            )
    return None
