"""Histories in ConvoMem's schema, by seed: questions whose answers are spread over 1 to 6 conversations.

Six categories (arXiv 2511.10523, section 3): facts the user states, facts the assistant states, facts that change,
preferences, implicit connections (what was said bears on the question without sharing its words), and abstention
(what is asked was never said). Everything is written from ``FRAMES``: one set of sentence templates for evidence and
fillers alike. Every conversation, evidence or filler, holds near misses: the same attribute of another person, the
same person and attribute but not asserted ("nearly bought"), the same person and another attribute; a third of the
small talk is about the very topics that are asked about. So neither words nor vectors alone tell evidence from filler.

Per persona each category asks about six of its eight topics, with 1, 2, ... 6 evidence messages, one a conversation;
the other two topics are only ever near misses. Invented text, no real person.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

from lamina.bench.conversations.convomem import EvidenceItem, Said, Talk

UNKNOWN = "I do not know."
MOST_EVIDENCE = 6


@dataclass(frozen=True, slots=True)
class Frame:
    """One relation in words. ``{t}`` is the topic, ``{v}`` the value, ``{k}`` a relative, ``{q}`` the topic as asked.

    ``own`` asserts the relation of the user, ``near`` says something close to it that is no answer. ``related`` is
    what the evidence of an abstention question says, in place of ``own``.
    """

    own: tuple[str, ...]
    near: tuple[str, ...]
    questions: tuple[str, ...]
    topics: tuple[str, ...]
    values: tuple[str, ...]
    speaker: str = "User"
    asked: tuple[str, ...] = ()  # topics as questions name them, where that differs
    last_counts: bool = False
    related: tuple[str, ...] = ()

    def question(self, template: str, topic: str) -> str:
        q = self.asked[self.topics.index(topic)] if self.asked else topic
        return template.format(t=topic, q=q)


def _pairs(first: str, second: str, form: str = "{} {}") -> tuple[str, ...]:
    return tuple(form.format(a, b) for a, b in product(first.split(), second.split()))


_THINGS = _pairs(
    "folding brass second-hand wooden spare cordless heavy narrow waterproof battered tall portable",
    "ladder lamp bench cabinet drill shelf curtain radio mirror trolley stool heater clock rug toolbox vise",
    "a {} {}",
)
_BOOKS = _pairs(
    "Quiet Patient Northern Hidden Seventh Borrowed Salted Distant Paper Hollow",
    "Harbour Compass Orchard Ledger Winter Bridge Letters Lantern Atlas Garden Signal Thread",
    "The {} {}",
)
_HOURS = _pairs(
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "07:30 08:45 10:15 12:00 14:30 16:45 17:20 18:15 19:40 20:05",
    "{} at {}",
)
_NUISANCES = _pairs(
    "loud early cold endless crowded scented plastic greasy bright shared long damp",
    "music starts lunches speeches queues candles cutlery snacks lighting bathrooms detours blankets",
)
_TROUBLES = _pairs(
    "hairline stubborn recurring strange hidden lasting slow second mild deep",
    "crack leak swelling rattle stain blister blockage fracture shortage rash",
    "a {} {}",
)
_FIRMS = _pairs(
    "Keller Marsh Oduya Brandt Sorel Tanaka Whitby Lindqvist Moreau Castell",
    "Brothers Partners Services Works Group Associates",
    "{} {}",
)
RELATIVES = ("sister", "brother", "neighbour", "cousin", "colleague", "landlord", "aunt", "flatmate")

FRAMES: dict[str, Frame] = {
    "user_facts": Frame(
        own=(
            "I picked up {v} for the {t}.",
            "The {t} has {v} now, it took me ages to choose.",
            "I finally ordered {v}, the {t} was missing that.",
            "Yesterday I carried {v} home, it goes into the {t}.",
        ),
        near=(
            "My {k} picked up {v} for the {t}.",
            "My {k} says the {t} needs {v}, I am not convinced.",
            "I nearly bought {v} for the {t}, but put it back.",
            "Somebody on the radio ordered {v} for a {t}.",
        ),
        questions=("What have I bought for the {t}?", "Which things did I get for the {t}?"),
        topics=(
            "garden shed",
            "workshop",
            "nursery",
            "sailing boat",
            "summer kitchen",
            "home office",
            "camper van",
            "greenhouse",
        ),
        values=_THINGS,
    ),
    "assistant_facts": Frame(
        own=(
            "For the {t} you could start with {v}.",
            "A sound guide to the {t} is {v}.",
            "I would read {v} before the {t}.",
            "Have a look at {v}, it covers the {t} well.",
        ),
        near=(
            "I would not bother with {v} for the {t}.",
            "Others may name {v} for the {t}, I do not.",
            "If {v} bored you, the {t} will not be saved by its sequel.",
            "You told me that your {k} read {v} before the {t}.",
        ),
        questions=("Which books did you recommend for the {t}?", "What did you suggest that I read for the {t}?"),
        topics=(
            "pilgrimage",
            "language exam",
            "house renovation",
            "night hike",
            "job interview",
            "pottery course",
            "beekeeping season",
            "desert crossing",
        ),
        values=_BOOKS,
        speaker="Assistant",
    ),
    "changing_facts": Frame(
        own=(
            "My {t} is on {v} now.",
            "They moved my {t}, it is {v} from this week.",
            "From now on I have my {t} on {v}.",
            "The new slot of my {t} is {v}.",
        ),
        near=(
            "My {k} has a {t} on {v} now.",
            "They wanted to move my {t} to {v}, but I said no.",
            "I wish my {t} were on {v}.",
            "The {t} of my {k} was moved to {v}.",
        ),
        questions=("When is my {t} at the moment?", "On which day and hour do I have my {t} these days?"),
        topics=(
            "piano lesson",
            "book club",
            "physiotherapy",
            "choir rehearsal",
            "Spanish class",
            "team call",
            "swimming training",
            "chess evening",
        ),
        values=_HOURS,
        last_counts=True,
    ),
    "preferences": Frame(
        own=(
            "I can't stand {v} on a {t}.",
            "For me {v} always ruin a {t}.",
            "What I dislike most about a {t} is having {v}.",
            "Please spare me {v}, they spoil every {t}.",
        ),
        near=(
            "My {k} can't stand {v} on a {t}.",
            "I have come to like {v} on a {t}.",
            "Some say that {v} ruin a {t}, I would not mind.",
            "My {k} complained about {v} after the last {t}.",
        ),
        questions=(
            "Help me plan a {t} that suits me: what should be avoided?",
            "You arrange a {t} for me, what do you leave out?",
        ),
        topics=(
            "road trip",
            "dinner party",
            "museum visit",
            "train journey",
            "picnic",
            "city break",
            "birthday",
            "camping weekend",
        ),
        values=_NUISANCES,
    ),
    "implicit_connections": Frame(
        own=(
            "My {t} is giving me trouble again, this time with {v}.",
            "There is {v}, so my {t} worries me.",
            "I had my {t} looked at and they found {v}.",
            "They say my {t} has {v}, I had hoped for better news.",
        ),
        near=(
            "My {k} had a {t} looked at and they found {v}.",
            "I had my {t} looked at and they ruled out {v}.",
            "There was {v} once, but my {t} is fine again.",
            "Does a {t} with {v} ever recover, my {k} asks.",
        ),
        questions=("What could make it hard for me to {q}?", "Should I {q}, or does something speak against it?"),
        topics=("knee", "tyre", "oven", "roof", "voice", "passport photo", "wrist", "bicycle"),
        asked=(
            "run the half marathon",
            "drive to the coast",
            "host the big dinner",
            "rent out the attic",
            "sing at the wedding",
            "fly abroad next month",
            "play the violin solo",
            "join the tour of the lakes",
        ),
        values=_TROUBLES,
    ),
    "abstention": Frame(
        own=("I was quoted a price by {v} for the {t}.", "The offer for the {t} came, it is from {v}."),
        related=(
            "I asked around about the {t}, {v} were mentioned.",
            "Do you think {v} would do the {t}?",
            "I still have to call {v} about the {t}.",
            "The people of {v} never rang back about the {t}.",
        ),
        near=(
            "My {k} was quoted a price by {v} for the {t}.",
            "My {k} is happy with {v} after the {t}.",
            "I walked past the office of {v} and thought of the {t}.",
            "No offer for the {t} has come from {v}.",
        ),
        questions=("Who has made me an offer for the {t}?", "Which company quoted me a price for the {t}?"),
        topics=(
            "new fence",
            "tree felling",
            "kitchen floor",
            "house move",
            "solar panels",
            "chimney repair",
            "garden wall",
            "window cleaning",
        ),
        values=_FIRMS,
    ),
}
CATEGORIES = tuple(FRAMES)

_LEADS = ("", "", "It has been a long week.", "Before I forget.", "On another note.", "Good news for once.")
_USER_TALK = (
    "Any ideas for the {t}?",
    "Could you write three lines about a {t} for me?",
    "What do people usually forget about a {t}?",
    "I keep thinking about the {t} today.",
    "How long does one need for a {t}, roughly?",
    "Thanks, that helps with the {t}.",
)
_ASSISTANT_TALK = (
    "Happy to help with the {t}, what matters most to you?",
    "With a {t} it is mostly a question of patience.",
    "Let us go through the {t} step by step.",
    "Shall I draw up a short plan for the {t}?",
    "Noted, we can come back to the {t} whenever you like.",
    "A {t} is easier than it looks.",
)
_ELSEWHERE = _pairs(
    "weekly local annual regional digital private foreign public",
    "newsletter market budget festival archive podcast tax exhibition election calendar warranty timetable",
)  # topics that nobody asks about


@dataclass(frozen=True, slots=True)
class Persona:
    """One user: what can be asked, and conversations that answer none of it."""

    name: str
    items: tuple[EvidenceItem, ...]
    fillers: tuple[Talk, ...]


def persona(number: int, seed: int = 0, *, fillers: int = 300) -> Persona:
    """Persona ``number`` of a seed: 36 items (6 categories x 1-6 evidence messages), and ``fillers`` conversations."""
    return _Writer(f"persona-{number:02d}", random.Random(f"{seed}-{number}")).write(fillers)


class _Writer:
    def __init__(self, name: str, draw: random.Random) -> None:
        self._name = name
        self._draw = draw
        self._topics = {category: draw.sample(frame.topics, len(frame.topics)) for category, frame in FRAMES.items()}

    def write(self, fillers: int) -> Persona:
        items = tuple(self._item(category, count) for category in FRAMES for count in range(1, MOST_EVIDENCE + 1))
        return Persona(self._name, items, tuple(self._talk(*self._near_miss()) for _ in range(fillers)))

    def _item(self, category: str, count: int) -> EvidenceItem:
        frame, topic = FRAMES[category], self._topics[category][count - 1]
        values = self._draw.sample(frame.values, count)
        asserts = frame.related or frame.own
        lines = [self._draw.choice(asserts).format(t=topic, v=value) for value in values]
        talks = tuple(self._talk(frame.speaker, line) for line in lines)
        said = (next(m for m in talk.messages if line in m.text) for talk, line in zip(talks, lines, strict=True))
        answer = UNKNOWN if frame.related else "; ".join([values[-1]] if frame.last_counts else sorted(values))
        return EvidenceItem(
            question=frame.question(self._draw.choice(frame.questions), topic),
            answer=answer,
            message_evidences=tuple(said),
            conversations=talks,
            category=category,
            personId=self._name,
        )

    def _near_miss(self) -> tuple[str, str]:
        """A speaker and a sentence that answers nothing that is asked."""
        category = self._draw.choice(CATEGORIES)
        frame, topics = FRAMES[category], self._topics[category]
        value, relative = self._draw.choice(frame.values), self._draw.choice(RELATIVES)
        if self._draw.random() < 0.2:  # the same person, another attribute: asserted, but nobody asks
            spare = self._draw.choice(topics[MOST_EVIDENCE:])
            return frame.speaker, self._draw.choice(frame.own).format(t=spare, v=value)
        topic = self._draw.choice(topics)
        return frame.speaker, self._draw.choice(frame.near).format(t=topic, v=value, k=relative)

    def _talk(self, speaker: str, line: str) -> Talk:
        """Six messages by turns: ``line``, one near miss, four of small talk."""
        places = {"User": [0, 2, 4], "Assistant": [1, 3, 5]}
        lines: dict[int, str] = {}
        for who, sentence in ((speaker, line), self._near_miss()):
            place = self._draw.choice([place for place in places[who] if place not in lines])
            lines[place] = f"{self._draw.choice(_LEADS)} {sentence}".strip()
        messages = []
        for place in range(6):
            who = "Assistant" if place % 2 else "User"
            messages.append(Said(speaker=who, text=lines.get(place) or self._small_talk(who)))
        return Talk(messages=tuple(messages))

    def _small_talk(self, who: str) -> str:
        asked = self._draw.random() < 1 / 3
        topic = self._draw.choice(FRAMES[self._draw.choice(CATEGORIES)].topics if asked else _ELSEWHERE)
        return self._draw.choice(_ASSISTANT_TALK if who == "Assistant" else _USER_TALK).format(t=topic)
