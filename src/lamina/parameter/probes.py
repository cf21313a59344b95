"""Questions that tell whether a model knows a memory, written by rules, some of them never to be trained on.

A fact with a claim ("Alice lives in Denver.", residence = denver) is asked for by its attribute; any other sentence
by leaving out its end, and by its subject. Every probe is answered by the memory's own sentence. Each kind of
question has wordings to learn from and others held out: what a model can say only in the wording it was taught is
not knowledge of the memory, so the gate and the read-out ask in the held-out ones.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lamina.cube.cube import Claim
from lamina.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Probe:
    """A question, its answer, the words of the answer that tell, and the place of the memory among its fellows."""

    question: str
    answer: str
    value: str
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Probes:
    """``train`` and ``held_out`` share no question."""

    train: tuple[Probe, ...]
    held_out: tuple[Probe, ...]


@dataclass(frozen=True, slots=True)
class _Attribute:
    """Nouns for an attribute, and ways to ask for it; the last of each is held out."""

    nouns: tuple[str, str, str]
    direct: tuple[str, str, str]


# {do}, {be}, {have} agree with the subject {s}; {whose} is its possessive; {x} the rest of the slot's name.
_ATTRIBUTES = {
    "residence": _Attribute(
        ("place of residence", "home town", "home"),
        ("Where {do} {s} live?", "In which place {do} {s} live?", "Where {be} {s} living?"),
    ),
    "employer": _Attribute(
        ("employer", "place of work", "workplace"),
        ("Where {do} {s} work?", "Which company {do} {s} work for?", "Who {do} {s} work for?"),
    ),
    "title": _Attribute(
        ("profession", "job", "occupation"),
        ("What {do} {s} do for a living?", "What work {do} {s} do?", "How {do} {s} earn a living?"),
    ),
    "favourite": _Attribute(
        ("favourite {x}", "best-loved {x}", "preferred {x}"),
        ("What {x} {do} {s} like best?", "Which {x} {do} {s} prefer?", "Which {x} {do} {s} love most?"),
    ),
    "relative": _Attribute(
        ("{x}'s name", "{x}", "{x}'s first name"),
        ("What is {whose} {x} called?", "Who is {whose} {x}?", "How is {whose} {x} named?"),
    ),
    "partner": _Attribute(
        ("partner's name", "partner", "partner's first name"),
        ("What is {whose} partner called?", "Who is {whose} partner?", "Who {be} {s} together with?"),
    ),
    "uses": _Attribute(
        ("{x}", "kind of {x}", "own {x}"),
        ("Which {x} {do} {s} have?", "What {x} {do} {s} use?", "What sort of {x} {do} {s} own?"),
    ),
    "birth": _Attribute(
        ("date of birth", "birthday", "birth date"),
        ("When {be} {s} born?", "When is {whose} birthday?", "On what date is {whose} birthday?"),
    ),
    "birthplace": _Attribute(
        ("birthplace", "place of birth", "town of birth"),
        ("Where {be} {s} born?", "In which town {be} {s} born?", "What place {do} {s} come from?"),
    ),
    "email": _Attribute(
        ("e-mail address", "email", "mail address"),
        ("What is {whose} e-mail address?", "Where can I write an email to {s}?", "How {do} {s} receive e-mail?"),
    ),
    "phone": _Attribute(
        ("phone number", "telephone number", "number"),
        ("What is {whose} phone number?", "What number {do} {s} have?", "Which number reaches {s}?"),
    ),
    "allergy": _Attribute(
        ("allergy", "known allergy", "food allergy"),
        ("What {be} {s} allergic to?", "Which allergy {do} {s} have?", "What can {s} not tolerate?"),
    ),
    "skill": _Attribute(
        ("skill", "talent", "special skill"),
        ("What can {s} do or play?", "What {do} {s} play or practise?", "What {have} {s} learned to do?"),
    ),
    "diet": _Attribute(
        ("diet", "way of eating", "eating habit"),
        ("What diet {do} {s} follow?", "How {do} {s} eat?", "What sort of food {do} {s} eat?"),
    ),
    "school": _Attribute(
        ("school", "place of study", "place of education"),
        ("Where {do} {s} study?", "Which school {do} {s} attend?", "Where {do} {s} go to school?"),
    ),
    "major": _Attribute(
        ("major", "subject of study", "field of study"),
        ("What {do} {s} study?", "What {be} {s} majoring in?", "Which subject {do} {s} study?"),
    ),
}
_OF_NOUN = (
    "What is {whose} {n}?",
    "Tell me {whose} {n}.",
    "Please remind me of {whose} {n}.",
    "I forgot {whose} {n}. What is it?",
)
_OF_NOUN_HELD = ("Do you know {whose} {n}?", "Could you look up {whose} {n} for me?")
_CLOZE = (
    "Complete the sentence: {lead} ...",
    'How does this end? "{lead} ..."',
    "Continue: {lead}",
    "Finish this: {lead} ...",
)
_CLOZE_HELD = ("Fill in the rest: {lead} ...", 'What comes after "{lead}"?')
_ABOUT = ("What do you know about {s}?", "Tell me about {s}.", "Who or what is {s}?", "What can you say about {s}?")
_ABOUT_HELD = ("What have you learned about {s}?", "Please say something about {s}.")
_VERB = re.compile(r"^(?P<subject>(?:User|I)(?:'s)?)\b\s*(?P<verb>[\w']*)")
_LINK = re.compile(r"\b(?:is|are|was|were|has|have|in|at|to|by|for|of|on|with|called|named|the|an?)\s")
_NAME = re.compile(r"[A-Z][\w-]*(?: [A-Z][\w-]*)*")
_KINDS = ("aeiou", "bcdfghklmnprstvw", "0123456789")
_TO_ME = {"is": "are", "was": "were", "has": "have", "does": "do", "doesn't": "don't", "isn't": "aren't"}


def probes(texts: Sequence[str], claims: Sequence[Claim | None] | None = None) -> Probes:
    """Probes for memories ``texts``, each with its claim if it has one. Raises ``InvalidInput`` for empty texts.

    Memories of "User" are asked for in the first person and answered in the second.
    """
    told = [None] * len(texts) if claims is None else list(claims)
    if len(told) != len(texts) or not all(text.strip() for text in texts):
        raise InvalidInput(f"texts ({len(texts)}) must not be empty, with one claim (or None) each, got {len(told)}")
    answers = [_answer(text) for text in texts]
    named = Counter(_subject(text, claim) for text, claim in zip(texts, told, strict=True))
    train, held_out = list[Probe](), list[Probe]()
    for place, (text, claim, answer) in enumerate(zip(texts, told, answers, strict=True)):
        subject = _subject(text, claim)
        value = _value(answer, claim)
        seen, unseen = _wordings(subject, answer, value, claim, alone=named[subject] == 1)
        train += [Probe(question, answer, value, place) for question in seen]
        held_out += [Probe(question, answer, value, place) for question in unseen]
    taught = {probe.question for probe in train}
    return Probes(tuple(train), tuple(probe for probe in held_out if probe.question not in taught))


def _wordings(
    subject: str, answer: str, value: str, claim: Claim | None, *, alone: bool
) -> tuple[list[str], list[str]]:
    """Questions to train on and held out; ``alone``: no other memory has this subject."""
    family, _, rest = (claim.slot or "" if claim else "").removesuffix(".also").partition(".")
    attribute = _ATTRIBUTES.get(family)
    if attribute is not None:
        return _asked(attribute, subject, rest or family)
    lead = answer[: answer.rindex(value)].strip()
    seen, unseen = [], []
    if lead:
        seen += [frame.format(lead=lead) for frame in _CLOZE]
        unseen += [frame.format(lead=lead) for frame in _CLOZE_HELD]
    if alone or not lead:
        seen += [frame.format(s=subject) for frame in _ABOUT]
        unseen += [frame.format(s=subject) for frame in _ABOUT_HELD]
    return seen, unseen


def _asked(attribute: _Attribute, subject: str, rest: str) -> tuple[list[str], list[str]]:
    me = subject == "User"
    words = {
        "s": "I" if me else subject,
        "do": "do" if me else "does",
        "be": "am" if me else "is",
        "have": "have" if me else "has",
        "whose": "my" if me else f"{subject}'" if subject.endswith("s") else f"{subject}'s",
        "x": rest.replace(".", " "),
    }

    def say(frame: str, noun: str = "") -> str:
        said = frame.format(**words, n=noun.format(**words))
        said = re.sub(r"\b(?:am|is) (I|\S.*?) born\b", r"was \1 born", said)
        return re.sub(r"\b(to|reaches|can) I\b", lambda m: m[0] if m[1] == "can" else f"{m[1]} me", said)

    seen = [say(frame) for frame in attribute.direct[:2]]
    seen += [say(frame, attribute.nouns[i % 2]) for i, frame in enumerate(_OF_NOUN)]
    unseen = [say(attribute.direct[2]), *(say(frame, attribute.nouns[2]) for frame in _OF_NOUN_HELD)]
    return seen, unseen


def _answer(text: str) -> str:
    """The memory as a reply: of the user in the second person, ending like a sentence."""
    plain = " ".join(text.split())
    plain = plain if plain[-1] in ".!?" else plain + "."
    return _VERB.sub(_second_person, plain, count=1)


def _second_person(found: re.Match[str]) -> str:
    verb = found["verb"]
    if found["subject"].endswith("'s"):
        return f"Your {verb}"
    if found["subject"] == "I":
        return f"You {'are' if verb == 'am' else verb}"
    if verb in _TO_ME:
        return f"You {_TO_ME[verb]}"
    if verb.endswith("ies") and len(verb) > 4:
        return f"You {verb[:-3]}y"
    if verb.endswith(("shes", "ches", "sses", "xes", "oes")):
        return f"You {verb[:-2]}"
    return f"You {verb.removesuffix('s') if not verb.endswith('ss') else verb}"


def _subject(text: str, claim: Claim | None) -> str:
    if claim is not None and claim.subject:
        return claim.subject
    found = _NAME.match(text)
    return found[0] if found else " ".join(text.split()[:2])


def _value(answer: str, claim: Claim | None) -> str:
    """The words of ``answer`` that tell: those of the claim, else what follows its last linking word (1-4 words)."""
    body = answer.rstrip(".!?")
    if claim is not None and claim.value:
        at = body.lower().rfind(claim.value.lower())
        if at >= 0:
            return body[at : at + len(claim.value)]
    ends = [match.end() for match in _LINK.finditer(body)]
    tail = body[ends[-1] :] if ends else ""
    return tail if 0 < len(tail.split()) <= 4 else body.split()[-1]


def decoys(probes: Sequence[Probe], *, seed: int = 0, count: int = 3) -> tuple[Probe, ...]:
    """Controls that were never taught: ``count`` for each memory, its questions with another, invented value.

    Letters change within their kind (vowel, consonant, digit), so that length and shape stay. ``memory`` numbers the
    controls from 0.
    """
    chance = random.Random(seed)
    values = {probe.memory: probe.value for probe in probes}
    made, number = list[Probe](), 0
    for memory, value in values.items():
        for _ in range(count):
            other = _invented(value, chance)
            made += [
                Probe(probe.question, other.join(probe.answer.rsplit(probe.value, 1)), other, number)
                for probe in probes
                if probe.memory == memory
            ]
            number += 1
    return tuple(made)


def _invented(value: str, chance: random.Random) -> str:
    def other(character: str) -> str:
        kind = next((kind for kind in _KINDS if character.lower() in kind), character.lower())
        made = chance.choice(kind.replace(character.lower(), "") or kind)
        return made.upper() if character.isupper() else made

    return "".join(map(other, value))
