"""Dialogues whose every fact is known: the material on which memory operations are taught and tested.

40 names, 12 attributes. A statement is a name, an attribute, a value, and whether it holds, ended, or never held. It
is said in one of six ways, two of which (and all values of the test) never occur in training; between statements
there is chatter. Attributes have one value at a time, so the truth of every operation follows from the statements
alone (``operation_truth``), which is what ``StateTeacher`` teaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal, NamedTuple

import numpy as np

from lamina.parameter.experts.operations import NOT_MENTIONED, Exchange

Split = Literal["train", "test"]
Standing = Literal["holds", "ended", "never"]

_NAMES = (
    "Ada Ben Cleo Dina Emil Fay Gus Hana Ivan Jade Kurt Lena Milo Nora Otto Pia Quinn Rosa Sven Tara Uma Vera Wade "
    "Xena Yara Zeno Aldo Bea Cyril Dora Elmo Flora Gina Hugo Iris Joel Kira Luca Mara Nils"
)
NAMES = tuple(_NAMES.split())


class Attribute(NamedTuple):
    """``says`` is the verb phrase of "they"/"I", ``third`` of "she"; six ways to tell it, the last two held out;
    questions, the last held out; values of training, then of the test."""

    says: str
    third: str
    ways: tuple[str, str, str, str, str, str]
    questions: tuple[str, str, str]
    train: str
    test: str


ATTRIBUTES: dict[str, Attribute] = {
    "residence": Attribute(
        "live in {v}", "lives in {v}",
        ("I live in {v}.", "I just moved to {v}.", "I've got a flat in {v} now.", "My home is in {v} these days.",
         "We settled down in {v}.", "These days you will find me living in {v}."),
        ("Where does {n} live?", "Which city does {n} live in?", "In which city is the home of {n}?"),
        "Oslo, Lisbon, Denver, Turin, Ghent, Porto, Leeds, Austin", "Krakow, Bristol, Tucson, Malmo, Nantes, Perth",
    ),
    "employer": Attribute(
        "work at {v}", "works at {v}",
        ("I work at {v}.", "I started working at {v}.", "I've got a job at {v} now.", "My employer is {v}.",
         "I've just been hired by {v}.", "I earn my living over at {v}."),
        ("Where does {n} work?", "Which company does {n} work at?", "Who is the employer of {n}?"),
        "Siemens, Ikea, Philips, Vodafone, Barclays, Airbus, Nestle, Bosch", "Unilever, Ericsson, Zalando, Nokia",
    ),
    "car": Attribute(
        "drive a {v}", "drives a {v}",
        ("I drive a {v}.", "I bought a {v}.", "I'm driving a {v} now.", "My car is a {v}.",
         "There's a {v} in my garage now.", "I get around in a {v}."),
        ("What car does {n} drive?", "Which car does {n} drive?", "What is in the garage of {n}?"),
        "Volvo, Skoda, Fiat, Mazda, Tesla, Toyota, Renault, Honda", "Saab, Lancia, Subaru, Jaguar, Kia",
    ),
    "instrument": Attribute(
        "play the {v}", "plays the {v}",
        ("I play the {v}.", "I'm learning to play the {v}.", "I've taken up the {v}.", "My instrument is the {v}.",
         "I practise the {v} every evening.", "In our band I'm on the {v}."),
        ("What instrument does {n} play?", "Which instrument does {n} play?", "What can {n} be heard playing?"),
        "piano, violin, cello, flute, guitar, trumpet, drums, harp", "oboe, banjo, tuba, accordion, clarinet",
    ),
    "language": Attribute(
        "study {v}", "studies {v}",
        ("I study {v}.", "I'm studying {v}.", "I take {v} lessons.", "I've started learning {v}.",
         "I signed up for a course in {v}.", "My evenings go into {v} grammar."),
        ("What language does {n} study?", "Which language does {n} study?", "What is {n} taking lessons in?"),
        "Spanish, German, Polish, Turkish, Greek, Danish, Arabic, Hindi", "Finnish, Czech, Korean, Welsh, Swahili",
    ),
    "dog": Attribute(
        "own a dog called {v}", "owns a dog called {v}",
        ("I own a dog called {v}.", "I have a dog called {v}.", "I got a dog, he's called {v}.",
         "My dog is called {v}.", "We adopted a dog and named him {v}.", "Our new dog answers to {v}."),
        ("What is the dog of {n} called?", "What dog does {n} own?", "Which name did {n} give the dog?"),
        "Rex, Bruno, Luna, Rocky, Daisy, Max, Bella, Duke", "Pickle, Biscuit, Waffle, Ziggy, Nacho",
    ),
    "dish": Attribute(
        "love {v}", "loves {v}",
        ("I love {v}.", "I just love {v}.", "My favourite dish is {v}.", "I could eat {v} every day.",
         "Nothing beats {v} for dinner.", "I can never say no to {v}."),
        ("What dish does {n} love?", "Which dish does {n} love?", "What would {n} like for dinner?"),
        "pizza, sushi, lasagna, curry, tacos, ramen, paella, dumplings", "falafel, goulash, risotto, pancakes, gnocchi",
    ),
    "drink": Attribute(
        "drink {v}", "drinks {v}",
        ("I drink {v}.", "I drink a lot of {v}.", "My drink is {v}.", "I always order {v}.",
         "Give me a glass of {v} any time.", "I've become a {v} person."),
        ("What does {n} drink?", "Which drink does {n} have?", "What should I pour for {n}?"),
        "coffee, cocoa, lemonade, cider, milk, beer, wine, juice", "kombucha, espresso, champagne, chai, kefir",
    ),
    "team": Attribute(
        "support {v}", "supports {v}",
        ("I support {v}.", "I'm a fan of {v}.", "My team is {v}.", "I cheer for {v}.",
         "I never miss a game of {v}.", "I've got a season ticket for {v}."),
        ("Which team does {n} support?", "What team does {n} support?", "Whose games does {n} watch?"),
        "Arsenal, Chelsea, Ajax, Benfica, Juventus, Porto, Lyon, Sevilla", "Celtic, Everton, Valencia, Napoli, Monaco",
    ),
    "collection": Attribute(
        "collect {v}", "collects {v}",
        ("I collect {v}.", "I've started collecting {v}.", "I have a collection of {v}.", "I buy old {v} to collect.",
         "My shelves are full of {v}.", "I hunt flea markets for {v}."),
        ("What does {n} collect?", "Which things does {n} collect?", "What is on the shelves of {n}?"),
        "stamps, coins, watches, maps, dolls, records, bottles, masks", "thimbles, postcards, cameras, globes",
    ),
    "sport": Attribute(
        "practise {v}", "practises {v}",
        ("I practise {v}.", "I've taken up {v}.", "My sport is {v}.", "I do {v} twice a week.",
         "I joined a club for {v}.", "At weekends you'll see me at {v}."),
        ("What sport does {n} practise?", "Which sport does {n} practise?", "How does {n} keep fit?"),
        "judo, tennis, rowing, boxing, yoga, fencing, karate, golf", "archery, squash, climbing, cricket, rugby",
    ),
    "reading": Attribute(
        "read {v}", "reads {v}",
        ("I read {v}.", "I mostly read {v}.", "I'm into reading {v}.", "My bedside table is piled with {v}.",
         "Give me a pile of {v} and I'm happy.", "I borrow {v} from the library."),
        ("What does {n} read?", "Which kind of books does {n} read?", "What does {n} borrow from the library?"),
        "thrillers, poetry, comics, novels, biographies, westerns, essays, fables",
        "memoirs, mysteries, romances, sagas, satires",
    ),
}  # fmt: skip

# Endings and denials, {s} being the verb phrase; the last of each is held out.
_ENDED = (
    "I no longer {s}.",
    "I don't {s} any more.",
    "I used to {s}, but not any longer.",
    "I gave up: I don't {s} now.",
)
_NEVER = ("I don't {s}.", "No, I do not {s}.", "Honestly, I don't {s}.", "I have to admit that I do not {s}.")
_CHATTER: dict[Split, tuple[str, ...]] = {
    "train": (
        "Good morning!", "How are you today?", "What a lovely day.", "Thanks a lot for that.", "That made me laugh.",
        "It is raining again.", "Can you tell me a joke?", "See you later!", "Sorry, I was on the phone.", "Really?",
        "I have no idea.", "Let me think about it.", "Never mind.", "That sounds right.", "Where were we?",
        "The bus was late again.", "Happy Monday!", "Could you say that once more?", "Nothing much is going on here.",
        "Fine, and you?", "It's getting dark outside.", "The week has been long.", "Please wait a moment.",
        "I'm back.", "You are funny.", "Is anybody there?", "That was a good idea.", "What do you think?",
    ),
    "test": (
        "Hello there!", "What's new with you?", "The weekend was too short.", "You are very kind.", "Haha, good one.",
        "So much traffic this morning.", "Do you know what time it is?", "Talk to you tomorrow!",
    ),
}  # fmt: skip
_REPLIES = ("Good to know!", "Thanks for telling me.", "I see.", "How nice!", "Alright.", "Got it.")
_FIRST_DAY = date(2024, 1, 1)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a turn states. ``text`` is its one canonical sentence."""

    name: str
    attribute: str
    value: str
    standing: Standing = "holds"

    @property
    def text(self) -> str:
        form = ATTRIBUTES[self.attribute]
        if self.standing == "holds":
            return f"{self.name} {form.third.format(v=self.value)}."
        if self.standing == "ended":
            return f"{self.name} no longer {form.third.format(v=self.value)}."
        return f"{self.name} does not {form.says.format(v=self.value)}."


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, its answer, and whether its wording is held out."""

    question: str
    answer: str
    attribute: str
    name: str


@dataclass(slots=True)
class Dialogue:
    """Turns in order (day, exchange, what it states, whether a held-out wording says it), then questions."""

    turns: list[tuple[date, Exchange, tuple[Statement, ...], bool]] = field(default_factory=list)
    questions: list[Asked] = field(default_factory=list)

    @property
    def today(self) -> date:
        return self.turns[-1][0] + timedelta(days=1)


def dialogues(count: int, split: Split, seed: int, *, turns: int = 20, questions: int = 15) -> list[Dialogue]:
    """``count`` dialogues with two people each. Equal arguments give equal dialogues."""
    offset = 0 if split == "train" else 1_000_003
    return [
        _Writer(split, np.random.default_rng([seed + offset, number])).write(turns, questions)
        for number in range(count)
    ]


class _Writer:
    """Makes one dialogue."""

    def __init__(self, split: Split, random: np.random.Generator) -> None:
        self._split: Split = split
        self._random = random
        self._people = [str(name) for name in random.choice(NAMES, size=2, replace=False)]
        self._known: dict[tuple[str, str], Statement] = {}  # what holds now

    def write(self, turns: int, questions: int) -> Dialogue:
        dialogue = Dialogue()
        day = _FIRST_DAY + timedelta(days=int(self._random.integers(300)))
        before: tuple[tuple[str, str], ...] = ()
        for _ in range(turns):
            day += timedelta(days=int(self._random.integers(4)))
            name = self._one(self._people)
            stated = tuple(dict.fromkeys(self._state(name) for _ in range(self._how_many())))
            told = [self._tell(statement) for statement in stated]
            held_out = any(held for _, held in told)
            if not stated or self._random.random() < 0.25:
                chatter = self._one(_CHATTER[self._split]), False
                told = [chatter, *told]
            line = name, " ".join(text for text, _ in told)
            context = before if self._random.random() < 0.3 else ()
            exchange = Exchange((line, ("Assistant", self._one(_REPLIES))), context)
            dialogue.turns.append((day, exchange, stated, held_out))
            before = (line,)
        self._ask(dialogue, questions)
        return dialogue

    def _how_many(self) -> int:
        return int(self._random.choice([0, 1, 2], p=[0.2, 0.65, 0.15]))

    def _state(self, name: str) -> Statement:
        """Something new, a change, a repetition, an ending, or a denial."""
        mine = [statement for (who, _), statement in self._known.items() if who == name]
        kind = str(self._random.choice(["new", "change", "again", "end", "deny"], p=[0.5, 0.18, 0.09, 0.13, 0.1]))
        if kind in ("change", "again", "end") and mine:
            old = mine[int(self._random.integers(len(mine)))]
            if kind == "again":
                return old
            if kind == "end":
                del self._known[name, old.attribute]
                return Statement(name, old.attribute, old.value, "ended")
            return self._hold(name, old.attribute)
        attribute = self._one([a for a in ATTRIBUTES if (name, a) not in self._known] or list(ATTRIBUTES))
        if kind == "deny":
            held = self._known.get((name, attribute))
            values = [value for value in self._values(attribute) if held is None or value != held.value]
            return Statement(name, attribute, self._one(values), "never")
        return self._hold(name, attribute)

    def _hold(self, name: str, attribute: str) -> Statement:
        old = self._known.get((name, attribute))
        values = [value for value in self._values(attribute) if old is None or value != old.value]
        self._known[name, attribute] = Statement(name, attribute, self._one(values))
        return self._known[name, attribute]

    def _values(self, attribute: str) -> list[str]:
        form = ATTRIBUTES[attribute]
        return (form.train if self._split == "train" else form.test).split(", ")

    def _tell(self, statement: Statement) -> tuple[str, bool]:
        """The words, and whether they are of the held-out ones, which only the test has: a half of it."""
        form = ATTRIBUTES[statement.attribute]
        ways: Sequence[str] = {"holds": form.ways, "ended": _ENDED, "never": _NEVER}[statement.standing]
        seen = len(ways) - (2 if statement.standing == "holds" else 1)
        held = self._split == "test" and self._random.random() < 0.5
        way = self._one(ways[seen:] if held else ways[:seen])
        return way.format(v=statement.value, s=form.says.format(v=statement.value)), held

    def _ask(self, dialogue: Dialogue, count: int) -> None:
        """Three in four about what holds, the others about what was never said, or is no longer so."""
        held = list(self._known.values())
        free = [(name, a) for name in self._people for a in ATTRIBUTES if (name, a) not in self._known]
        for number in range(count):
            if held and (number % 4 or not free):
                about = held[int(self._random.integers(len(held)))]
                name, attribute, answer = about.name, about.attribute, about.value
            else:
                name, attribute = free[int(self._random.integers(len(free)))]
                answer = NOT_MENTIONED
            wordings = ATTRIBUTES[attribute].questions
            wording = self._one(wordings[:2] if self._split == "train" or self._random.random() < 0.5 else wordings[2:])
            dialogue.questions.append(Asked(wording.format(n=name), answer, attribute, name))

    def _one(self, items: Sequence[str]) -> str:
        return items[int(self._random.integers(len(items)))]
