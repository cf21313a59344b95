"""From a fact to triplets ``(source, relation, target)``: Mem0's relation generator without a model.

Three readings, the surest first: the attribute that rules recognised ("lives_in", "works_at", "mentor"); nouns that
relate two names ("Bob is Ana's mentor", "the mentor of Ana is Bob", "Ana's sister Eva"); and the clause itself, a
named subject, the lemma of its verb with the preposition, and every name after it ("learn_from"). A name that none of
them joins to anything is ``named_with`` the others of the statement: what that means is read in it. Relations are
timeless, as the paper's prompt asks: when they held is said by the edge. Plans and suppositions assert nothing and
give no triplet; what somebody else reported counts half.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lamina.cube.cube import Claim, MemCube
from lamina.text.english.clause import Clause, expand, parse
from lamina.text.english.lexicon import ADVERBS, OPENERS, RELATIONS, STOP, words
from lamina.text.english.readings import STOPS
from lamina.text.english.readings import THING as PHRASE
from lamina.text.english.slots import normal
from lamina.text.english.verbs import lemma
from lamina.text.graphs.identity import CALENDAR, ORGANISATION, PERSON, PLACE, THING, UNKNOWN, UPPER, Name, key

REPORTED = 0.5  # weight of hearsay
SHORT = 12  # words after the verb of a clause that is simple enough to have one object
TOGETHER, NAMED_WITH = 0.5, "named_with"  # names in one statement of which nothing better is known; its weight
MAX_TOGETHER = 3  # names; of a longer list nobody can tell who belongs to whom
MAX_OBJECTS = 4  # names after one verb; a list of more is an enumeration


@dataclass(frozen=True, slots=True)
class Triplet:
    source: Name
    relation: str
    target: Name
    weight: float = 1.0

    @property
    def text(self) -> str:
        return f"{self.source.text} {self.relation} {self.target.text}"


# slot -> (relation, type of its target); a slot that is not here and has no prefix below names no entity.
_SLOTS = {
    "residence": ("lives_in", PLACE), "employer": ("works_at", ORGANISATION), "school": ("studies_at", ORGANISATION),
    "partner": ("partner", PERSON), "title": ("works_as", THING), "role": ("works_as", THING),
    "major": ("studies", THING), "studies": ("studies", THING), "visit": ("visited", PLACE),
    "birthplace": ("born_in", PLACE), "origin": ("comes_from", PLACE), "raised": ("raised_in", PLACE),
    "likes": ("likes", THING), "language": ("speaks", THING), "skill": ("plays", THING), "pet": ("has_pet", UNKNOWN),
    "member": ("member_of", ORGANISATION), "possession": ("owns", THING), "allergy": ("allergic_to", THING),
    "health": ("diagnosed_with", THING), "subscription": ("subscribes_to", THING), "habit": ("does", THING),
}  # fmt: skip
_PREFIXES = {"relative.": PERSON, "favourite.": THING, "uses.": THING}
_OF_PEOPLE = words(
    "relative favourite employer school partner title role major studies birthplace raised likes language pet age "
    "marital"
)
_NAME = (
    rf"(?:[{UPPER}][\w&.-]*\w|[{UPPER}])(?:'(?!s\b)\w+)?"
    rf"(?: (?:(?:of|de|del|la|van|von|the|&) )?[{UPPER}](?:[\w&.-]|'(?!s\b))*\w)*"
)
_BE = r"(?:is|was|became|has been|will be)"
_NOUN = r"(?:[a-z]+ ){0,2}?(?P<n>[a-z][a-z-]+)"
_NOUN_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"^(?P<b>{_NAME})'s {_NOUN} {_BE} (?P<a>{_NAME})(?=[.,!;]|$)",
        rf"^(?P<a>{_NAME}) {_BE} (?P<b>{_NAME})'s {_NOUN}(?=[.,!;]|$| (?:and|at|in|since|now|for)\b)",
        rf"^[Tt]he {_NOUN} (?:of|to|for) (?P<b>{_NAME}) {_BE} (?P<a>{_NAME})(?=[.,!;]|$)",
        rf"^(?P<a>{_NAME}) {_BE} (?:an?|the) {_NOUN} (?:of|to|for) (?P<b>{_NAME})(?=[.,!;]|$)",
        rf"^(?P<b>{_NAME}) (?:has|got|found) (?:an?|one) {_NOUN}(?:,|,? (?:called|named)) (?P<a>{_NAME})(?=[.,!;]|$)",
    )
)
_KIN = re.compile(rf"\b(?P<b>{_NAME})'s (?:[a-z]+ )?(?P<n>[a-z][a-z-]+),? (?P<a>{_NAME})")
_OWNED = re.compile(rf"^(?P<b>{_NAME})'s (?:[a-z]+ )?(?P<n>{'|'.join(sorted(RELATIONS))})(?:,? (?P<a>{_NAME}))?$")
_UNKNOWN_VERB = re.compile(rf"^(?P<a>{_NAME}) (?P<v>[a-z]+(?:s|ed))(?: (?P<p>with|for|to|at))? (?P<b>{_NAME})")
_RUN = re.compile(rf"(?<![\w'’.@/]){_NAME}")
_ACTS = re.compile(r"'s\b| [a-z]+(?:s|ed)\b| (?:and|was|had|can|will|would|chose|told|met) ")
_BEGINNERS = STOP | ADVERBS | OPENERS | words("everybody everyone somebody someone nobody people")
_NO_ENTITY = re.compile(r"^[\d$€£]|@|://|^\W")
_PREPOSITIONS = words("at in to from with for of on about by near into under against after over through around as")
_PRONOUNS = words("he she")
_CAPITALS_BEFORE = re.compile(rf"(?:\b[{UPPER}]\w+ )+$")
_ARTICLES = words("the a an my our")
_AT = words("at in from near with")
# What a name only qualifies: "LGBTQ support group" is no LGBTQ.
_MODIFIED = re.compile(rf"(?: (?!(?:{STOPS}|{'|'.join(sorted(STOP | ADVERBS))})\b)[a-z][a-z-]+){{1,2}}(?=[\s.,!;]|$)")
LIGHT_VERBS = words("""
be have do get make let feel seem look think know mean say tell want need keep help
hope wish thank go come take put see give
""")
_VAGUE = words("lot bit thing things way time day stuff one ones kind sort part place fun much many more everything")
_OBJECT = re.compile(
    rf"^(?:(?P<p>{'|'.join(sorted(_PREPOSITIONS))}) )?(?:an? |the |some |another |new )*{PHRASE}(?=[\s.,!;]|$)"
)


def triplets(cube: MemCube) -> list[Triplet]:
    """What a fact connects, each pair and relation once; empty for a memory without a claim, a plan, or a denial."""
    claim = cube.header.claim
    if claim is None or claim.modality in ("plan", "hypothetical"):
        return []
    weight = REPORTED if claim.modality == "reported" else 1.0
    text = expand(cube.text)
    clause = parse(text)
    found = _subject_relations(claim.subject)
    source = _source(claim, clause, cube.header.entities)
    if (slotted := _slotted(cube, claim, source)) is not None:
        found.append(slotted)
    if claim.polarity:
        found += _by_noun(text)
        told = {name.key for each in found for name in (each.source, each.target)}  # the verb adds nothing to these
        verbal = _by_verb(clause, text, source, cube.header.entities) if source is not None else []
        if source is not None and clause is not None and not (found or verbal):
            verbal = _plain_object(clause, source)
        found += [each for each in verbal if each.target.key not in told]
        found += _together(text, [*cube.header.entities, claim.subject], found)
    distinct: dict[tuple[str, str], Triplet] = {}  # the surest reading of a pair
    for each in found:
        pair = each.source.key, each.target.key
        if "" not in pair and pair[0] != pair[1]:
            distinct.setdefault(pair, each)
    return [Triplet(each.source, each.relation, each.target, weight * each.weight) for each in distinct.values()]


# -- who -----------------------------------------------------------------------------------------


def person(subject: str) -> Name:
    """The node of a claim's subject: "Ana's sister Eva" is Eva, "Ana's sister" is known by that alone."""
    m = _OWNED.match(subject.replace("’", "'"))
    if m is None:
        return Name(subject)
    return Name(m["a"] or subject, PERSON)


