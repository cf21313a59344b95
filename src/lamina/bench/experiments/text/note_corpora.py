"""Notes with known answers, by seed: facts that only meet over a third name, and plans that change later.

*Bridging*: "Ann's mentor is Marta Kell" and "Kell works at Orbix" answer "Where does Ann's mentor work?" together; the
question shares no word with the second that a hundred other notes do not share too, and the name that bridges them is
not in it. Some notes give the surname only, some people share theirs.

*Evolution*: an early note tells of a plan or a thing somebody has, a later one of what became of it, in other words
and without the person's name. The question is about the person in the later words and asks for the early note.

People have common names, firms and places invented ones. The bridging wordings are those of ``bridge_wordings``; half
of the outcomes are told in the words of status that rules know, half in others, and cards report both halves. Rules
may be improved on the development wordings only; the defaults are the held-out ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from lamina.bench.experiments.text.bridge_wordings import HELD_OUT, Wordings


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_FIRST = _words("""
Adam Alice Amir Amy Anna Arthur Barbara Ben Bianca Boris Carl Carmen Cecilia Chloe Clara Colin Connor Daisy Daniel
Daphne David Diana Dora Edgar Edith Elena Elias Ella Emil Emma Eric Esther Eva Felix Fiona Flora Frank Freya Gavin
George Gloria Grace Greta Hannah Harold Harry Heidi Helen Henry Hugo Ian Ida Inga Irene Isaac Ivan Jack Jacob James
Jane Jasper Jenny Joan Joel Jonas Julia Karen Karl Kate Kevin Laura Leo Leon Lily Linda Louis Lucas Lucy Lydia Mabel
Marco Maria Martin Mary Matt Maya Mia Miles Mona Nadia Naomi Nina Noah Nora Oliver Olga Oscar Otto Pablo Paula Peter
Philip Rachel Ralph Ramona Rita Robin Roger Rosa Ruth Sam Sandra Sarah Simon Sofia Stella Sven Tara Theo Thomas Tina
Tobias Uma Ursula Vera Victor Viola Walter Wendy Xenia Yara Yusuf Zoe
""")
_LAST = _words("""
Abbott Adler Allen Archer Bailey Baker Barnes Barton Bauer Becker Bennett Berger Bishop Black Blake Bowen Boyd Brandt
Brooks Bryant Burke Burton Byrne Cameron Carey Carter Chapman Clark Clarke Cole Coleman Collins Conrad Cooper Costa
Crawford Cross Cruz Curtis Dalton Daniels Davies Dawson Dean Decker Dixon Doyle Duncan Dunn Eaton Edwards Elliott
Ellis Engel Evans Farrell Ferguson Fischer Fisher Fletcher Flynn Forbes Foster Fowler Fox Franklin Fraser Fuchs
Gardner Gibson Gilbert Glover Gomez Gordon Graham Grant Gray Greene Griffin Haas Hall Hansen Hardy Harper Harris Hart
Hayes Heller Henderson Herrera Hill Hoffman Holmes Hopkins Howard Hudson Hughes Hunt Ingram Jacobs Jensen Jordan
Keller Kemp Kennedy Kerr Knight Kramer Lambert Lang Larsen Lawson Lopez Lowe Lynch Marsh Mason Meyer Miller Moore
Morgan Morris Murphy Nash Nolan Norris Novak Olsen Owens Palmer Parker Patel Payne Perry Porter Price Quinn Reed Reyes
Rhodes Ross Ryan Schmidt Shaw Silva Stone Sutton Torres Turner Vogel Wagner Walsh Warren Weber Wells West Woods Young
""")
_ONSETS, _VOWELS = _words("b br d dr f g gr h j k kl l m n p pr r s st t tr v w z"), _words("a e i o u ai ea io")
_CODAS = _words("l n r s m nd rt lk x")
_NEAR = ("{a} works near the O2 and likes it.", "{a} likes the work and the short way there.")
_HOBBY = (
    "{a} goes swimming on {day}s.",
    "{a} collects old {thing}s.",
    "{a} told me about a long {day} in the garden.",
    "{a} has been reading about {thing}s lately.",
    "{a} cooked for six people last {day}.",
    "{a} slept badly before the {day} meeting.",
    "{a} repaired the {thing} with some glue.",
    "{a} prefers tea to coffee in the morning.",
)
_DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
_THINGS = _words("stamp clock lamp map radio coin poster chair bottle postcard")
_START = datetime(2024, 1, 1, 9, tzinfo=UTC)
_EVERY = timedelta(hours=5)


@dataclass(frozen=True, slots=True)
class Entry:
    """One note to be added: its text and when it was written (UTC)."""

    text: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Question:
    """``wanted`` is the place of the note that is asked for, ``via`` of the one that leads to it, ``wrong`` of notes
    about others who could be mistaken for the one that is meant, ``outright`` whether an outcome is told in a word of
    status."""

    text: str
    wanted: int
    via: int
    wrong: tuple[int, ...] = ()
    outright: bool = False


@dataclass(frozen=True, slots=True)
class Corpus:
    """Entries in order of time, and questions about them."""

    entries: tuple[Entry, ...]
    questions: tuple[Question, ...]


def bridging(seed: int, *, persons: int = 120, wordings: Wordings = HELD_OUT) -> Corpus:
    """Two notes a person and as many distractors: 480 entries and 120 questions for 120 persons."""
    rng = np.random.default_rng((seed, 11))
    names = iter(_invented(rng, persons))
    people = [_FIRST[n] for n in rng.permutation(len(_FIRST))[:persons]]
    lasts = [_LAST[n] for n in rng.permutation(len(_LAST))[:persons]]
    shared = rng.permutation(persons)[: 2 * max(1, persons // 20)]  # one in ten has the surname of another
    for one, other in shared.reshape(-1, 2).tolist():
        lasts[one] = lasts[other]
    texts: list[tuple[str, str, int]] = []  # text, what it is, whose
    questions: list[str] = []
    for n, a in enumerate(people):
        words = {"a": a, "r": _pick(rng, wordings.relations), "m": f"{_pick(rng, _FIRST)} {lasts[n]}"}
        place = {"m": lasts[n] if rng.random() < 0.3 else words["m"], "o": f"{next(names)} {_pick(rng, _ENDINGS)}"}
        texts.append((_pick(rng, wordings.first).format(**words), "bridge", n))
        texts.append((_pick(rng, wordings.second["work"]).format(**place), "place", n))
        texts.append((_pick(rng, _NEAR).format(a=a), "", n))
        texts.append((_hobby(rng, a), "", n))
        questions.append(_pick(rng, wordings.questions["work"]).format(**words))
    order = rng.permutation(len(texts)).tolist()
    at = {(texts[source][1], texts[source][2]): place for place, source in enumerate(order) if texts[source][1]}
    wrong = [tuple(at["place", m] for m in range(persons) if m != n and lasts[m] == lasts[n]) for n in range(persons)]
    return Corpus(
        _entries([texts[source][0] for source in order]),
        tuple(Question(q, at["place", n], at["bridge", n], wrong[n]) for n, q in enumerate(questions)),
    )


def evolution(seed: int, *, items: int = 200, outcomes: Outcomes | None = None) -> Corpus:
    """Five plans or things a person, three of which change later, and twelve other notes: 800 entries for 200 items."""
    rng = np.random.default_rng((seed, 12))
    names = iter(_invented(rng, items))
    people = iter([_FIRST[n] for n in rng.permutation(len(_FIRST))])
    early: list[tuple[str, int]] = []  # text, number of the item
    later: list[tuple[str, int]] = []
    asked: dict[int, tuple[str, bool]] = {}
    told = outcomes or OUTCOMES_HELD_OUT
    all_told = (*told.outright, *told.otherwise)
    other: list[str] = []
    for person in range(max(1, items // 5)):
        a = next(people)
        wordings = rng.permutation(len(all_told)).tolist()
        for n in range(5):
            item = 5 * person + n
            kind = _KINDS[int(rng.integers(len(_KINDS)))]
            handle = next(names) if kind.named else f"{_pick(rng, _MANNERS)} {_pick(rng, kind.nouns)}"
            early.append((_pick(rng, kind.begins).format(a=a, it=handle), item))
            if n < 3:
                plural, outcome = kind.asks, all_told[wordings[n]]
                later.append((_pick(rng, kind.ends).format(it=handle, outcome=outcome), item))
                text = _pick(rng, _ASKS).format(a=a, plural=plural, outcome=outcome)
                asked[item] = text, outcome in told.outright
        other += [_hobby(rng, a) for _ in range(12)]
    first = [*early, *((text, -1) for text in other[::2])]
    second = [*later, *((text, -1) for text in other[1::2])]
    ordered = [*(first[i] for i in rng.permutation(len(first))), *(second[i] for i in rng.permutation(len(second)))]
    begun = {item: place for place, (_, item) in enumerate(ordered[: len(first)]) if item >= 0}
    ended = {item: len(first) + place for place, (_, item) in enumerate(ordered[len(first) :]) if item >= 0}
    questions = tuple(Question(text, begun[i], ended[i], outright=outright) for i, (text, outright) in asked.items())
    return Corpus(_entries([text for text, _ in ordered]), questions)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of plan or thing: how it is told of at first and later, and what it is called in a question."""

    named: bool
    nouns: Sequence[str]
    begins: Sequence[str]
    ends: Sequence[str]
    asks: str


