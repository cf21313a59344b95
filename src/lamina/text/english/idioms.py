"""Attributes said in whole phrases rather than by one verb: "Siemens took me on", "I left Ada for Eve".

A row is a pattern over a whole clause, contractions expanded, that speaks of the speaker; ``families`` reads a verb
and the words after it. Rows are tried first, in order, and only on clauses that deny nothing. What only hints at an
attribute ("I'm in love with Rome") is named in ``qualifiers``: it can be replaced, and replaces nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from lamina.text.english.clause import Clause
from lamina.text.english.letters import UPPER
from lamina.text.english.lexicon import COUNTABLE, PRODUCTS, TOOLS
from lamina.text.english.numbers import NUMBER, parse_number
from lamina.text.english.readings import CALENDAR, CAP, DIETS, PERSON, THING, Found, Kind, head_noun, is_trade
from lamina.text.english.slots import normal, stem

Reading = Callable[[re.Match[str]], Found | None]

# A name without commas.
_ONE = rf"(?P<v>(?:[Tt]he )?(?=i?[{UPPER}]|\d+[A-Z]){CAP}(?: (?:(?:of|de|del|la|the|&) )?{CAP})*)"
_OTHER = _ONE.replace("(?P<v>", "(?P<x>")
_HOME = r"(?:apartment|flat|house|home|place|condo|studio|loft|bungalow|townhouse|cottage|room)"
_FILL = r"(?:(?:now|already|currently|proudly|officially|just|only|still|also) )*"
_IS = rf"(?:am|are|is|was|were|have been|has been) {_FILL}"
_LATELY = r"(?:(?:now|these days|nowadays|currently|at the moment) )?"
_ENDS = r"(?=[\s.,!;]*$|[,.!;]|\s+(?:now|these days|nowadays|again|since|and|at the moment|right now|instead|as of)\b)"
_WE = r"\b(?:I|[Ww]e) "
_PERFECT = rf"(?:have |has |had )?{_FILL}"
_COUNTED = rf"(?P<n>{NUMBER}) (?P<v>[\w-]+(?: [\w-]+)?)"


@dataclass(frozen=True, slots=True)
class _Idiom:
    pattern: re.Pattern[str]
    read: Reading


def _filled(slot: str, kind: Kind = "event") -> Reading:
    return lambda m: Found(slot, normal(m["v"]), kind) if m["v"].split()[0].lower() not in CALENDAR else None


def _place(m: re.Match[str]) -> Found | None:
    value = normal(m["v"])
    return Found("residence", value, "state") if value not in TOOLS and value not in CALENDAR else None


def _constant(slot: str, value: str, kind: Kind = "event") -> Reading:
    return lambda _m: Found(slot, value, kind)


def _ending(slot: str, value: str | None) -> Reading:
    return lambda _m: Found(slot, value, "end", negative=True)


def _switch(m: re.Match[str]) -> Found | None:
    value, before = normal(m["v"]), normal(m["x"])
    return Found(f"switch.{before}", value, "event") if {value, before}.isdisjoint(CALENDAR) else None


def _trade(m: re.Match[str]) -> Found | None:
    return Found("title", normal(m["v"]), "event") if is_trade(m["v"]) else None


def _tool(m: re.Match[str]) -> Found | None:
    category = PRODUCTS.get(normal(m["v"]))
    return Found(f"uses.{category}", normal(m["v"]), "state") if category else None


def _dropped(m: re.Match[str]) -> Found | None:
    value = normal(m["v"])
    return Found("ended", value, "end", negative=True) if value in PRODUCTS else None


def _count(m: re.Match[str]) -> Found | None:
    number = parse_number(m["n"])
    head = next((w for w in map(head_noun, m["v"].split()[:1]) if w in COUNTABLE), None)
    return Found(f"count.{stem(head)}", str(number), "state") if head and number is not None else None


def _favourite(m: re.Match[str]) -> Found | None:
    kind = " ".join(stem(head_noun(word)) for word in normal(m["n"]).split())
    return Found(f"favourite.{kind}", normal(m["v"]), "event") if kind else None


def _row(read: Reading, *pattern: str) -> _Idiom:
    return _Idiom(re.compile("".join(pattern)), read)


IDIOMS: tuple[_Idiom, ...] = (
    # home
    _row(
        _place,
        rf"{_WE}have {_FILL}been in {_ONE} (?:for (?!a (?:week|month|day)\b)[\w -]{{1,20}}\b(?:years?",
        r"|decades?)|since)\b",
    ),
    _row(
        _place,
        rf"{_WE}(?:have )?(?:signed|sign) (?:the|a|our|my) (?:new )?lease (?:on|for) (?:an?|the|our|my)",
        rf" (?:[\w-]+ ){{0,2}}{_HOME} in {_ONE}",
    ),
    _row(
        _place,
        rf"{_WE}(?:have )?bought (?:an?|our|my) (?:[\w-]+ ){{0,2}}(?:cottage|bungalow|townhouse|loft)",
        rf" in {_ONE}",
    ),
    _row(_place, rf"{_WE}(?:have )?ended up (?:living )?in {_ONE}{_ENDS}"),
    _row(_place, rf"{_WE}{_IS}an? (?:proud |official )?{_ONE} (?:resident|dweller)\b"),
    _row(_place, rf"^{_ONE} is {_LATELY}where (?:I|we) {_FILL}(?:live|am based|are based|hang my hat|have my home)\b"),
    # work
    _row(
        _filled("employer", "state"),
        rf"{_WE}{_IS}(?:in|on) the [\w -]{{2,30}}? (?:team|department|division|group) (?:at|of) {_ONE}",
    ),
    _row(
        _filled("employer", "state"),
        rf"{_WE}{_PERFECT}(?:earn|earned|make|made) (?:my|our) (?:living|money|keep) (?:at|with) {_ONE}",
    ),
    _row(_filled("employer", "state"), rf"{_WE}{_IS}on the payroll (?:of|at) {_ONE}"),
    _row(_filled("employer"), rf"^{_ONE} (?:has |have )?(?:{_FILL})?(?:hired|employed|employs|recruited) me{_ENDS}"),
    _row(_filled("employer"), rf"^{_ONE} (?:has taken|took) me on\b(?! as\b)"),
    _row(_filled("employer"), rf"\binto an? (?:new )?(?:job|role|position) (?:at|with) {_ONE}"),
    _row(
        _trade,
        rf"{_WE}{_PERFECT}(?:earn|earned|make|made) (?:my|our|a|an) (?:honest )?(?:living|money|keep",
        rf"|crust|income) as (?:an? ){THING}",
    ),
    _row(_trade, rf"\b(?:hired|taken|took|employed|employs) me (?:on )?as (?:an? |the |their ){THING}"),
    # love
    _row(_constant("marital", "married"), rf"{_WE}have {_FILL}an? (?:new |lovely |wonderful )?(?:husband|wife){_ENDS}"),
    _row(_constant("marital", "married"), rf"{_WE}(?:have )?had (?:our|my) wedding\b"),
    _row(
        _constant("marital", "married", "state"),
        rf"{_WE}{_IS}an? (?:happily )?(?:married (?:man|woman|couple)|newlywed)\b",
    ),
    _row(
        _constant("marital", "engaged", "state"),
        rf"{_WE}{_IS}engaged to be married\b|{_WE}wear an? engagement ring\b",
    ),
    _row(_constant("marital", "single", "state"), rf"{_WE}{_IS}(?:an? (?:\w+ )?bachelor|on my own again)\b"),
    _row(_constant("marital", "divorced"), r"\b[Mm]y (?:wife|husband) (?:has )?filed for divorce\b"),
    _row(
        _constant("marital", "separated"),
        r"\b(?:[Mm]y|[Oo]ur) marriage (?:has |is )?(?:ended|over|failed|fell apart|broke down)\b",
    ),
    _row(
        _ending("marital", "engaged"),
        rf"{_WE}(?:have )?(?:called|broke|broken) off (?:the|our|my) (?:engagement|wedding)\b",
    ),
    _row(
        _constant("marital", "married", "state"),
        r"^(?:[Mm]y (?:wife|husband) and I|I and my (?:wife|husband)) (?:are|have|love|live)\b",
    ),
    _row(_filled("partner", "state"), rf"{_WE}{_IS}going out with {PERSON}{_ENDS}"),
    _row(
        _filled("partner", "state"),
        rf"{_WE}{_IS}(?:so |madly |deeply )?(?:in love with|head over heels for) {PERSON}{_ENDS}",
    ),
    _row(_filled("partner", "state"), rf"{_WE}am with {PERSON} (?:now|these days|nowadays)\b"),
    _row(
        _filled("partner", "state"),
        rf"\b[Mm]y (?:other half|sweetheart|hubby|missus|lover|beau|bf|gf) {_LATELY}is",
        rf" {_FILL}{PERSON}{_ENDS}",
    ),
    # food
    _row(_filled("diet", "state"), rf"{_WE}{_PERFECT}keep to (?:an? )?(?P<v>{'|'.join(sorted(DIETS))})\b"),
    _row(_filled("diet", "state"), rf"{_WE}(?:only|always) cook (?P<v>{'|'.join(sorted(DIETS))})\b"),
    _row(_constant("diet", "omnivore", "state"), rf"{_WE}{_FILL}eat (?:everything|anything){_ENDS}"),
    # favourites
    _row(_favourite, rf"^{_ONE} has replaced [\w' -]+ as (?:my|our) (?:new )?fav(?:e|ou?rite) (?P<n>[\w'-]+)"),
    _row(
        _favourite,
        r"\b[Tt]he (?P<n>[\w'-]+) (?:that )?I (?:love|like|enjoy|prefer) (?:the )?(?:most|best)",
        rf" {_LATELY}is {_FILL}{THING}",
    ),
    _row(
        _favourite,
        rf"\b[Oo]f all (?:the )?(?P<n>[\w'-]+),? I {_FILL}(?:love|like|enjoy|prefer)",
        rf" {THING.replace('{0,3}', '{0,2}?')} (?:the )?(?:best|most)\b",
    ),
    _row(
        _favourite,
        rf"\b(?:[Mm]y|[Oo]ur) (?:number one|number-one|top|go-to) (?P<n>[\w'-]+) {_LATELY}(?:is|has",
        rf" become) {_FILL}{THING}",
    ),
    # what there is
    _row(_count, rf"^[Tt]here are {_FILL}{_COUNTED} in (?:my|our) {_HOME}\b"),
    _row(_count, rf"{_WE}share (?:my|our) {_HOME} with {_COUNTED}"),
    _row(_count, rf"{_WE}{_IS}the (?:proud |happy )?owner of {_COUNTED}"),
    _row(_count, rf"{_WE}\w+ {_COUNTED.replace('(?: [', '(?: (?!of)[')} of my own\b"),
    _row(_count, rf"^(?:[Mm]y|[Oo]ur) {_COUNTED} \w+"),
    # tools
    _row(
        _tool,
        rf"{_WE}(?:write|do|code|program|edit) (?:(?:all|most) )?(?:(?:of )?(?:my|our) )?(?:code ",
        rf"|coding |programming |work )?in {_ONE}",
    ),
    _row(_tool, rf"\band (?:program|code|write) in {_ONE}"),
    _row(_tool, rf"{_WE}(?:rely|depend) on {_ONE}"),
    _row(_tool, rf"\b[Mm]y (?:code |text )?(?:editor|browser|ide|IDE) of choice {_LATELY}is {_FILL}{_ONE}"),
    _row(_switch, rf"{_WE}{_PERFECT}(?:abandoned|ditched|dropped|left|gave up|given up) {_OTHER} in favou?r of {_ONE}"),
    _row(_dropped, rf"{_WE}{_PERFECT}(?:dropped|ditched|abandoned|gave up on) {_ONE}{_ENDS}"),
    _row(_switch, rf"{_WE}{_PERFECT}(?:left|quit|leave) {_OTHER} for {_ONE}(?:{_ENDS}|(?= (?:in|last|this|on)\b))"),
)  # fmt: skip


def by_wording(text: str, clause: Clause) -> Found | None:
    """What an expanded clause says about the speaker in one of the ``IDIOMS``."""
    if clause.negated or clause.ended:
        return None
    for idiom in IDIOMS:
        m = idiom.pattern.search(text)
        found = idiom.read(m) if m is not None else None
        if found is not None and found.value != "":
            return found
    return None