def _subject_relations(subject: str) -> list[Triplet]:
    m = _OWNED.match(subject.replace("’", "'"))
    if m is None:
        return []
    return [Triplet(Name(m["b"], PERSON), m["n"], Name(m["a"] or subject, PERSON))]


def _source(claim: Claim, clause: Clause | None, entities: tuple[str, ...]) -> Name | None:
    """Who acts: the name that the clause begins with, else the claim's subject; ``None`` for nobody named."""
    said = " ".join(clause.subject.split()) if clause is not None else ""
    while said and said.split()[-1].lower() in ADVERBS:  # "Bob Smith now works for Zentra"
        said = said.rpartition(" ")[0]
    human = claim.slot is not None and claim.slot.split(".")[0] in _OF_PEOPLE
    subject = person(claim.subject)
    human = human or (
        claim.slot == "residence" and clause is not None and clause.verb != "be"
    )  # firms are based, not live
    if human and subject.type == UNKNOWN:
        subject = Name(subject.text, PERSON)
    if not said or said.lower() in _PRONOUNS or key(said) in (key(claim.subject), subject.key):
        return subject
    if said in entities or any(part in entities for part in (said.removeprefix("The "), said.removeprefix("the "))):
        return Name(said, PERSON if human else UNKNOWN)
    if _OWNED.match(said) or key(said).startswith(f"{subject.key}'s") or said.startswith(f"{claim.subject}'s"):
        return subject
    return None if not key(claim.subject) or not said[0].isupper() else subject if claim.slot else None


