"""A reader without a model: it knows the language of the generated histories, and sees only the context it is given.

It stands in for a language model where what is measured is the *context*. Each quoted line is split into sentences;
a sentence that fully matches one of a frame's assertions fills a slot (speaker, relation, topic, value). A question
matches one of the frame's question forms; the answer is every value in its slot, the last one where only the latest
counts, and "I do not know." where there is none. It has no labels, no items and no access to the store: an answer
is wrong as soon as one evidence message is missing, as the paper's judge has it (partial answers are wrong).

What it cannot show: that a model is distracted by a long context. Its full-context answers are an upper bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lamina.bench.conversations.convomem import EvidenceItem
from lamina.bench.conversations.convomem_frames import FRAMES, Frame
from lamina.bench.conversations.convomem_generator import UNKNOWN
from lamina.llm.base import Message

_LINE = re.compile(r'^(\w+), [^:]+: "(.*)"$', re.M)
_SENTENCE = re.compile(r"(?<=[.?!])\s+")


@dataclass(frozen=True, slots=True)
class _Grammar:
    """A frame as patterns."""

    frame: Frame
    asks: tuple[re.Pattern[str], ...]
    asserts: tuple[re.Pattern[str], ...]


def read(messages: Sequence[Message]) -> str:
    """The answer to the question at the end of ``messages``, from the quoted lines in them."""
    content = messages[-1]["content"]
    quoted, _, question = content.rpartition("Question: ")
    return answer(question, quoted)


def answer(question: str, context: str) -> str:
    """The answer from lines ``Speaker, date: "text"`` in order of time; ``UNKNOWN`` if they do not hold it."""
    slot = _asked(question.strip())
    if slot is None:
        return UNKNOWN
    grammar, topic = slot
    values = list(dict.fromkeys(_values(grammar, topic, context)))
    if not values:
        return UNKNOWN
    return values[-1] if grammar.frame.last_counts else "; ".join(sorted(values))


def judge(item: EvidenceItem, said: str) -> bool:
    """Whether an answer is the reference, whole: the same values in any order."""
    return set(said.split("; ")) == set(item.answer.split("; "))


def valid(item: EvidenceItem) -> bool:
    """The paper's three checks, by the reader that only sees what it is given."""
    said = [f'{message.speaker}, 1 January 2024: "{message.text}"' for message in item.message_evidences]
    if not judge(item, answer(item.question, "\n".join(said))):
        return False
    if item.answer == UNKNOWN:
        return True
    # Of a fact that changed only the last message decides; of all others each does.
    needed = [len(said) - 1] if item.category == "changing_facts" else range(len(said))
    without = ("\n".join(said[:place] + said[place + 1 :]) for place in needed)
    left_out = [answer(item.question, context) for context in without]
    return answer(item.question, "") == UNKNOWN and not any(judge(item, a) for a in left_out)


def _values(grammar: _Grammar, topic: str, context: str) -> Iterator[str]:
    for speaker, text in _LINE.findall(context):
        if speaker != grammar.frame.speaker or topic not in text:
            continue
        for sentence in _SENTENCE.split(text):
            for pattern in grammar.asserts:
                found = pattern.fullmatch(sentence)
                if found and found["t"] == topic:
                    yield found["v"]


def _asked(question: str) -> tuple[_Grammar, str] | None:
    """Which relation of which topic a question is about."""
    for grammar in _grammars():
        for pattern in grammar.asks:
            if found := pattern.fullmatch(question):
                frame = grammar.frame
                return grammar, frame.topics[frame.asked.index(found["t"])] if frame.asked else found["t"]
    return None


@lru_cache(maxsize=1)
def _grammars() -> tuple[_Grammar, ...]:
    return tuple(
        _Grammar(
            frame,
            tuple(_pattern(form.replace("{q}", "{t}"), frame.asked or frame.topics, ()) for form in frame.questions),
            tuple(_pattern(form, frame.topics, frame.values) for form in frame.own),
        )
        for frame in FRAMES.values()
    )


def _pattern(form: str, topics: Sequence[str], values: Sequence[str]) -> re.Pattern[str]:
    """A template as a pattern with groups ``t`` and ``v``."""
    pattern = re.escape(form).replace(r"\{t\}", f"(?P<t>{'|'.join(map(re.escape, topics))})")
    return re.compile(pattern.replace(r"\{v\}", f"(?P<v>{'|'.join(map(re.escape, values))})"))