_KINDS = (
    _Kind(
        True,
        (),
        ("{a} booked a week in {it}.", "{a} is going to {it} in summer."),
        ("The {it} week {outcome}.", "{it} {outcome} after all."),
        "trips",
    ),
    _Kind(
        True,
        (),
        ("{a} got tickets for the {it} concert.", "{a} plans to see {it} live."),
        ("The {it} evening {outcome}.", "So the {it} concert {outcome}."),
        "evenings out",
    ),
    _Kind(
        False,
        ("course", "class", "workshop"),
        ("{a} signed up for the {it}.", "{a} wants to take the {it}."),
        ("The {it} {outcome}.", "In the end the {it} {outcome}."),
        "lessons",
    ),
    _Kind(
        False,
        ("kayak", "bicycle", "tent", "piano", "camera"),
        ("{a} bought the {it} from a neighbour.", "{a} has got the {it} at last."),
        ("The {it} {outcome}.", "Guess what, the {it} {outcome}."),
        "things",
    ),
)
_MANNERS = _words("pottery sailing drawing folding wooden evening winter copper travel garden mountain velvet")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What becomes of plans and things: in words of status that rules know, and in as many other words."""

    outright: Sequence[str]
    otherwise: Sequence[str]


OUTCOMES_DEVELOPMENT = Outcomes(
    ("fell through", "was called off", "had to be postponed", "was sold", "got stolen"),
    ("found a new owner", "went up in smoke", "came to nothing", "turned out wonderful", "was handed over to a cousin"),
)
OUTCOMES_HELD_OUT = Outcomes(
    ("was cancelled", "got rescheduled", "had to be abandoned", "was donated to a school", "ended up broken"),
    ("never came about", "bit the dust", "exceeded every hope", "now belongs to an aunt", "sank without a trace"),
)
_ASKS = ("Which of the {plural} of {a} {outcome}?", "What about {a}'s {plural} that {outcome}?", "{a}: what {outcome}?")
_ENDINGS = ("Labs", "Works", "Partners", "Foods", "Press")


def _entries(texts: Sequence[str]) -> tuple[Entry, ...]:
    return tuple(Entry(text, _START + n * _EVERY) for n, text in enumerate(texts))


def _hobby(rng: np.random.Generator, a: str) -> str:
    return _pick(rng, _HOBBY).format(a=a, day=_pick(rng, _DAYS), thing=_pick(rng, _THINGS))


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _invented(rng: np.random.Generator, count: int) -> list[str]:
    """Distinct invented names of two syllables."""
    found: dict[str, None] = {}
    while len(found) < count:
        parts = (_ONSETS, _VOWELS, _CODAS, _ONSETS, _VOWELS, _CODAS)
        found["".join(_pick(rng, part) for part in parts).capitalize()] = None
    return list(found)