# -- what ----------------------------------------------------------------------------------------


def relation(slot: str) -> tuple[str, str] | None:
    """The relation a slot stands for and the type of its target; ``None`` for a value that is no entity."""
    plain = slot.removesuffix(".also")
    if plain.startswith("former.") and (inner := relation(plain.removeprefix("former."))) is not None:
        return f"formerly_{inner[0]}", inner[1]
    if plain in _SLOTS:
        return _SLOTS[plain]
    for prefix, type in _PREFIXES.items():
        if plain.startswith(prefix):
            name = plain.removeprefix(prefix)
            return _named(name if prefix == "relative." else f"{prefix[:-1]} {name}"), type
    return None


def _slotted(cube: MemCube, claim: Claim, source: Name | None) -> Triplet | None:
    known = relation(claim.slot) if claim.slot is not None and claim.value is not None else None
    if known is None or claim.value is None or source is None:
        return None
    name, type = known
    if not claim.polarity:
        if name != "likes":
            return None  # an ending or a denial: nothing is connected by it
        name = "dislikes"
    return Triplet(source, name, Name(_as_written(claim.value, cube), type))


def _as_written(value: str, cube: MemCube) -> str:
    """A normalised value in the spelling of the fact: "york" was "New York", "acme" was "Acme"."""
    for entity in cube.header.entities:
        if normal(entity) == value:
            return entity
    at = re.search(rf"\b{re.escape(value)}\b", cube.text, re.I)
    return at[0] if at else value


def _by_noun(text: str) -> list[Triplet]:
    found = [_joined(m) for m in _KIN.finditer(text) if m["n"] not in STOP | ADVERBS]
    for pattern in _NOUN_PATTERNS:
        if (m := pattern.match(text)) and m["n"] not in STOP:
            found.append(_joined(m))
            break
    return found


def _joined(m: re.Match[str]) -> Triplet:
    kin = PERSON if m["n"] in RELATIONS else UNKNOWN
    return Triplet(Name(m["b"], kin), _named(m["n"]), Name(m["a"], kin))


