"""Pattern families about what a person likes, does, has and uses, and where they went. One row a pattern."""

from __future__ import annotations

from lamina.text.english import readings, tastes
from lamina.text.english.family import Family, family
from lamina.text.english.letters import UPPER
from lamina.text.english.lexicon import ANIMALS, CATEGORIES, HABITS
from lamina.text.english.numbers import NUMBER
from lamina.text.english.readings import CAP, NAME, SOME, STOPS, THING

THINGS: tuple[Family, ...] = (
    # tastes
    family("love like enjoy adore prefer", "likes", "state", rf"^{SOME}", check=tastes.likes),
    family(
        "love like enjoy adore prefer",
        "likes",
        "state",
        rf"^to (?P<v>[a-z]+(?: (?!(?:{STOPS})\b)[\w'-]+)?)",
        check=tastes.likes,
    ),
    family("hate dislike detest loathe", "likes", "state", rf"^(?:to )?{SOME}", check=tastes.likes, negative=True),
    family("stand bear", "likes", "state", rf"^{SOME}", check=tastes.likes),
    family(
        "be",
        "likes",
        "state",
        r"^(?:an? )?(?:(?:really|huge|big|massive|great|die-hard|total|absolutely|very|so",
        r"|totally) )*(?:fan of|obsessed with|into|fond of|crazy about|passionate about|keen on",
        rf"|hooked on) {SOME}",
        check=tastes.likes,
    ),
    family(
        "be get",
        "likes",
        "state",
        rf"^(?:(?:so|really|totally|completely|just) )*(?:over|sick of|tired of|fed up with|done with|bored of) {SOME}",
        check=tastes.likes,
        negative=True,
    ),
    family("go", "likes", "event", rf"^(?:right |completely )?off {SOME}", check=tastes.turned_to, negative=True),
    family("lose", "likes", "event", rf"^interest in {SOME}", check=tastes.turned_to, negative=True),
    family("love like enjoy", "likes", "event", rf"^{SOME}", check=tastes.grew_to_like),
    family("get fall", "likes", "event", rf"^(?:really )?(?:into|in love with) {SOME}", check=tastes.turned_to),
    # abilities and habits
    family("speak", "language", "state", r"", check=readings.language),
    family("play", "skill", "state", r"^(?:the )?(?P<v>[\w-]+)(?=\W|$)", check=readings.plays),
    family(
        " ".join(HABITS),
        "habit",
        "state",
        r"^(?=[\s.!,]*$|(?:every|a lot|daily|regularly|occasionally|too|anymore|any|like|cigar))",
        check=readings.habit,
    ),
    family(
        "go",
        "habit",
        "state",
        r"^(?P<v>[a-z]+ing)\b",
        check=readings.goes_doing,
    ),
    # animals, numbers, things
    family(
        "have adopt get own keep rescue buy",
        "pet",
        "event",
        r"^(?:an? |the |another |our )(?:(?!second|new)[\w-]+ ){0,3}?",
        rf"(?P<kind>{'|'.join(sorted(ANIMALS, key=len, reverse=True))})\b,?(?: (?:and )?(?:(?:named",
        rf"|called)(?: (?:him|her|it))? )?(?P<name>[{UPPER}][\w'-]+))?",
        check=readings.pet,
    ),
    family(
        "have own keep raise",
        "count",
        "state",
        rf"^(?P<n>{NUMBER}) (?P<v>[\w-]+(?: (?!(?:{STOPS}|named|called)\b)[\w-]+){{0,2}})",
        check=readings.count,
    ),
    family(
        "be",
        "count",
        "state",
        rf"^(?:now )?(?:up|down) to (?P<n>{NUMBER}) (?P<v>[\w-]+(?: (?!",
        rf"(?:{STOPS})\b)[\w-]+){{0,2}})",
        check=readings.count,
    ),
    family(
        "have get buy",
        "subscription",
        "state",
        r"^(?:an? |the |my )(?P<v>[\w' ]{2,30}?) (?:subscription|membership)\b",
    ),
    family(
        "have use own be get buy",
        "uses",
        "state",
        rf"^(?:using |with )?(?:an? |the )?(?:new )?{NAME}",
        check=readings.product,
    ),
    family(
        "use",
        "uses",
        "state",
        rf"^(?:an? |the )?{NAME} (?:as|for) (?:my |our )?(?:\w+ )??",
        rf"(?P<c>{'|'.join(sorted(CATEGORIES, key=len, reverse=True))})\b",
        check=readings.used_as,
    ),
    family("drive", "uses.car", "state", rf"^(?:an? |the |my )(?:(?!new)[a-z-]+ ){{0,2}}?{NAME}", check=readings.car),
    family(
        "switch change move migrate go upgrade",
        "switch",
        "event",
        rf"^(?:over )?from (?:an? |the |my )?(?P<x>[\w' .-]{{2,30}}?) to (?:an? |the |my )?{THING}",
        check=readings.switch,
    ),
    family(
        "swap trade exchange replace ditch drop abandon",
        "switch",
        "event",
        r"^(?:an? |the |my |our )(?P<x>[\w' .-]{2,30}?) (?:in )?(?:for|with) (?:an? |the ",
        rf"|my )?{THING}",
        check=readings.switch,
    ),
    family(
        "swap trade exchange replace ditch drop abandon",
        "switch",
        "event",
        rf"^(?P<x>{CAP}(?: {CAP})*) (?:in )?(?:for|with) (?:an? |the |my )?{THING}",
        check=readings.switch,
    ),
    family(
        "drop",
        "school",
        "end",
        r"^out of (?:my |the )?(?P<v>college|school|university|uni)\b",
        check=readings.dropped_out,
        negative=True,
    ),
    family("go", "ended", "end", rf"^to (?:the |my )?{THING}", check=readings.no_more, negative=True),
    family(
        "switch migrate upgrade change go",
        "uses",
        "event",
        rf"^(?:[\w-]+ )?(?:over )?to (?:an? |the )?(?:new )?{NAME}",
        check=readings.product,
    ),
    family("own", "possession", "state", rf"^(?:an? |the |my ){THING}", check=readings.possession),
    family("buy purchase", "possession", "event", rf"^(?:myself )?(?:an? )(?:new )?{THING}", check=readings.possession),
    family(
        "sell donate lose cancel return drop quit leave stop end ditch scrap",
        "ended",
        "end",
        rf"^(?:out of )?(?:my|our|the) {THING}",
        check=readings.thing_ended,
        negative=True,
    ),
    family(
        "give",
        "ended",
        "end",
        rf"^(?:up|away) (?:on )?(?:my |our |the )?{THING}",
        check=readings.thing_ended,
        negative=True,
    ),
    family("have", "ended", "end", rf"^(?:an? |my |the ){THING}", check=readings.no_more, negative=True),
    family("get", "ended", "end", rf"^rid of (?:my |our |the )?{THING}", check=readings.thing_ended, negative=True),
    family(
        "get be",
        "ended",
        "end",
        rf"^(?:thrown|kicked) out of (?:the |my )?{THING}",
        check=readings.thing_ended,
        negative=True,
    ),
    family("quit leave", "ended", "end", rf"^{NAME}", check=readings.thing_ended, negative=True),
    family(
        "be join",
        "member",
        "event",
        r"^(?:in |part of )?(?:an? |the |our |my )(?P<v>(?:[\w-]+ ){0,2}(?:club|choir|band|team",
        r"|league|group|orchestra|society|association|gym|class))\b",
    ),
    # places and origins
    family("visit", "visit", "done", rf"^{NAME}", check=readings.visit),
    family(
        "go travel fly be get", "visit", "done", rf"^(?:back )?(?:on a trip )?(?:to|from) {NAME}", check=readings.visit
    ),
    family(
        "be",
        "birthplace",
        "event",
        rf"^born (?:and raised )?in {NAME}",
        check=readings.birthplace,
    ),
    family("be come", "origin", "event", rf"^originally from {NAME}"),
    family("grow", "raised", "done", rf"^up in {NAME}"),
    # trades last: "I'm a nurse" must not shadow the rows above
    family("be", "role", "state", rf"^(?:an? )(?:(?:full|part)-time )?{THING}", check=readings.role),
)
