"""Histories in ConvoMem's schema, by seed: questions whose answers are spread over 1 to 6 conversations.

Six categories (arXiv 2511.10523, section 3): facts the user states, facts the assistant states, facts that change,
preferences, implicit connections (what was said bears on the question without sharing its words), and abstention
(what is asked was never said). Everything is written from ``FRAMES``: one set of sentence templates for evidence and
fillers alike. Every conversation, evidence or filler, holds near misses: the same attribute of another person, the
same person and attribute but not asserted ("nearly bought"), the same person and another attribute; a third of the
small talk is about the very topics that are asked about. So neither words nor vectors alone tell evidence from filler.

Per persona each category asks about six of its eight topics, with 1, 2, ... 6 evidence messages, one a conversation;
the other two topics are only ever near misses. One of the three forms of a question asks for several things in so many
words, however many there are: the number of messages cannot be read off it. Invented text, no real person.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from lamina.bench.conversations.convomem import EvidenceItem, Said, Talk
from lamina.bench.conversations.convomem_frames import FRAMES, RELATIVES, pairs

UNKNOWN = "I do not know."
MOST_EVIDENCE = 6


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
_ELSEWHERE = pairs(
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