def _together(text: str, known: Sequence[str], told: Sequence[Triplet]) -> list[Triplet]:
    """Names in one statement belong together, however it is worded; what they are to each other it says itself.
    A name of which nothing is ``told`` yet is joined to those of which something is, and to other such names.

    A capital at the beginning is a name if it is no word that sentences begin with, or if it is ``known`` as one.
    """
    found: dict[str, Name] = {}
    keys = {key(name) for name in known}
    for m in _RUN.finditer(text):
        words_ = m[0].split()
        while words_ and words_[0].lower() in _BEGINNERS and key(" ".join(words_)) not in keys:
            words_.pop(0)
        name = " ".join(words_)
        begins = m.start() == 0 or text[: m.start()].rstrip()[-1:] in ".!?:"
        if name and not (begins and len(words_) == 1 and key(name) not in keys and not _ACTS.match(text, m.end())):
            found.setdefault(key(name), Name(name))
    names = [name for k, name in found.items() if k not in CALENDAR and not _NO_ENTITY.search(name.text)]
    if len(names) > MAX_TOGETHER:
        return []
    about, ends = ({name.key for name in side} for side in ([t.source for t in told], [t.target for t in told]))
    pairs = [
        (one, other)
        for n, one in enumerate(names)
        for other in names[n + 1 :]
        if not {one.key, other.key} <= about | ends and not {one.key, other.key} & (ends - about)
    ]
    return [Triplet(one, NAMED_WITH, other, TOGETHER) for one, other in pairs]


def _by_verb(clause: Clause | None, text: str, source: Name, entities: tuple[str, ...]) -> list[Triplet]:
    if clause is None:
        m = _UNKNOWN_VERB.match(text)
        if m is None or m["v"] in STOP or m["b"].lower() in STOP or m["a"].lower() in STOP:
            return []
        verb = " ".join(filter(None, (lemma(m["v"]), m["p"])))
        return [Triplet(Name(m["a"]), _named(verb), Name(m["b"]))]
    found: list[tuple[str, Name]] = []
    for entity in entities:
        name, at = entity, clause.rest.find(entity)
        if at < 0 or _NO_ENTITY.search(name) or name.lower() in STOP or key(name) == source.key:
            continue
        end = at + len(name)
        if (m := _CAPITALS_BEFORE.search(clause.rest, 0, at)) is not None:  # "New" of "New York"
            name, at = m[0] + name, m.start()
        before = [w for w in re.findall(r"[\w']+", clause.rest[:at].lower()) if w not in _ARTICLES]
        link = before[-1] if before and before[-1] in _PREPOSITIONS else ""
        if clause.verb == "be" and link not in _AT:
            continue  # "is so Bach": no relation
        verb = f"{clause.verb} {link}".strip()
        more = _MODIFIED.match(clause.rest, end)
        found += [(_named(verb), Name(part + (more[0] if more else ""))) for part in _each(name)]
    actors = [Name(part, source.type) for part in _each(source.text)]
    return [Triplet(who, verb, target) for verb, target in found[:MAX_OBJECTS] for who in actors]


def _plain_object(clause: Clause, source: Name) -> list[Triplet]:
    """What a short clause is about, where that has no name: "researched adoption agencies", "went to the museum"."""
    if clause.verb in LIGHT_VERBS or len(clause.rest.split()) > SHORT:
        return []
    m = _OBJECT.match(clause.rest)
    if m is None or m["v"].split()[-1] in _VAGUE or not m["v"].islower():
        return []
    verb = _named(f"{clause.verb} {m['p'] or ''}")
    return [Triplet(Name(who, source.type), verb, Name(m["v"], THING)) for who in _each(source.text)]


def _each(name: str) -> list[str]:
    """ "Caroline and Melanie" are two."""
    both = name.split(" and ")
    return both if all(part and " " not in part for part in both) else [name]


def _named(words_: str) -> str:
    return "_".join(re.findall(r"\w+", words_.lower()))
