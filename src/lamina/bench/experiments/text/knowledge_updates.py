"""Does the memory know what is current? Seeded people who change, asked afterwards.

A person says eight things that later change (old, new, each of another attribute), eight that hold side by side
(four pairs), four that differ in one number or name (two pairs), and repeats two. Half of the changes are said
outright, 30 % in other words, 20 % only imply the new value; in a fifth of them the newer statement arrives
first, as in an import. Sentences are in ``update_sayings`` and ``standing_sayings``, each in a development and a
held-out half. Asked is what changed, now and as of the time before, and (``standing_questions``) for the older
statement of the pairs that hold side by side, which no newer one replaced.

Everything goes through the front door, one scope a person, every statement a message with its own time. What a
hit says is known by its turn, not by comparing words. Two baselines keep every statement once and rank them by
cosine with the same encoder, one statement a hit: the nearest, and the newest of the two nearest. The second is
made for a set in which every question is about a change: it prefers any newer sentence that is near, so the pairs
that hold side by side are its price.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lamina.bench.experiments.text.update_sayings import SAYINGS
from lamina.bench.experiments.tiers.standing_questions import QUESTIONS
from lamina.bench.experiments.tiers.standing_sayings import COEXISTING, FILL, NEAR
from lamina.llm.base import Embedder

if TYPE_CHECKING:
    from lamina.memory import Memory

Half = Literal["development", "held-out"]
Phrasing = Literal["canonical", "paraphrase", "implicit", "coexisting", "near"]
Arm = Literal["lamina", "nearest", "newest of two"]
Side = Literal["old", "new", "other"]  # what a first hit says; other: it is about something else
BASELINES: tuple[Arm, ...] = ("nearest", "newest of two")
CHANGED: tuple[Phrasing, ...] = ("canonical", "paraphrase", "implicit")

CHANGES, SIDE_BY_SIDE, NEARLY, REPEATED = 8, 4, 2, 2  # of a person
LATE = 0.2  # share of changes whose newer statement arrives first
# A question without a date is asked at the present: appointments must be still to come, whenever this runs.
_START = datetime(2099, 2, 3, 8, tzinfo=UTC)
_BETWEEN = _START + timedelta(days=40)  # after every old statement, before every new one
_DEAL: tuple[Phrasing, ...] = ("canonical",) * 5 + ("paraphrase",) * 3 + ("implicit",) * 2
_REPEATS: dict[Half, tuple[str, ...]] = {
    "development": (
        "{}", "{}", "{}", "By the way, {}", "Just so you know, {}", "As I said, {}", "Like I told you, {}",
        "To repeat myself, {}", "Don't forget, {}", "Mind you, {}",
    ),
    "held-out": ("{}", "{}", "{}", "Again, {}", "I'll say it once more, {}", "As you may recall, {}"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """Two statements of one person. ``question`` asks for what changed; of pairs that coexist for the older
    statement; it is empty for those that nearly agree."""

    phrasing: Phrasing
    attribute: str
    old: str
    new: str
    question: str = ""

    @property
    def changes(self) -> bool:
        """Whether the newer statement replaces the older."""
        return self.phrasing in CHANGED


@dataclass(frozen=True, slots=True)
class Said:
    """A statement in the order of arrival: which pair it is of, which side (``repeat``: again), and when."""

    pair: int
    side: Literal["old", "new", "repeat"]
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    pairs: tuple[Pair, ...]
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the first hit of each arm says to one question, and to a change's question as of the time between."""

    phrasing: Phrasing
    first: Mapping[Arm, Side]
    before: Mapping[Arm, Side]


@dataclass(frozen=True, slots=True)
class Updates:
    """The measurement; shares in [0, 1]."""

    answers: tuple[Answer, ...]
    wrongly_closed: float  # share of coexisting and near pairs of which a statement is not held any more
    duplicates: float  # share of repeated statements that were stored as another fact
    lost: int  # statements that were taken for a repetition of another, or left no trace
    mistakes: tuple[str, ...]  # what was wrongly closed, stored twice or lost, for people

    def stale(self, arm: Arm, *phrasings: Phrasing) -> float:
        """stale@1 over the changes of these phrasings: the first hit is the old statement."""
        return _share(answer.first[arm] == "old" for answer in self.answers if answer.phrasing in phrasings)

    def current(self, arm: Arm) -> float:
        """Share of all changes whose first hit is the new statement."""
        return _share(answer.first[arm] == "new" for answer in self.answers if answer.phrasing in CHANGED)

    def standing(self, arm: Arm) -> float:
        """Share of questions about the older of two statements that both hold whose first hit is that one."""
        return _share(answer.first[arm] == "old" for answer in self.answers if answer.phrasing == "coexisting")

    def either(self, arm: Arm) -> float:
        """Mean of ``current`` and ``standing``: whoever asks does not say whether a matter has changed."""
        return (self.current(arm) + self.standing(arm)) / 2

    def as_of(self, arm: Arm) -> float:
        """Share of all changes of which the first hit, as of the time between, is the old statement."""
        return _share(answer.before[arm] == "old" for answer in self.answers if answer.phrasing in CHANGED)


