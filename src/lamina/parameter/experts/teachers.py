"""Who the experts learn from: an endpoint, Lamina's own rules, or the state behind synthetic data.

What a student may be said to have been distilled from is its teacher's ``name``, which goes with every trace and
every expert. ``OpenAITeacher`` is the paper's path (arXiv 2512.04763: a large model teaches a small one);
``RuleTeacher`` distils rules; ``StateTeacher`` knows the truth of generated dialogues, so that learning from it is
supervised learning, and no distillation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from lamina.cube.cube import Claim, Header, MemCube
from lamina.cube.payload import TextPayload
from lamina.errors import LLMError
from lamina.llm.base import ChatModel
from lamina.llm.openai import OpenAIChat
from lamina.parameter.experts.operations import NOT_MENTIONED, Event, Exchange, Inquiry, MemoryOp, Revision
from lamina.parameter.experts.prompts import Change, Facts, messages, read
from lamina.store.analysis import terms
from lamina.text.base import Fact, Operation, Turn
from lamina.text.extraction import RulesExtractor
from lamina.text.update import RulesUpdater

_EVENTS: dict[str, Event] = {"add": "ADD", "late": "ADD", "noop": "NONE", "skip": "NONE", "close": "DELETE"}
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)  # the rules order facts by when they were told; requests do not say


@dataclass(frozen=True, slots=True)
class StateTeacher:
    """Answers from what a generator of synthetic dialogues knows."""

    extract: Callable[[Exchange], Sequence[str]]
    update: Callable[[Revision], Sequence[MemoryOp]]
    generate: Callable[[Inquiry], str]
    name: str = "state"


class _Changes(BaseModel):
    """Servers that follow a schema want an object at its root."""

    changes: list[Change]


_GUIDE = {
    "extract": "Each fact is one short sentence in the third person that begins with the name of whom it is about. "
    "Chatter, questions and thanks give no facts.",
    "update": "One item a new fact, in order. ADD: nothing listed says it (id null). UPDATE: memory `id` changes; "
    "text is its new wording. DELETE: memory `id` is no longer true and nothing takes its place (text null). NONE: "
    "memory `id` says it already, or (id null) there is nothing to change (text null).",
    "generate": "Give the answer alone, without a sentence around it.",
}


class OpenAITeacher:
    """Any OpenAI-compatible endpoint. Its instructions are longer than a student's; the requests are the same."""

    def __init__(
        self, model: str, *, base_url: str | None = None, api_key: str | None = None, chat: ChatModel | None = None
    ) -> None:
        """As ``lamina.llm.openai.OpenAIChat``; ``chat`` replaces it by any other chat model."""
        self._chat: ChatModel = chat or OpenAIChat(model, base_url=base_url, api_key=api_key)
        self.name = self._chat.name

    def extract(self, exchange: Exchange) -> tuple[str, ...]:
        """Raises ``LLMError``."""
        return tuple(self._chat.chat(_guided(exchange, "extract"), schema=Facts).facts)

    def update(self, revision: Revision) -> tuple[MemoryOp, ...]:
        """Raises ``LLMError``, also for a memory that was not shown."""
        said = self._chat.chat(_guided(revision, "update"), schema=_Changes)
        try:
            output = read(revision, json.dumps([change.model_dump() for change in said.changes]))
        except ValueError as error:
            raise LLMError(f"{self.name} gave operations that cannot be executed: {error}") from error
        return tuple(item for item in output if isinstance(item, MemoryOp))

    def generate(self, inquiry: Inquiry) -> str:
        """Raises ``LLMError``."""
        return self._chat.chat(_guided(inquiry, "generate"))


def _guided(request: Exchange | Revision | Inquiry, op: str) -> list[Any]:
    first, *rest = messages(request)
    return [{**first, "content": f"{first['content']}\n{_GUIDE[op]}"}, *rest]


class RuleTeacher:
    """Lamina's deterministic extractor and updater, and a reader that gives the words a memory adds to a question."""

    name = "rules"

    def __init__(self) -> None:
        self._extractor = RulesExtractor()
        self._updater = RulesUpdater()

    def extract(self, exchange: Exchange) -> tuple[str, ...]:
        """What the rules read in the lines that were said, the context only before them."""
        lines = [*exchange.context, *exchange.said]
        turns = [_turn(speaker, text, place) for place, (speaker, text) in enumerate(lines)]
        first = len(exchange.context)
        return tuple(
            fact.text
            for place in range(first, len(turns))
            for fact in self._extractor.extract(turns[place], turns[:place])
        )

    def update(self, revision: Revision) -> tuple[MemoryOp, ...]:
        """Each fact against the memories shown, as they stand before any of the facts."""
        cubes = [self._cube(text, place) for place, text in enumerate(revision.memories)]
        return tuple(self._decided(self._fact(text), cubes) for text in revision.facts)

    def generate(self, inquiry: Inquiry) -> str:
        """From the memory that shares most with the question, the words the question does not have."""
        asked = set(terms(inquiry.question))
        best, shared = "", 1  # one word in common is usually the name alone
        for memory in inquiry.memories:
            common = len(asked & set(terms(memory.text)))
            if common > shared:
                best, shared = memory.text, common
        words = re.findall(r"[\w'’-]+", best)
        new = [place for place, word in enumerate(words) if terms(word) and not asked & set(terms(word))]
        return " ".join(words[new[0] : new[-1] + 1]) if new else NOT_MENTIONED

    def _decided(self, fact: Fact, cubes: Sequence[MemCube]) -> MemoryOp:
        moment = _EPOCH.replace(year=_EPOCH.year + 1)
        operation: Operation = self._updater.decide(fact, moment, cubes, [(cube, 0.0) for cube in cubes])
        ids = [cube.id for cube in cubes]
        place = ids.index(operation.target.id) if operation.target is not None else None
        event = _EVENTS.get(operation.kind, "UPDATE")
        if event == "ADD":
            return MemoryOp("ADD", None, fact.text)
        return MemoryOp(event, place, operation.fact.text if event == "UPDATE" else None)

    def _fact(self, text: str) -> Fact:
        turn = _turn(text.split(" ")[0].removesuffix("'s"), text, 0)
        read = self._extractor.extract(turn)
        if len(read) == 1:
            return replace(read[0], text=text)
        return Fact(text=text, start=0, end=len(text), semantic_type="fact", claim=Claim(turn.speaker))

    def _cube(self, text: str, place: int) -> MemCube:
        fact = self._fact(text)
        told = _EPOCH.replace(minute=place % 60)
        header = Header(
            claim=fact.claim, entities=fact.entities, valid_from=fact.valid_from, recorded=told, created=told
        )
        return MemCube(header, TextPayload(text))


def _turn(speaker: str, text: str, place: int) -> Turn:
    role = "assistant" if speaker.casefold() == "assistant" else "user"
    return Turn(text, speaker, role, _EPOCH, "traces", place, named=role == "user")