# -- people --------------------------------------------------------------------------------------


def people(seed: int, count: int, half: Half) -> list[Person]:
    """``count`` people (50 make 400 changes, 200 coexisting and 100 near pairs) speaking sentences of ``half``."""
    rng = random.Random(f"knowledge updates {seed} {half}")
    deal: list[Phrasing] = []
    found = []
    for number in range(count):
        pairs = []
        for attribute in _attributes(number):
            if not deal:
                deal = rng.sample(_DEAL, len(_DEAL))
            pairs.append(_change(rng, attribute, deal.pop(), half))
        asked = [" | ".join(row) for row in zip(_half(COEXISTING, half), _half(QUESTIONS, half), strict=True)]
        side, near = rng.sample(asked, SIDE_BY_SIDE), rng.sample(_half(NEAR, half), NEARLY)
        pairs += [_filled(rng, line, "coexisting") for line in side] + [_filled(rng, line, "near") for line in near]
        found.append(Person(f"person-{number}", tuple(pairs), tuple(_arrivals(rng, pairs, half))))
    return found


def _attributes(number: int) -> list[str]:
    """Eight attributes, turning; not both of marital and partner, because one tells about the other."""
    names = [name for name in SAYINGS if name != ("marital", "partner")[number % 2]]
    return [names[(number + step) % len(names)] for step in range(CHANGES)]


def _half(lines: str, half: Half) -> list[str]:
    development, held_out = lines.split("\n--\n")
    return (development if half == "development" else held_out).splitlines()


def _change(rng: random.Random, attribute: str, phrasing: Phrasing, half: Half) -> Pair:
    saying = SAYINGS[attribute]
    line = rng.choice(_half(getattr(saying, phrasing), half))
    a, b = rng.sample(saying.values.split(", "), 2)
    old, new, *question = line.format(a=a, b=b).split(" | ")
    return Pair(phrasing, attribute, _sentence(old), _sentence(new), question[0] if question else saying.question)


def _filled(rng: random.Random, line: str, phrasing: Phrasing) -> Pair:
    values: dict[str, str] = {}
    for letters, pool in FILL.items():
        values |= dict(zip(letters.split(), rng.sample(pool.split(", "), 2), strict=True))
    old, new, *question = line.format(**values).split(" | ")
    return Pair(phrasing, phrasing, _sentence(old), _sentence(new), *question)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _arrivals(rng: random.Random, pairs: Sequence[Pair], half: Half) -> Iterator[Said]:
    """Old statements a day apart, new ones two months later, late ones after their successors.

    What is repeated is so after two hours, so that "last week" means the same week.
    """
    order = rng.sample(range(len(pairs)), len(pairs))
    held_back = [pair for pair in order if pairs[pair].changes and rng.random() < LATE]
    first = {pair: Said(pair, "old", pairs[pair].old, _START + timedelta(days=n)) for n, pair in enumerate(order)}
    then = [Said(pair, "new", pairs[pair].new, _START + timedelta(days=60 + n)) for n, pair in enumerate(order)]
    repeated = rng.sample(order, REPEATED)
    yield from (said for pair, said in first.items() if pair not in held_back)
    for said in then:
        yield said
        if said.pair in repeated:
            yield Said(said.pair, "repeat", rng.choice(_REPEATS[half]).format(said.text), said.at + timedelta(hours=2))
    yield from (first[pair] for pair in held_back)


# -- measurement ---------------------------------------------------------------------------------


def measure(embedder: Embedder, seed: int, count: int, half: Half = "held-out") -> Updates:
    """Tell a memory on disk all that ``people`` say, then ask."""
    from lamina.memory import Memory
    from lamina.settings import Settings

    crowd = people(seed, count, half)
    answers: list[Answer] = []
    closed: list[str] = []
    twice: list[str] = []
    lost: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="lamina-updates-") as folder,
        Memory(Path(folder) / "memory.db", embedder=embedder, settings=Settings(tenant="default")) as memory,
    ):
        for person in crowd:
            told = _tell(memory, person)
            answers += _ask(memory, embedder, person, told)
            closed += told.wrongly_closed(memory, person)
            twice += told.stored_twice(person)
            lost += told.lost(memory, person)
    return Updates(
        answers=tuple(answers),
        wrongly_closed=len(closed) / (count * (SIDE_BY_SIDE + NEARLY)),
        duplicates=len(twice) / (count * REPEATED),
        lost=len(lost),
        mistakes=tuple(
            f"{what}: {text}"
            for what, texts in (("closed", closed), ("twice", twice), ("lost", lost))
            for text in texts
        ),
    )


@dataclass(frozen=True, slots=True)
class _Told:
    """What ``add`` answered to each statement of a person, and which turn is which statement."""

    rows: tuple[list[dict[str, Any]], ...]
    turns: Mapping[str, Said]

    def wrongly_closed(self, memory: Memory, person: Person) -> list[str]:
        """Coexisting and near pairs with a statement of which a fact does not stand any more."""
        fallen = {
            said.pair: f"{person.pairs[said.pair].old} / {person.pairs[said.pair].new}"
            for said, facts in self._facts(person)
            if not person.pairs[said.pair].changes
            and any(row["event"] == "ADD" and _is_closed(memory, row["id"]) for row in facts)
        }
        return list(fallen.values())

    def stored_twice(self, person: Person) -> list[str]:
        return [
            said.text
            for said, facts in self._facts(person)
            if said.side == "repeat" and any(row["event"] == "ADD" for row in facts)
        ]

    def lost(self, memory: Memory, person: Person) -> list[str]:
        """Statements whose turn is not kept open, and those of which every fact was taken for one that is known."""
        open_turns = {id for id in self.turns if not _is_closed(memory, id)}
        kept = {said for id, said in self.turns.items() if id in open_turns}
        return [
            said.text
            for said, facts in self._facts(person)
            if said not in kept or (said.side != "repeat" and facts and all(row["event"] == "NONE" for row in facts))
        ]

    def _facts(self, person: Person) -> Iterator[tuple[Said, list[dict[str, Any]]]]:
        for said, rows in zip(person.said, self.rows, strict=True):
            yield said, [row for row in rows if row["semantic_type"] != "turn"]


def _tell(memory: Memory, person: Person) -> _Told:
    items = [
        {"messages": [{"role": "user", "content": said.text}], "user_id": person.name, "timestamp": said.at}
        for said in person.said
    ]
    rows = tuple(answer["results"] for answer in memory.add_batch(items))
    turns = [next(row["id"] for row in answer if row["semantic_type"] == "turn") for answer in rows]
    return _Told(rows, dict(zip(turns, person.said, strict=True)))


def _is_closed(memory: Memory, id: str) -> bool:
    found = memory.get(id)
    return found is None or found.get("superseded") is not None


def _ask(memory: Memory, embedder: Embedder, person: Person, told: _Told) -> Iterator[Answer]:
    statements = sorted((said for said in person.said if said.side != "repeat"), key=lambda said: said.at)
    vectors = embedder.encode([said.text for said in statements])
    past = [n for n, said in enumerate(statements) if said.at <= _BETWEEN]
    for number, pair in enumerate(person.pairs):
        if not pair.question:
            continue
        likeness = vectors @ embedder.encode([pair.question])[0]
        earlier = [statements[n] for n in past]
        first = _nearest(statements, likeness) | {"lamina": _first(memory, person, told, pair.question)}
        before = _nearest(earlier, likeness[past]) | {"lamina": _first(memory, person, told, pair.question, _BETWEEN)}
        yield Answer(
            phrasing=pair.phrasing,
            first={arm: _side(said, number) for arm, said in first.items()},
            before={arm: _side(said, number) for arm, said in before.items()},
        )


def _nearest(statements: Sequence[Said], likeness: NDArray[np.float32]) -> dict[Arm, Said | None]:
    """The baselines' first hits. Of equals the earliest is nearer."""
    two = [statements[n] for n in np.argsort(-likeness, kind="stable")[:2]]
    return {"nearest": two[0], "newest of two": max(two, key=lambda said: said.at)}


def _first(memory: Memory, person: Person, told: _Told, question: str, as_of: datetime | None = None) -> Said | None:
    """The statement that the first hit rests on."""
    rows = memory.search(question, filters={"user_id": person.name}, top_k=1, threshold=0.0, as_of=as_of)["results"]
    return told.turns[rows[0]["source"]["id"] if "source" in rows[0] else rows[0]["id"]] if rows else None


def _side(first: Said | None, pair: int) -> Side:
    if first is None or first.pair != pair:
        return "other"
    return "old" if first.side == "old" else "new"


def _share(values: Iterable[bool]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
